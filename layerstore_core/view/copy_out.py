"""Copies of a view's files on the host, with metadata and hard links, as `cp -a` makes them.

A copy is made in a directory of its own next to the target, and gets its name last. No name of the view leads out of
it: a copy has no symbolic link on the way to any of its files but those that the user has given.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from layerstore_core.base.replace_file import is_stream, naming, replacing
from layerstore_core.rootless.rights import acts_for_root
from layerstore_core.tar.encode import END_OF_ARCHIVE, encode_header, padding
from layerstore_core.tar.entry import EntryType, TarEntry
from layerstore_core.tree.copy import copy_metadata
from layerstore_core.tree.idmap import IDMapping
from layerstore_core.tree.remove import remove_tree
from layerstore_core.tree.root import Root
from layerstore_core.unpack.create import Creator
from layerstore_core.view.nodes import Node
from layerstore_core.view.tree import TreeView

_FILE = EntryType.FILE
_DIR = EntryType.DIR
#: The name of a copy until it is complete.
_COPY = b"copy"


@dataclass(frozen=True, slots=True)
class Copied:
    """What was copied.

    Attributes:
        target: the path of the copy.
        files: how many files of any type.
        bytes: the sizes of all regular files together.
    """

    target: str
    files: int
    bytes: int


def copy_to_host(
    view: TreeView, path: bytes, target: str, *, follow: bool = False, keep_owners: bool | None = None
) -> Copied:
    """Copy a file, or a directory with everything below it, to the host.

    If the target is a directory, the copy is made in it, under the file's own name; the root, and a path that ends in
    `/.`, are copied as the target itself. An existing directory gets what is copied in addition to what it has, and a
    file that exists is replaced. Owners are kept only by root.

    Args:
        view: the view.
        path: the file's path in it.
        target: where to copy it to.
        follow: if it is a symbolic link, copy what it leads to.
        keep_owners: give the copy the owners in the view; otherwise all of it belongs to this process's user. `None`:
            if the process acts for root.

    Raises:
        FileNotFoundError, NotADirectoryError, IsADirectoryError, OSError: there is no such file, the target's directory
            is missing, or something is in the way; nothing was copied.
        IntegrityError: the layer is damaged; nothing was copied.
    """
    real, node = view.find(path, follow=follow)
    if is_stream(target) and node.type is _FILE:
        with replacing(target) as stream:
            for chunk in view.chunks(node):
                stream.write(chunk)
        return Copied(target, 1, node.size)
    place = _place(path, real, node, target)
    _check_conflicts(node, place)
    above = place if os.path.isdir(place) else os.path.dirname(os.path.abspath(place))
    if not os.path.isdir(above):
        raise FileNotFoundError(errno.ENOENT, "its directory does not exist; make it first", target)
    # In a user namespace the copy is for the ordinary user, who could not use files of other owners outside of it.
    with naming(target), _staging(above) as staging:
        files, size = _make(view, real, staging, keep_owners=acts_for_root() if keep_owners is None else keep_owners)
        _move(os.path.join(staging, os.fsdecode(_COPY)), place)
    return Copied(place, files, size)


def tar_of(view: TreeView, path: bytes, *, follow: bool = False) -> Iterator[bytes]:
    """Yield a tar of a file, or of a directory with everything below it, under its own name; the root is `./`.

    The entries are sorted by path, and have no names of users. Holes of sparse files are written as zeros.

    Args:
        view: the view.
        path: the file's path in it.
        follow: if it is a symbolic link, write what it leads to.

    Raises:
        FileNotFoundError, NotADirectoryError, OSError: there is no such file.
        IntegrityError: the layer is damaged (while iterating).
    """
    real, _ = view.find(path, follow=follow)
    base = _base(path, real)
    for entry, node in _entries(view, real, base):
        if entry.type is _DIR:
            entry.name = entry.name + b"/" if entry.name else b"./"
        yield encode_header(entry)
        if entry.type is _FILE:
            yield from view.chunks(node)
            yield padding(entry.size)
    yield END_OF_ARCHIVE


def _base(path: bytes, real: bytes) -> bytes:
    """Return the name of a copy: the last component of the path that the user gave; empty for the content alone."""
    last = path.rstrip(b"/").rpartition(b"/")[2]
    return b"" if not real or last == b"." else real.rpartition(b"/")[2] if last in (b"", b"..") else last


def _place(path: bytes, real: bytes, node: Node, target: str) -> str:
    """Return the path of the copy, for a target as the user gave it."""
    base = os.fsdecode(_base(path, real))
    if os.path.isdir(target):
        return os.path.join(target, base) if base else target
    if target.endswith("/") and not node.is_directory:
        raise FileNotFoundError(errno.ENOENT, "there is no such directory to copy a file to; make it first", target)
    return target.rstrip("/") or "/"


def _check_conflicts(node: Node, place: str) -> None:
    """Refuse to replace a directory by another file, or another file by a directory, before anything is written."""
    pending = [(node, place)]
    while pending:
        here, path = pending.pop()
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            continue
        if path == place and here.is_directory and os.path.isdir(path):
            mode = stat.S_IFDIR  # the user may give a link to a directory
        if here.is_directory and not stat.S_ISDIR(mode):
            raise NotADirectoryError(errno.ENOTDIR, "a directory cannot replace what is there; remove it first", path)
        if stat.S_ISDIR(mode) and not here.is_directory:
            raise IsADirectoryError(errno.EISDIR, "a file cannot replace a directory; remove it first", path)
        if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode) or stat.S_IFMT(mode) == stat.S_IFMT(here.st_mode)):
            raise FileExistsError(errno.EEXIST, "a device or a pipe is not replaced; remove it first", path)
        pending += [(child, os.path.join(path, os.fsdecode(name))) for name, child in here.children.items()]


@contextmanager
def _staging(above: str) -> Iterator[str]:
    """Make a directory for a `with` block, which is removed after it."""
    staging = os.path.join(above, f".layerstore-{secrets.token_hex(8)}.part")
    os.mkdir(staging, 0o700)
    try:
        yield staging
    finally:
        remove_tree(staging)


def _entries(view: TreeView, real: bytes, base: bytes) -> Iterator[tuple[TarEntry, Node]]:
    """Yield the entry and the node of each file, the first names of hard-linked files before their other ones."""
    first: dict[int, bytes] = {}
    for path, node in view.walk(real, follow=False):
        rest = path[len(real) :].lstrip(b"/")
        name = base + b"/" + rest if base and rest else base or rest
        entry = TarEntry(
            name,
            node.type,
            node.mode,
            node.uid,
            node.gid,
            node.size if node.type is _FILE else 0,
            node.mtime_ns,
            node.linkname,
            node.devmajor,
            node.devminor,
            node.xattrs,
        )
        if node.linked:
            known = first.setdefault(id(node), name)
            if known is not name:
                entry.type, entry.size, entry.linkname = EntryType.HARDLINK, 0, known
        yield entry, node


def _make(view: TreeView, real: bytes, staging: str, *, keep_owners: bool) -> tuple[int, int]:
    """Make the copy in an empty directory, as `_COPY`; return the number of files, and the sizes of regular ones."""
    files = size = 0
    uid, gid = os.geteuid(), os.getegid()
    with Root(staging, keep_times=True) as tree:
        creator = Creator(tree, IDMapping(), best_effort_xattrs=True)
        for entry, node in _entries(view, real, _COPY):
            files += 1
            if not keep_owners:
                entry.uid, entry.gid = uid, gid
            above, _, name = entry.name.rpartition(b"/")
            directory = tree.enter(above)
            with tree.pinned(directory):
                if entry.type is _FILE:
                    entry.sparse = node.sparse
                    creator.file(entry, map(memoryview, view.payload(node)), directory, name)
                    size += entry.size
                elif entry.type is _DIR:
                    creator.directory(entry, directory, name)
                elif entry.type is EntryType.SYMLINK:
                    creator.symlink(entry, directory, name)
                elif entry.type is EntryType.HARDLINK:
                    source_above, _, source = entry.linkname.rpartition(b"/")
                    if entry.linkname not in creator.skipped:
                        creator.hard_link(entry, tree.enter(source_above), source, directory, name)
                else:
                    creator.special(entry, directory, name)
        creator.report(f"the copy of {os.fsdecode(real) or '/'}")
    return files, size


def _move(source: str, target: str) -> None:
    """Give a finished copy its name; a directory that exists gets the files of the copy, and its metadata."""
    pending = [(source, target)]
    merged = []
    while pending:
        here, place = pending.pop()
        if not os.path.lexists(here):
            continue  # a device that this process may not make
        status = os.lstat(here)
        mode = stat.S_IMODE(status.st_mode)
        if not stat.S_ISDIR(status.st_mode):
            os.rename(here, place)
            continue
        if place != target and os.path.islink(place):
            raise NotADirectoryError(errno.ENOTDIR, "a directory cannot replace a link; remove it first", place)
        # An ordinary user may move a directory and what is in it only if he may write to it.
        os.chmod(here, mode | 0o700)
        if os.path.isdir(place):
            merged.append((here, status, place))
            pending += [(os.path.join(here, name), os.path.join(place, name)) for name in os.listdir(here)]
        else:
            os.rename(here, place)
            os.chmod(place, mode)
    for here, status, place in reversed(merged):
        os.chmod(here, stat.S_IMODE(status.st_mode))
        os.utime(here, ns=(status.st_atime_ns, status.st_mtime_ns))
        copy_metadata(here, os.path.realpath(place))
