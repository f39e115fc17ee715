"""The files that a layer should have, computed in memory from its tar and its parent's tree.

The rules are those of `layerstore_core.unpack.unpacker`, but no file is made. Only the files that the layer itself
adds, changes or deletes are kept in memory. All other files are as the parent has them.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from layerstore_core.base.paths import clean_name, leaves_root
from layerstore_core.errors import LayerStoreError
from layerstore_core.tar.entry import NO_XATTRS, EntryType, TarEntry
from layerstore_core.tar.layer_stream import LayerStream
from layerstore_core.tar.run import entry_of
from layerstore_core.tar.whiteouts import AUFS_LINKS, NameKind, classify, whiteout_target
from layerstore_core.tarsplit.sources import Sources
from layerstore_core.unpack.create import mtime_to_set

#: How many links are followed for one name before they are taken for a loop: the kernel's limit.
_MAX_LINKS: Final = 40
_KINDS: Final = {
    EntryType.FILE: stat.S_IFREG,
    EntryType.DIR: stat.S_IFDIR,
    EntryType.SYMLINK: stat.S_IFLNK,
    EntryType.CHAR: stat.S_IFCHR,
    EntryType.BLOCK: stat.S_IFBLK,
    EntryType.FIFO: stat.S_IFIFO,
}

#: The children of a file that is no directory. All such files share it, so it must stay empty.
_NO_CHILDREN: Final[dict[bytes, ExpectedFile | None]] = {}


class LayerEntry(NamedTuple):
    """An entry of a layer's tar, with the digest of its payload.

    Attributes:
        entry: the entry.
        digest: for a regular file without `source`, the sha256 of its payload as the tar stores it; otherwise empty.
        source: device, inode and time of change (ns) of the file that the payload has just been read from; `None`: not
            known. As long as the layer's file is that one, unchanged, its content is the payload. If it is not, raise
            `SourceChanged`: the tar is read again then, for its digests.
    """

    entry: TarEntry
    digest: bytes
    source: tuple[int, int, int] | None = None


def read_entries(diff: LayerStream, sources: Sources | None = None) -> Iterator[LayerEntry]:
    """Read the entries of a tar, and compute the digests of the payloads of which no source is known.

    Args:
        diff: the tar.
        sources: the files that its payloads came from; `None`: not known.

    Raises:
        InvalidLayer: the tar is malformed or cut off.
    """
    for item in diff.entries_and_runs():
        if isinstance(item, TarEntry):
            yield LayerEntry(item, _digest(diff.payload()) if item.type is EntryType.FILE else b"")
            continue
        for index in range(len(item)):
            entry = entry_of(item, index)
            if entry.type is not EntryType.FILE:
                yield LayerEntry(entry, b"")
                continue
            source = sources.at(item.entry(index)[-1]) if sources is not None and entry.size else None
            yield LayerEntry(entry, b"" if source else _digest([item.payload(index)]), source)


def _digest(payload: Iterable[memoryview]) -> bytes:
    sha256 = hashlib.sha256()
    for chunk in payload:
        sha256.update(chunk)
    return sha256.digest()


class SourceChanged(LayerStoreError):
    """A file of the layer is not the one that its payload was read from."""


class ParentFile(NamedTuple):
    """A file of the parent's tree, of any type.

    Attributes:
        status: its status.
        target: for a symbolic link: the path it points to.
    """

    status: os.stat_result
    target: bytes = b""


class ParentTree(Protocol):
    """The tree of the layer's parent."""

    def find(self, path: bytes) -> ParentFile | None:
        """Return what is at the relative path `path`, or `None`. No symbolic link on the way is followed."""


class EntryMetadata(NamedTuple):
    """The metadata of an entry: permission bits, user and group IDs as in the layer, time in nanoseconds."""

    mode: int
    uid: int
    gid: int
    mtime_ns: int


