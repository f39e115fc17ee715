"""Metadata that a disk could not keep: remembered from the tars of layers, and given back in diffs.

Who is not root can give files no owner but himself, nor privileged attributes, and gives himself the right to read them
(`unpack.create`); root of a user namespace has few owners to give. A diff that took the disk's word for it would make
everything the caller's. So what a file of the parent had in its tar it has in a diff again, as far as it was not changed
since, and what is new belongs to user and group 0, as with umoci, buildah and podman.

Files are known by their paths, which are those in the tree: names in tars may lead through links.
One that was renamed is new.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from layerstore_core.base.paths import clean_name
from layerstore_core.tar.encode import encode_header, padding
from layerstore_core.tar.entry import EntryType, TarEntry
from layerstore_core.tar.scanner import TarScanner
from layerstore_core.tar.whiteouts import NameKind, classify, whiteout_target
from layerstore_core.tree.idmap import IDMapping
from layerstore_core.tree.root import MAX_LINKS
from layerstore_core.unpack.create import NamespaceIDs, rights_to_read

#: Attributes that only root may set.
_PRIVILEGED: Final = (b"trusted.", b"security.")
#: Those that the kernel keeps when a file is written to.
_LASTING: Final = b"trusted."
_MAKES_NOTHING: Final = (EntryType.GLOBAL, EntryType.VOLUME)


class _Metadata(NamedTuple):
    """What an entry said of a file; of its attributes, the privileged ones."""

    type: EntryType
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    xattrs: dict[bytes, bytes]


@dataclass(slots=True)
class _Node:
    """A path: what its entry said, if the disk may not keep it; the layer that it comes from; where a link points."""

    layer: int
    metadata: _Metadata | None = None
    target: bytes = b""
    children: dict[bytes, _Node] = field(default_factory=dict)


class Rights:
    """What this process can give to files, as its user and its user namespace have it.

    Args:
        id_mapping: how IDs in layers correspond to IDs on disk.
    """

    def __init__(self, id_mapping: IDMapping) -> None:
        self._id_mapping = id_mapping
        self.ordinary = os.geteuid() != 0
        self._users, self._groups = NamespaceIDs("/proc/self/uid_map"), NamespaceIDs("/proc/self/gid_map")

    @property
    def complete(self) -> bool:
        """Whether every file can have what its entry says."""
        return not self.ordinary and self._users.complete and self._groups.complete

    def owner(self, entry: TarEntry, metadata: _Metadata | None) -> tuple[int, int]:
        """The owner that an entry of a diff is to have, by what its file had in the parent's tar."""
        if self.ordinary:
            return (metadata.uid, metadata.gid) if metadata else (0, 0)
        if metadata is None:
            return entry.uid, entry.gid
        # What could not be set was left as the process makes it: root's.
        try:
            uid, gid = self._id_mapping.to_host(metadata.uid, metadata.gid)
        except ValueError:
            return entry.uid, entry.gid
        return (
            metadata.uid if entry.uid == 0 and uid not in self._users else entry.uid,
            metadata.gid if entry.gid == 0 and gid not in self._groups else entry.gid,
        )


