"""Packing of a tree, or of the changes in it, into an uncompressed tar.

The same tree gives the same bytes. Entries are sorted by the bytes of their paths, so that a directory comes before its
content. Names do not begin with `./`, and names of directories end with a slash, as in Docker's layers. Names of users
and groups are left empty, as in Docker's.

A socket cannot be packed. A name or a device that would be read as a whiteout must not be packed. These are left out,
and one warning says so. What they have replaced gets a whiteout, so that it does not appear again.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import groupby
from typing import Final

from layerstore_core.base.kernels import engine
from layerstore_core.diff.change import Change, ChangeKind
from layerstore_core.diff.plain_files import AT_ONCE, PlainFiles
from layerstore_core.errors import ConfigError
from layerstore_core.log import logger
from layerstore_core.streams.iterstream import join_small_pieces
from layerstore_core.tar.encode import END_OF_ARCHIVE, encode_header, padding
from layerstore_core.tar.entry import EntryType, TarEntry
from layerstore_core.tar.scanner import MAX_META
from layerstore_core.tar.whiteouts import OPAQUE, WHITEOUT_PREFIX, whiteout_name
from layerstore_core.tree.access_lists import ACCESS, DEFAULT, shift_ids
from layerstore_core.tree.extents import change_stamp, file_content
from layerstore_core.tree.idmap import IDMapping
from layerstore_core.tree.walk import TreeWalk
from layerstore_core.tree.xattrs import read_xattrs

#: Files up to this size, in bytes, are read in one call.
_SMALL: Final = 1 << 17
_WHITEOUT_MODE: Final = 0o600
_UNMAPPED: Final = IDMapping()

SkipXattr = Callable[[bytes], bool]


def pack_tree(
    root: str | os.PathLike[str], *, id_mapping: IDMapping = _UNMAPPED, skip_xattrs: SkipXattr | None = None
) -> Iterator[bytes]:
    """Return the tar of everything below `root`, without the root itself.

    Arguments and errors are those of `pack_changes`. The tar is that of all files as added.
    """
    return join_small_pieces(_pack_tree(root, id_mapping, skip_xattrs))


def pack_changes(
    root: str | os.PathLike[str],
    changes: Iterable[Change],
    *,
    id_mapping: IDMapping = _UNMAPPED,
    opaque: Collection[bytes] = (),
    skip_xattrs: SkipXattr | None = None,
) -> Iterator[bytes]:
    """Return the tar of these changes.

    Args:
        root: the changed tree. It must not be written to meanwhile: a file that has changed since it was found is an
            error.
        changes: each path once, in any order. A deleted path becomes a whiteout.
        id_mapping: shifts the files' owners to the layer's numbers.
        opaque: paths, as in `changes`, of directories that hide the content of the parent layers' directories: these
            get an opaque whiteout.
        skip_xattrs: attributes for whose names it returns true are left out, as overlayfs's own always are.

    Returns:
        The tar in chunks of up to 1 MiB and a little. The iterator has a `close`, which releases its resources.

    Raises:
        FileNotFoundError: a changed file no longer exists.
        OSError: a file cannot be read; with `ESTALE` if it was changed while it was read. The error names it.
        ConfigError: an owner is in none of the mapping's ranges.
    """
    return join_small_pieces(_pack_changes(root, changes, id_mapping, opaque, skip_xattrs))


def _pack_tree(root: str | os.PathLike[str], id_mapping: IDMapping, skip: SkipXattr | None) -> Iterator[bytes]:
    with TreeWalk(root) as tree, _Packer(tree, id_mapping, skip).reporting() as packer:
        pending = [_steps(tree.fd)]
        while pending:
            steps = pending[-1]
            names = {}
            while steps and not steps[-1].endswith(b"/"):
                names[steps.pop()] = False
            yield from packer.pack_all(names)
            if steps:
                tree.down(steps.pop()[:-1])
                pending.append(_steps(tree.fd))
            else:
                pending.pop()
                if pending:
                    tree.up()
    yield END_OF_ARCHIVE


def _steps(fd: int) -> list[bytes]:
    """Return the steps for a directory, the last first: pack a name, or enter a name that ends with a slash.

    These are two steps, since other names can sort between a directory and its content: `a`, `a-b`, `a/c`.
    """
    steps = []
    with os.scandir(fd) as entries:
        for entry in entries:
            name = os.fsencode(entry.name)
            steps.append(name)
            if entry.is_dir(follow_symlinks=False) and not name.startswith(WHITEOUT_PREFIX):
                steps.append(name + b"/")
    steps.sort(reverse=True)
    return steps


def _pack_changes(
    root: str | os.PathLike[str],
    changes: Iterable[Change],
    id_mapping: IDMapping,
    opaque: Collection[bytes],
    skip: SkipXattr | None,
) -> Iterator[bytes]:
    kinds = dict.fromkeys(opaque, ChangeKind.MODIFY)
    kinds.update(changes)
    with TreeWalk(root) as tree, _Packer(tree, id_mapping, skip).reporting() as packer:
        for parent, paths in groupby(sorted(kinds), _parent):
            names: dict[bytes, bool] = {}
            is_below_hidden = _has_whiteout_prefix(parent)
            for path in paths:
                kind, base = kinds[path], path.rstrip(b"/").rpartition(b"/")[2]
                is_hidden = is_below_hidden or base.startswith(WHITEOUT_PREFIX)
                if base and kind is not ChangeKind.DELETE and path not in opaque and not is_hidden:
                    names[base] = kind is ChangeKind.MODIFY
                    continue
                yield from packer.pack_in(parent, names)
                names.clear()
                if kind is ChangeKind.DELETE:
                    yield _empty_file(whiteout_name(path.strip(b"/")))
                elif is_hidden:
                    packer.leave_out(_WHITEOUT_NAMES)
                elif not base:
                    yield from packer.pack_root()
                else:
                    yield from packer.pack_in(parent, {base: kind is ChangeKind.MODIFY})
                if path in opaque and kind is not ChangeKind.DELETE and not is_hidden:
                    yield _empty_file(path.strip(b"/") + b"/" + OPAQUE if base else OPAQUE)
            yield from packer.pack_in(parent, names)
    yield END_OF_ARCHIVE


def _parent(path: bytes) -> bytes:
    """Return the path of the directory that a changed path is in, relative to the root."""
    return path.strip(b"/").rpartition(b"/")[0]


def _has_whiteout_prefix(directory: bytes) -> bool:
    return b"/" + WHITEOUT_PREFIX in directory or directory.startswith(WHITEOUT_PREFIX)


_WHITEOUT_NAMES: Final = "names that begin with .wh., which mean deletions in a layer"
_WHITEOUT_DEVICES: Final = "character devices 0:0, which mean deletions to overlayfs"
_SOCKETS: Final = "sockets"


def _empty_file(name: bytes) -> bytes:
    return encode_header(TarEntry(name, EntryType.FILE, mode=_WHITEOUT_MODE))


class _Packer:
    """Packer of files of a tree, from the current directory of the walk."""

    def __init__(self, tree: TreeWalk, id_mapping: IDMapping, skip: SkipXattr | None) -> None:
        self._tree = tree
        self._id_mapping = id_mapping
        self._skip = skip
        #: The first name in the tar of each hard-linked file, by device and inode.
        self._first_names: dict[tuple[int, int], bytes] = {}
        self._left_out: Counter[str] = Counter()
        kernels = engine().kernels
        #: The kernel does not shift owners.
        self._plain = PlainFiles(kernels) if kernels is not None and not id_mapping else None

    @contextmanager
    def reporting(self) -> Iterator[_Packer]:
        """Log a warning at the end of a `with` block about everything that was left out in it."""
        yield self
        for what, count in self._left_out.items():
            logger.warning("{}: left out {} of its files: {}", os.fsdecode(self._tree.root), count, what)

    def leave_out(self, what: str) -> None:
        """Count a file that is left out, by its kind."""
        self._left_out[what] += 1

    def pack_root(self) -> Iterator[bytes]:
        """Yield the entry of the root itself."""
        status = os.fstat(self._tree.fd)
        yield encode_header(self._entry(b"./", b"", status, EntryType.DIR, self._xattrs(self._tree.fd, b"")))

    def pack_in(self, directory: bytes, names: Mapping[bytes, bool]) -> Iterator[bytes]:
        """Do what `pack_all` does, in another directory, whose path is relative to the root."""
        if names:
            self._tree.enter(directory)
            yield from self.pack_all(names)

    def pack_all(self, names: Mapping[bytes, bool]) -> Iterator[bytes]:
        """Yield the headers and the content of files in the current directory.

        Args:
            names: their names there, in the order of the tar, and whether the parent has a file of each name. If this
                one is left out, the parent's must stay hidden.
        """
        left = list(names.items())
        at = 0
        while at < len(left):
            if self._plain is not None:
                done, data = self._plain.pack(self._tree, [name for name, _ in left[at : at + AT_ONCE]])
                if done:
                    at += done
                    yield data
                    continue
            name, replaces = left[at]
            yield from self._pack(name, replaces=replaces)
            at += 1

    def _pack(self, base: bytes, *, replaces: bool) -> Iterator[bytes]:
        """Yield the header and the content of one file in the current directory, whatever it is."""
        tree = self._tree
        name = tree.join(base)
        if base.startswith(WHITEOUT_PREFIX):
            return self.leave_out(_WHITEOUT_NAMES)
        try:
            status = os.stat(base, dir_fd=tree.fd, follow_symlinks=False)
        except OSError as error:
            error.filename = tree.absolute(base)
            raise
        kind = _TYPES.get(stat.S_IFMT(status.st_mode))
        if kind is None or (kind is EntryType.CHAR and status.st_rdev == 0):
            if replaces:
                yield _empty_file(whiteout_name(name))
            return self.leave_out(_SOCKETS if kind is None else _WHITEOUT_DEVICES)
        if status.st_nlink > 1 and kind is not EntryType.DIR:
            first = self._first_names.setdefault((status.st_dev, status.st_ino), name)
            if first != name:
                entry = self._entry(name, base, status, EntryType.HARDLINK, self._xattrs(tree.handle(base), base))
                entry.linkname = first
                yield encode_header(entry)
                return None
        if kind is EntryType.FILE:
            yield from self._file(base, name, status)
            return None
        entry = self._entry(
            name + b"/" if kind is EntryType.DIR else name, base, status, kind, self._xattrs(tree.handle(base), base)
        )
        if kind is EntryType.SYMLINK:
            entry.linkname = os.readlink(base, dir_fd=tree.fd)
        yield encode_header(entry)
        return None

    def _file(self, base: bytes, name: bytes, status: os.stat_result) -> Iterator[bytes]:
        """Yield the header and the content of a regular file, which must not change meanwhile."""
        fd = self._tree.open_file(base)
        try:
            size = status.st_size
            entry = self._entry(name, base, status, EntryType.FILE, self._xattrs(fd, base))
            entry.size = size
            header = encode_header(entry)
            if size <= _SMALL:
                # One more byte than expected is requested, to see that the file ends here.
                data = os.read(fd, size + 1) if size else b""
                if len(data) != size:
                    self._changed(base)
                yield header + data + padding(size)
            else:
                yield header
                for chunk in file_content(fd, status):
                    if not chunk:
                        self._changed(base)
                    yield chunk
                yield padding(size)
            now = os.fstat(fd)
            if not os.path.samestat(now, status) or change_stamp(now) != change_stamp(status):
                self._changed(base)
        finally:
            os.close(fd)

    def _changed(self, base: bytes) -> None:
        """Raise the error for a file that was changed while it was packed."""
        raise OSError(
            errno.ESTALE,
            "the file was changed while it was packed; pack the tree when nothing writes to it",
            self._tree.absolute(base),
        )

    def _xattrs(self, target: int | bytes, base: bytes) -> dict[bytes, bytes]:
        try:
            xattrs = read_xattrs(target)
        except OSError as error:
            error.filename = self._tree.absolute(base)
            raise
        if not xattrs:
            return xattrs
        if self._id_mapping:
            xattrs.update(self._shifted_access_lists(xattrs, base))
        if self._skip is not None:
            xattrs = {key: value for key, value in xattrs.items() if not self._skip(key)}
        if sum(len(key) + len(value) + 64 for key, value in xattrs.items()) > MAX_META - 16384:
            raise OSError(errno.E2BIG, "its extended attributes do not fit a tar header", self._tree.absolute(base))
        return xattrs

    def _shifted_access_lists(self, xattrs: dict[bytes, bytes], base: bytes) -> dict[bytes, bytes]:
        """Return the access lists among the attributes, with the layer's IDs."""
        try:
            return {
                name: shift_ids(xattrs[name], self._id_mapping, to_host=False)
                for name in (ACCESS, DEFAULT)
                if name in xattrs
            }
        except ValueError as error:
            raise ConfigError(f"{self._tree.absolute(base)}: its access list: {error}") from error

    def _entry(
        self, name: bytes, base: bytes, status: os.stat_result, kind: EntryType, xattrs: dict[bytes, bytes]
    ) -> TarEntry:
        try:
            uid, gid = self._id_mapping.to_container(status.st_uid, status.st_gid)
        except ValueError as error:
            raise ConfigError(f"{self._tree.absolute(base)}: {error}") from error
        entry = TarEntry(name, kind, stat.S_IMODE(status.st_mode), uid, gid, mtime_ns=status.st_mtime_ns, xattrs=xattrs)
        if kind in (EntryType.CHAR, EntryType.BLOCK):
            entry.devmajor, entry.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
        return entry


_TYPES: Final = {
    stat.S_IFREG: EntryType.FILE,
    stat.S_IFDIR: EntryType.DIR,
    stat.S_IFLNK: EntryType.SYMLINK,
    stat.S_IFCHR: EntryType.CHAR,
    stat.S_IFBLK: EntryType.BLOCK,
    stat.S_IFIFO: EntryType.FIFO,
}