@dataclass(slots=True, eq=False)
class ExpectedFile:
    """A file that the layer adds or changes, of any type, or a directory on the way to one.

    Hard links of one file share one object.

    Attributes:
        kind: its type, as `stat.S_IFMT` returns it.
        metas: the sets of metadata that are right for it. Empty: no entry describes it, as for directories that are
            only implied.
        xattrs: its extended attributes.
        target: for a symbolic link: the path it points to.
        device: for a device: its numbers, as `os.makedev` returns them.
        size: for a regular file: its size in bytes.
        digest: for a regular file: see `LayerEntry.digest`.
        source: see `LayerEntry.source`.
        sparse: for a sparse file: its data regions, as offset and length in bytes.
        children: for a directory: the files that the layer adds in it, and `None` for each that the layer deletes.
        merged: for a directory: the parent's files in it show, too.
        touched: for a directory: the layer has an entry for it, or for something in it. An opaque whiteout keeps it.
        names: how many names the layer gives to this file.
        linked: the status of the parent's file, if the layer adds hard links to it.
        linked_path: the path of that file in the parent's tree.
    """

    kind: int
    metas: tuple[EntryMetadata, ...] = ()
    xattrs: Mapping[bytes, bytes] = field(default_factory=lambda: NO_XATTRS)
    target: bytes = b""
    device: int = 0
    size: int = 0
    digest: bytes = b""
    source: tuple[int, int, int] | None = None
    sparse: list[tuple[int, int]] | None = None
    children: dict[bytes, ExpectedFile | None] = field(default_factory=dict)
    merged: bool = False
    touched: bool = False
    names: int = 1
    linked: os.stat_result | None = None
    linked_path: bytes = b""


@dataclass(slots=True)
class _Place:
    """A directory on the way to a path: its own path, and its expected file, or `None` if only the parent has it."""

    path: bytes
    file: ExpectedFile | None