class RecordedMetadata:
    """What the files of a chain of layers had in their tars, where a disk may not keep it."""

    def __init__(self) -> None:
        self._root = _Node(0)
        self._layer = 0

    def add_layer(self, entries: Iterator[TarEntry]) -> None:
        """Take in the next layer of the chain, the base first."""
        self._layer += 1
        for entry in entries:
            if entry.type in _MAKES_NOTHING:
                continue
            path = entry.path
            kind = classify(path)
            if kind is NameKind.WHITEOUT:
                self._delete(self._parts(whiteout_target(path)))
            elif kind is NameKind.OPAQUE:
                self._hide_all(self._parts(path)[:-1])
            elif kind is NameKind.PLAIN:
                if entry.is_whiteout_device:
                    self._delete(self._parts(path))
                else:
                    self._put(entry, self._parts(path))

    def find(self, entry: TarEntry) -> _Metadata | None:
        """What the file that an entry of a diff is about had in the tars, if it is of the same type."""
        known = self._at(_split(entry.path))
        if entry.type is EntryType.HARDLINK:
            other = known or self._at(_split(clean_name(entry.linkname)))
            return other if other and other.type is not EntryType.DIR else None
        return known if known and known.type is entry.type else None

    def _put(self, entry: TarEntry, parts: list[bytes]) -> None:
        metadata = _Metadata(entry.type, entry.mode, entry.uid, entry.gid, entry.size, entry.mtime_ns, {})
        metadata.xattrs.update((key, value) for key, value in entry.xattrs.items() if key.startswith(_PRIVILEGED))
        if entry.type is EntryType.HARDLINK and (target := self._at(self._parts(clean_name(entry.linkname)))):
            # Another name of a file gives it the entry's metadata, and takes no attributes away.
            metadata = metadata._replace(
                type=target.type, size=target.size, mtime_ns=entry.mtime_ns, xattrs={**target.xattrs, **metadata.xattrs}
            )
        usual = not (metadata.uid or metadata.gid or metadata.xattrs) and _shown_mode(metadata) == metadata.mode
        node = self._root
        for part in parts:
            child = node.children.get(part)
            if child is None:
                if usual and entry.type is not EntryType.SYMLINK:
                    return  # and nothing is known there
                child = node.children[part] = _Node(self._layer)
            node = child
        node.layer, node.metadata = self._layer, None if usual else metadata
        node.target = entry.linkname if entry.type is EntryType.SYMLINK else b""
        if entry.type is not EntryType.DIR:
            node.children.clear()

    def _parts(self, path: bytes) -> list[bytes]:
        """The parts of a path, relative to the root, without links on the way; each link is taken to lead to a directory."""
        way = [(b"", self._root)]
        *todo, base = path.split(b"/")
        todo.reverse()
        links = 0
        while todo:
            part = todo.pop()
            if part == b"..":
                del way[max(1, len(way) - 1) :]
            elif part not in (b"", b"."):
                child = way[-1][1].children.get(part) or _Node(0)  # not known
                if child.target and links < MAX_LINKS:
                    links += 1
                    del way[1 if child.target.startswith(b"/") else len(way) :]
                    todo += child.target.split(b"/")[::-1]
                else:
                    way.append((part, child))
        return [part for part, _ in way[1:]] + _split(base)

    def _node(self, parts: list[bytes]) -> _Node | None:
        node: _Node | None = self._root
        for part in parts:
            node = node.children.get(part) if node is not None else None
        return node

    def _at(self, parts: list[bytes]) -> _Metadata | None:
        node = self._node(parts)
        return node.metadata if node is not None else None

    def _delete(self, parts: list[bytes]) -> None:
        node = self._node(parts[:-1])
        if node is not None and parts:
            node.children.pop(parts[-1], None)

    def _hide_all(self, parts: list[bytes]) -> None:
        """Forget what other layers have in a directory."""
        top = self._node(parts)
        pending = [top] if top is not None else []
        while pending:
            here = pending.pop()
            if here.layer != self._layer and here is not top:
                here.metadata, here.target = None, b""
            pending += here.children.values()


def _split(path: bytes) -> list[bytes]:
    """The parts of a cleaned path; none of the root's."""
    return path.split(b"/") if path else []


def entries_of(chunks: Iterator[bytes]) -> Iterator[TarEntry]:
    """The entries of a tar.

    Raises:
        InvalidLayer: it is malformed or cut off.
    """
    scanner = TarScanner(lambda: next(chunks, b""))
    while (entry := scanner.next_entry()[1]) is not None:
        yield entry


def restore_metadata(chunks: Iterator[bytes], recorded: RecordedMetadata, rights: Rights) -> Iterator[bytes]:
    """The tar of a diff, with the metadata that the disk could not keep.

    Args:
        chunks: the diff, as the disk has it.
        recorded: what the files of the parent had in their tars.
        rights: what the disk could keep.

    Raises:
        InvalidLayer: the diff is malformed or cut off.
    """
    scanner = TarScanner(lambda: next(chunks, b""))
    size = 0
    while True:
        raw, entry = scanner.next_entry()
        if entry is None:
            yield raw
            break
        given = _given(entry, recorded, rights)
        # What comes before the header is the padding of the payload before.
        yield raw if given is None else padding(size) + encode_header(given)
        size = entry.stored_size
        yield from map(bytes, scanner.payload())
    yield from map(bytes, scanner.trailer())


def _given(entry: TarEntry, recorded: RecordedMetadata, rights: Rights) -> TarEntry | None:
    """An entry as it is to be; `None` where it is as it is to be already."""
    if entry.type in _MAKES_NOTHING or entry.sparse is not None or classify(entry.path) is not NameKind.PLAIN:
        return None
    known = recorded.find(entry)
    uid, gid = rights.owner(entry, known)
    mode, xattrs = entry.mode, dict(entry.xattrs)
    if known is not None:
        if rights.ordinary and mode == _shown_mode(known):
            mode = known.mode
        for key, value in known.xattrs.items():
            if key.startswith(_LASTING) or _is_unwritten(entry, known):
                xattrs.setdefault(key, value)
    if (uid, gid, mode, xattrs) == (entry.uid, entry.gid, entry.mode, dict(entry.xattrs)):
        return None
    return replace(entry, uid=uid, gid=gid, mode=mode, xattrs=xattrs)


def _is_unwritten(entry: TarEntry, known: _Metadata) -> bool:
    """Whether a file has the content that it had in the parent's tar, as far as size and time tell."""
    if known.type is not EntryType.FILE:
        return True
    same_size = entry.type is EntryType.HARDLINK or entry.size == known.size
    return same_size and entry.mtime_ns == known.mtime_ns


def _shown_mode(metadata: _Metadata) -> int:
    """The mode that an ordinary user's files have for one in a tar."""
    if metadata.type is EntryType.SYMLINK:
        return metadata.mode
    return metadata.mode | rights_to_read(metadata.type is EntryType.DIR)
