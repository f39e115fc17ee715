"""Building a layer's tar from files, directories, links, deletions and tars: sorted, and the same bytes each time."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, Self

from layerstore_core.base.limits import Limits
from layerstore_core.base.paths import clean_name, leaves_root
from layerstore_core.errors import InvalidLayer, InvalidSource
from layerstore_core.images.layer.content import Content, GivenBytes, SourceFile
from layerstore_core.images.layer.difference import item_of
from layerstore_core.images.layer.places import Item, Places
from layerstore_core.images.layer.tar import open_tar
from layerstore_core.images.layer.tar_source import TarSource
from layerstore_core.images.layer.tree_source import owner_in_layer, read_tree
from layerstore_core.tar.entry import NO_XATTRS, EntryType, TarEntry
from layerstore_core.tar.scanner import MAX_META
from layerstore_core.tar.whiteouts import WHITEOUT_PREFIX, NameKind, classify, whiteout_target

if TYPE_CHECKING:
    from layerstore_core.view.tree import TreeView

_WHITEOUT_MODE: Final = 0o600
_MAKES_NOTHING: Final = (EntryType.GLOBAL, EntryType.VOLUME)


class LayerBuilder:
    """A layer that is being built. `open` gives its tar, which `LayerStore.register` takes.

    Names are paths in the image, with or without a slash at the start. A name that is added again replaces what it was;
    directories are merged. Parent directories need not be added: with `base`, they are in the tar as the image has
    them, and those that are missing are made. A content that is given as bytes is kept in memory. A file is read when
    the tar is read, and must not change until then.

    The tar is sorted by path, and has no names of users; the same input gives the same bytes. A file from a path keeps
    its mode and its time. What is made here has the time 0, 1970. Owners are 0:0, except those of tars and with
    `keep_owners`. The arguments `owner`, `mode` and `mtime_ns` of the class override all that, and those of a method
    override them. Parent directories that are made have the mode 0o755 in any case.

    Args:
        owner: user ID and group ID of everything.
        mode: permission bits of everything but symbolic links.
        mtime_ns: time of everything, in nanoseconds since 1970.
        base: the tree of the image that the layer is for. With it, names follow the symbolic links of the image, and
            hard links to its files are possible. It has to stay open until the layer's tar is read.
        spool_dir: where a compressed tar is unpacked to, in a file without a name. [default: the system's]
        limits: how much of a tar is accepted; `None` for any size.

    Use it in a `with` statement, or close it: it keeps the tars open that were added.
    """

    def __init__(
        self,
        *,
        owner: tuple[int, int] | None = None,
        mode: int | None = None,
        mtime_ns: int | None = None,
        base: TreeView | None = None,
        spool_dir: str | os.PathLike[str] | None = None,
        limits: Limits | None = None,
    ) -> None:
        _check(owner, mode)
        self._owner = owner
        self._mode = mode
        self._mtime_ns = mtime_ns
        self._base = base
        uid, gid = owner or (0, 0)
        made = TarEntry(b"", EntryType.DIR, 0o755, uid, gid, mtime_ns=mtime_ns or 0)
        self._places = Places(base, made=made)
        self._spool_dir = Path(spool_dir if spool_dir is not None else tempfile.gettempdir())
        self._limits = limits
        self._tars = ExitStack()

    def add_file(
        self,
        path: str | bytes | os.PathLike[str],
        source: bytes | str | os.PathLike[str],
        *,
        owner: tuple[int, int] | None = None,
        mode: int | None = None,
        mtime_ns: int | None = None,
        xattrs: Mapping[bytes, bytes] = NO_XATTRS,
    ) -> None:
        """Add a regular file.

        Args:
            path: its path in the image.
            source: its content as bytes, or the path of a file. A symbolic link is followed.
            owner: user ID and group ID.
            mode: permission bits; without any, those of the file, or 0o644 for bytes.
            mtime_ns: time, in nanoseconds since 1970.
            xattrs: extended attributes by their full names.

        Raises:
            InvalidSource: `path` cannot be used, or `source` is no regular file.
            OSError: the file does not exist or cannot be read.
        """
        if isinstance(source, bytes):
            entry = TarEntry(b"", EntryType.FILE, xattrs=xattrs)
            self._put(path, entry, GivenBytes(source), (owner, mode, mtime_ns))
            return
        name = os.fspath(source)
        status = os.stat(name)
        if not stat.S_ISREG(status.st_mode):
            raise InvalidSource(f"{name} is no regular file; add a directory with add_tree")
        if not os.access(name, os.R_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), name)
        entry = TarEntry(b"", EntryType.FILE, stat.S_IMODE(status.st_mode), mtime_ns=status.st_mtime_ns, xattrs=xattrs)
        self._put(path, entry, SourceFile(name, status), (owner, mode, mtime_ns))

    def add_directory(
        self,
        path: str | bytes | os.PathLike[str],
        *,
        owner: tuple[int, int] | None = None,
        mode: int | None = None,
        mtime_ns: int | None = None,
        xattrs: Mapping[bytes, bytes] = NO_XATTRS,
        opaque: bool = False,
    ) -> None:
        """Add a directory, or change the metadata of one that the image has. `/` is the root itself.

        Args:
            path: its path in the image.
            owner: user ID and group ID.
            mode: permission bits; without any, 0o755.
            mtime_ns: time, in nanoseconds since 1970.
            xattrs: extended attributes by their full names.
            opaque: whether it hides what the image has in it.

        Raises:
            InvalidSource: `path` cannot be used.
        """
        entry = TarEntry(b"", EntryType.DIR, mode=0o755, xattrs=xattrs)
        where = self._put(path, entry, None, (owner, mode, mtime_ns))
        if opaque:
            self._places.clear(where)

    def add_symlink(
        self,
        path: str | bytes | os.PathLike[str],
        target: str | bytes | os.PathLike[str],
        *,
        owner: tuple[int, int] | None = None,
        mtime_ns: int | None = None,
    ) -> None:
        """Add a symbolic link to `target`, which is kept as it is; errors as of `add_directory`."""
        linkname = os.fsencode(target)
        if not linkname or b"\0" in linkname:
            raise InvalidSource(f"a symbolic link to {os.fsdecode(linkname)!r} is not possible")
        entry = TarEntry(b"", EntryType.SYMLINK, mode=0o777, linkname=linkname)
        self._put(path, entry, None, (owner, None, mtime_ns))

    def add_hard_link(self, path: str | bytes | os.PathLike[str], target: str | bytes | os.PathLike[str]) -> None:
        """Add another name of a file, which the layer or the image has; errors as of `add_directory`.

        A file that only the image has is put into the layer, under all its names: programs that keep the files of each
        layer apart could not load a layer that links to it. For that, the class needs the `base`.

        Raises:
            InvalidSource: there is no such file, or it is a directory, or only a `base` could tell.
        """
        self._link(self._resolve(path), os.fsencode(target))

    def add_whiteout(self, path: str | bytes | os.PathLike[str]) -> None:
        """Delete what the image has at a path, with all that is below it; errors as of `add_directory`."""
        where = self._resolve(path)
        if not where:
            raise InvalidSource("the root of the image cannot be deleted; delete what is in it")
        self._places.delete(where)

    def add_tree(
        self,
        path: str | bytes | os.PathLike[str],
        source: str | os.PathLike[str],
        *,
        keep_owners: bool = False,
        forbidden: Mapping[tuple[int, int], str] | None = None,
    ) -> None:
        """Add what is in a directory, with all below it: into the directory `path` of the image.

        Symbolic links are kept, not followed; several names of a file, extended attributes, fifos and devices are kept.
        Sockets are left out, with a warning. A directory that the image or the layer has already keeps its metadata;
        `base` tells what the image has. `path` itself gets the metadata of `source`, if it is new and not the root.

        Args:
            path: a path in the image.
            source: the directory.
            keep_owners: whether files keep their owners; those of an ordinary user who runs this become root's.
                Otherwise they are 0:0, or the `owner` of the class.
            forbidden: directories that must not be in the tree: for each device and inode, why.

        Raises:
            InvalidSource: `path` or a name in the tree cannot be used: one that begins with `.wh.` would be a deletion.
            OSError: something cannot be read.
        """
        top = os.fsencode(path)
        for name, item, first in read_tree(os.fspath(source), forbidden):
            where = self._resolve(top + b"/" + name)
            if first is not None:
                self._link(where, top + b"/" + first)
                continue
            if item.entry.type is EntryType.DIR:
                target = self._places.resolve(where, last=True)
                if not target or self._places.is_directory(target):
                    continue
            owner = owner_in_layer(item.entry.uid, item.entry.gid) if keep_owners else (0, 0)
            item.entry.uid, item.entry.gid = owner
            self._set(item.entry, (None, None, None))
            self._places.put(where, item)

    def add_tar(self, path: str | bytes | os.PathLike[str], source: BinaryIO | str | os.PathLike[str]) -> None:
        """Add the entries of a tar, compressed or not, below the directory `path` of the image, with their owners.

        Whiteouts in it delete, as in a layer.

        Raises:
            InvalidSource: `path` cannot be used, or a name in the tar leaves the root.
            InvalidLayer: it is no tar, is damaged, or larger than allowed.
            OSError: it cannot be read.
        """
        tar = TarSource(source, spool_dir=self._spool_dir, limits=self._limits)
        self._tars.callback(tar.close)
        top = os.fsencode(path)
        for entry, content in tar.entries():
            try:
                self._add_entry(top, entry, content)
            except (InvalidSource, InvalidLayer) as error:
                reason = error.reason if isinstance(error, InvalidLayer) else str(error)
                raise InvalidSource(f"{tar.name}: entry {os.fsdecode(entry.name)!r}: {reason}") from None

    def open(self, image: TreeView | None = None) -> BinaryIO:
        """Open the tar of the layer, as a readable file. It can seek; what is read again is made again.

        Args:
            image: the tree of the image that the layer is for, if the class was not given it: directories above the
                names of the layer are in the tar as the image has them.

        Raises:
            OSError: from a read: a file cannot be read, or was changed since it was added (`ESTALE`).
        """
        return open_tar(self._places, mtime_ns=self._mtime_ns or 0, image=image)

    def close(self) -> None:
        """Close the tars that were added. After that, `open` cannot read them any more."""
        self._tars.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __len__(self) -> int:
        """Return the number of entries."""
        return len(self._places.items) + len(self._places.whiteouts) + len(self._places.opaque)

    def is_directory(self, path: str | bytes | os.PathLike[str]) -> bool:
        """Return whether the layer or the image has a directory at a path, or a link to one."""
        return self._places.is_directory(self._places.resolve(os.fsencode(path), last=True))

    # Internal

    def _add_entry(self, top: bytes, entry: TarEntry, content: Content | None) -> None:
        if entry.type in _MAKES_NOTHING:
            return
        name = entry.path
        kind = classify(name)
        if b".." in name.split(b"/"):
            raise InvalidSource("it leaves the root")
        if kind is NameKind.WHITEOUT:
            self.add_whiteout(top + b"/" + whiteout_target(name))
            return
        if kind is NameKind.OPAQUE:
            self._places.clear(self._places.resolve(top + b"/" + name.rpartition(b"/")[0], last=True))
            return
        if kind is not NameKind.PLAIN or entry.is_whiteout_device:
            raise InvalidSource("it has a meaning of its own in a layer, and cannot be added as a file")
        if not name and entry.type is not EntryType.DIR:
            return
        where = self._resolve(top + b"/" + name)
        if entry.type is EntryType.HARDLINK:
            target = clean_name(entry.linkname)
            if not target or leaves_root(target):
                raise InvalidSource(f"a hard link to {os.fsdecode(entry.linkname)!r}, which is not in the tar")
            self._link(where, top + b"/" + target, entry)
            return
        if entry.type is EntryType.DIR:
            target = self._places.resolve(where, last=True)
            if self._places.is_directory(target):
                where = target  # a link to a directory stays
        self._set(entry, (None, None, None))
        entry.sparse = None
        self._places.put(where, Item(entry, content))

    def _resolve(self, path: str | bytes | os.PathLike[str]) -> bytes:
        where = self._places.resolve(os.fsencode(path))
        if any(part.startswith(WHITEOUT_PREFIX) for part in where.split(b"/")):
            raise InvalidSource(
                f"{os.fsdecode(where)!r} begins with {WHITEOUT_PREFIX.decode()}, which means a deletion in a layer; "
                "use another name"
            )
        return where

    def _put(
        self,
        path: str | bytes | os.PathLike[str],
        entry: TarEntry,
        content: Content | None,
        given: tuple[tuple[int, int] | None, int | None, int | None],
    ) -> bytes:
        _check(given[0], given[1])
        where = self._resolve(path)
        if not where and entry.type is not EntryType.DIR:
            raise InvalidSource("the root of the image is a directory; give a name below it")
        self._set(entry, given)
        self._places.put(where, Item(entry, content))
        return where

    def _set(self, entry: TarEntry, given: tuple[tuple[int, int] | None, int | None, int | None]) -> None:
        """Set the metadata that the caller or the builder overrides."""
        owner, mode, mtime_ns = given
        owner = self._owner if owner is None else owner
        mode = self._mode if mode is None else mode
        mtime_ns = self._mtime_ns if mtime_ns is None else mtime_ns
        if owner is not None:
            entry.uid, entry.gid = owner
        if mode is not None and entry.type is not EntryType.SYMLINK:
            entry.mode = mode
        if mtime_ns is not None:
            entry.mtime_ns = mtime_ns
        if sum(len(key) + len(value) + 64 for key, value in entry.xattrs.items()) > MAX_META - 16384:
            raise InvalidSource("its extended attributes do not fit a tar header")

    def _link(self, where: bytes, target: bytes, entry: TarEntry | None = None) -> None:
        """Make `where` another name of the file at `target`."""
        source = self._places.resolve(target)
        if source == where:
            return
        item = self._places.items.get(source)
        found = self._places.find(source)
        if found is None and self._base is None and where and source not in self._places.whiteouts:
            raise InvalidSource(
                f"a hard link to {os.fsdecode(target)!r}, which is not in the layer; if the image has it, "
                "build the layer with base=, so that the layer gets the file, too"
            )
        if found is None or not where or source in self._places.whiteouts:
            raise InvalidSource(f"a hard link to {os.fsdecode(target)!r}, which does not exist")
        if found.type is EntryType.DIR:
            raise InvalidSource(f"a hard link to {os.fsdecode(target)!r}, which is a directory")
        if item is None:
            item = self._take(source)
            if entry is not None:
                item.entry.xattrs = {**item.entry.xattrs, **entry.xattrs}
        if entry is not None and item.entry.type is not EntryType.SYMLINK:
            # As it is unpacked: the metadata of the last entry of a file counts.
            item.entry.mode, item.entry.uid, item.entry.gid = entry.mode, entry.uid, entry.gid
            item.entry.mtime_ns = entry.mtime_ns
            self._set(item.entry, (None, None, None))
        self._places.put(where, item)

    def _take(self, path: bytes) -> Item:
        """Put a file of the image into the layer, with all names that it has there; return it.

        A program that keeps the files of each layer apart does not have a file of another layer to link to.
        """
        assert self._base is not None  # else nothing is found that the layer does not have
        node = self._base.find(path, follow=False)[1]
        item = item_of(node, self._base)
        for name in {path, *self._base.names_of(node)}:
            if self._places.find(name) is node:  # not deleted or replaced
                self._places.put(name, item)
        return item


def _check(owner: tuple[int, int] | None, mode: int | None) -> None:
    """Check arguments.

    Raises:
        ValueError: they cannot be in a tar.
    """
    if owner is not None and [0 <= number < 1 << 32 for number in owner] != [True, True]:
        raise ValueError(f"an owner is a user ID and a group ID, not {owner!r}")
    if mode is not None and not 0 <= mode <= 0o7777:
        raise ValueError(f"a mode is a number of permission bits, 0o7777 at most, not {mode!r}")