class ExpectedTree:
    """The files that a layer adds, changes and deletes.

    Args:
        entries: the layer's tar.
        parent: the parent's tree; `None` for a base layer.

    Attributes:
        root: the root directory.
        linked: the parent's files to which the layer adds hard links, by device and inode.
        missing: the hard links whose targets do not exist: the path of each, and its target.
    """

    def __init__(self, entries: Iterable[LayerEntry], parent: ParentTree | None) -> None:
        self._parent = parent
        self.root = ExpectedFile(stat.S_IFDIR, merged=True)
        self.linked: dict[tuple[int, int], ExpectedFile] = {}
        self.missing: list[tuple[bytes, bytes]] = []
        self._aufs = ExpectedFile(stat.S_IFDIR)
        # The directory of the last entry. Most entries are in the same directory as the entry before.
        #: The directory's name in the tar; `None`: look it up again.
        self._entered: bytes | None = None
        self._entered_file = self.root
        #: The directory's path with symbolic links resolved.
        self._path = b""
        for item in entries:
            self._add(item)

    def deletes(self, path: bytes) -> bool:
        """Return whether the layer deletes, hides or replaces the parent's file at `path`."""
        file = self.root
        for part in path.split(b"/"):
            child = file.children.get(part, file)
            if child is file:
                return not file.merged
            if child is None or child.kind != stat.S_IFDIR:
                return True
            file = child
        return False

    def _add(self, item: LayerEntry) -> None:
        entry = item.entry
        if entry.type in (EntryType.GLOBAL, EntryType.VOLUME):
            return
        name = entry.path
        if leaves_root(name):
            return
        kind = classify(name)
        if kind is NameKind.PLAIN and not entry.is_whiteout_device:
            self._add_file(item, name)
        elif kind is NameKind.PLAIN or kind is NameKind.WHITEOUT:
            deleted = whiteout_target(name) if kind is NameKind.WHITEOUT else name
            if deleted:
                place, base = self._directory_of(deleted)
                self._set_child(place, base, None)
        elif kind is NameKind.OPAQUE:
            self._hide_all(name.rpartition(b"/")[0])
        elif kind is NameKind.AUFS_LINK and entry.type is EntryType.FILE:
            self._aufs.children[name.rpartition(b"/")[2]] = _file_of(item)

    def _add_file(self, item: LayerEntry, name: bytes) -> None:
        entry = item.entry
        if not name:
            if entry.type is EntryType.DIR:
                # Not all unpackers take an empty name for the root.
                _apply_metadata(self.root, entry, keep=not entry.name)
            return
        place, base = self._directory_of(name)
        if entry.type is EntryType.HARDLINK:
            self._link(entry, name, place, base)
        elif entry.type is EntryType.DIR:
            file = self._existing(place, self._path, base)
            if file is None or file.kind != stat.S_IFDIR:
                file = ExpectedFile(stat.S_IFDIR)
            self._set_child(place, base, file)
            file.touched = True
            _apply_metadata(file, entry)
        else:
            self._set_child(place, base, _file_of(item))

    def _link(self, entry: TarEntry, name: bytes, place: ExpectedFile, base: bytes) -> None:
        here = _join(self._path, base)
        target = clean_name(entry.linkname)
        parent, _, source_base = target.rpartition(b"/")
        file: ExpectedFile | None = None
        if target.startswith(AUFS_LINKS + b"/") and self._aufs.children:
            file = self._aufs.children.get(source_base)
        else:
            way = self._walk(parent)
            if way is not None:
                source = way[-1]
                if _join(source.path, source_base) == here:
                    return  # a link to itself is there already
                file = self._link_source(source, source_base)
        if file is None or file.kind == stat.S_IFDIR:
            self.missing.append((name, entry.linkname))
            return
        file.names += 1
        self._set_child(place, base, file)
        if file.kind != stat.S_IFLNK:
            _apply_metadata(file, entry, keep=True)

    def _link_source(self, place: _Place, base: bytes) -> ExpectedFile | None:
        """Return the file that a hard link points to: the layer's own, or the parent's."""
        if place.file is not None and (base in place.file.children or not place.file.merged):
            return place.file.children.get(base)
        path = _join(place.path, base)
        found = self._parent.find(path) if self._parent else None
        if found is None or stat.S_ISDIR(found.status.st_mode):
            return None
        status = found.status
        return self.linked.setdefault(
            (status.st_dev, status.st_ino),
            ExpectedFile(stat.S_IFMT(status.st_mode), target=found.target, linked=status, linked_path=path),
        )

    def _hide_all(self, path: bytes) -> None:
        """Apply an opaque whiteout: delete everything in a directory that this layer has not added."""
        way = self._walk(path, make=True)
        if way is None:
            return  # the layer itself has a file there, which hides the parent's directory
        self._entered = None
        pending = [way[-1].file]
        while pending:
            here = pending.pop()
            assert here is not None
            here.merged = False
            here.children = {
                name: child
                for name, child in here.children.items()
                if child is not None and (child.kind != stat.S_IFDIR or child.touched)
            }
            pending += [child for child in here.children.values() if child is not None and child.kind == stat.S_IFDIR]

    def _directory_of(self, name: bytes) -> tuple[ExpectedFile, bytes]:
        """Return the directory of an entry, and the last component of the entry's name.

        Missing directories are added. `_path` is set to the directory's path with symbolic links resolved.
        """
        parent, _, base = name.rpartition(b"/")
        if parent == self._entered:
            return self._entered_file, base
        way = self._walk(parent, make=True) or self._walk(parent, make=True, replace=True)
        assert way is not None
        for place in way:
            assert place.file is not None
            place.file.touched = True
            self._entered_file = place.file
        self._entered, self._path = parent, way[-1].path
        return self._entered_file, base

    def _set_child(self, place: ExpectedFile, base: bytes, file: ExpectedFile | None) -> None:
        if base in place.children:
            self._entered = None  # a link or directory on the way may have been replaced
        place.children[base] = file

    def _walk(self, path: bytes, *, make: bool = False, replace: bool = False) -> list[_Place] | None:
        """Go down to a directory, and follow symbolic links on the way.

        Args:
            path: the cleaned path from the tar.
            make: add the directories that are missing, also in the place of a parent's file.
            replace: add them in the place of the layer's own file, too.

        Returns:
            The directories on the way, the root first; `None` if there is no such directory.
        """
        way = [_Place(b"", self.root)]
        parts = path.split(b"/")[::-1]
        links = 0
        while parts:
            part = parts.pop()
            if part in (b"", b"."):
                continue
            if part == b"..":
                del way[max(1, len(way) - 1) :]
                continue
            here = way[-1]
            there = _join(here.path, part)
            child, found = self._find(here, part)
            if child is None and found is not None:
                if stat.S_ISLNK(found.status.st_mode):
                    child = ExpectedFile(stat.S_IFLNK, target=found.target)
                elif stat.S_ISDIR(found.status.st_mode) and not make:
                    way.append(_Place(there, None))
                    continue
                else:
                    child = ExpectedFile(stat.S_IFMT(found.status.st_mode), merged=True)
                    if child.kind == stat.S_IFDIR:
                        assert here.file is not None
                        here.file.children[part] = child
            if child is not None and child.kind == stat.S_IFLNK and links < _MAX_LINKS:
                links += 1
                if child.target.startswith(b"/"):
                    way = way[:1]
                parts += child.target.split(b"/")[::-1]
                continue
            if child is None or child.kind != stat.S_IFDIR:
                if not make or (child is not None and found is None and not replace):
                    return None
                assert here.file is not None
                child = here.file.children[part] = ExpectedFile(stat.S_IFDIR, touched=child is not None)
            way.append(_Place(there, child))
        return way

    def _find(self, place: _Place, base: bytes) -> tuple[ExpectedFile | None, ParentFile | None]:
        """Return what a directory has at a name: a file of this layer, or else one of the parent."""
        if place.file is not None and (base in place.file.children or not place.file.merged):
            return place.file.children.get(base), None
        return None, self._parent.find(_join(place.path, base)) if self._parent else None

    def _existing(self, place: ExpectedFile, path: bytes, base: bytes) -> ExpectedFile | None:
        """Return the file that an entry for a directory finds at its name. A parent's directory is merged."""
        file, found = self._find(_Place(path, place), base)
        if file is None and found is not None and stat.S_ISDIR(found.status.st_mode):
            return ExpectedFile(stat.S_IFDIR, merged=True)
        return file


def _file_of(item: LayerEntry) -> ExpectedFile:
    entry = item.entry
    is_device = entry.type in (EntryType.CHAR, EntryType.BLOCK)
    file = ExpectedFile(
        _KINDS[entry.type],
        children=_NO_CHILDREN,
        target=entry.linkname,
        device=os.makedev(entry.devmajor, entry.devminor) if is_device else 0,
        size=entry.size,
        digest=item.digest,
        source=item.source,
        sparse=entry.sparse,
    )
    _apply_metadata(file, entry)
    return file


def _apply_metadata(file: ExpectedFile, entry: TarEntry, *, keep: bool = False) -> None:
    """Give a file the metadata of an entry; with `keep`, the metadata that it had stays right as well."""
    meta = EntryMetadata(entry.mode, entry.uid, entry.gid, mtime_to_set(entry))
    if not keep:
        file.metas, file.xattrs = (meta,), entry.xattrs
        return
    if meta not in file.metas:
        file.metas = (*file.metas, meta)
    if entry.xattrs:
        file.xattrs = {**file.xattrs, **entry.xattrs}


def _join(directory: bytes, base: bytes) -> bytes:
    return directory + b"/" + base if directory else base
