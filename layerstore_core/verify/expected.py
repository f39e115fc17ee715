"""What a layer's tar makes of its parent's tree, worked out in memory: what the layer's files are checked against.

The rules are those of `layerstore_core.unpack.unpacker`, without a file being made. Only what the layer itself brings or
deletes is kept; all else is as the parent has it.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from layerstore_core.base.paths import clean_name, leaves_root
from layerstore_core.tar.entry import NO_XATTRS, EntryType, TarEntry
from layerstore_core.tar.layer_stream import LayerStream
from layerstore_core.tar.whiteouts import AUFS_LINKS, NameKind, classify, whiteout_target
from layerstore_core.unpack.create import mtime_to_set

#: Links followed for one name before it is taken for a loop: the kernel's limit.
_MAX_LINKS: Final = 40
_KINDS: Final = {
    EntryType.FILE: stat.S_IFREG,
    EntryType.DIR: stat.S_IFDIR,
    EntryType.SYMLINK: stat.S_IFLNK,
    EntryType.CHAR: stat.S_IFCHR,
    EntryType.BLOCK: stat.S_IFBLK,
    EntryType.FIFO: stat.S_IFIFO,
}


#: What nothing but a directory has in it: one for all, which nobody writes to.
_NO_CHILDREN: Final[dict[bytes, Node | None]] = {}


class Brought(NamedTuple):
    """An entry of a layer's tar.

    Attributes:
        entry: the entry.
        digest: the sha256 of its payload, as it stands in the tar; empty where it has none.
    """

    entry: TarEntry
    digest: bytes


def read_entries(diff: LayerStream) -> Iterator[Brought]:
    """The entries of a tar, with the digests of their payloads.

    Raises:
        InvalidLayer: the tar is malformed or cut off.
    """
    for entry in diff.entries():
        digest = b""
        if entry.type is EntryType.FILE:
            sha256 = hashlib.sha256()
            for chunk in diff.payload():
                sha256.update(chunk)
            digest = sha256.digest()
        yield Brought(entry, digest)


class Found(NamedTuple):
    """Something that the parent has.

    Attributes:
        status: its status.
        target: where it points, of a symbolic link.
    """

    status: os.stat_result
    target: bytes = b""


class Parent(Protocol):
    """The tree of the layer's parent."""

    def find(self, path: bytes) -> Found | None:
        """What is at `path`, relative and without a link on the way; `None`: nothing."""


class Meta(NamedTuple):
    """The metadata that an entry gives: permission bits, user and group of the layer, time in ns."""

    mode: int
    uid: int
    gid: int
    mtime_ns: int


@dataclass(slots=True, eq=False)
class Node:
    """A file that the layer brings, or a directory on the way to one. Names of one file share one node.

    Attributes:
        kind: its type, as `stat.S_IFMT` has it.
        metas: the metadata that it may have; none: no entry tells, as for directories that are only implied.
        xattrs: its extended attributes.
        target: of a symbolic link.
        device: of a device.
        size: of a regular file, in bytes.
        digest: sha256 of a regular file's payload.
        sparse: the data regions of a sparse file.
        children: of a directory: what the layer brings, or deletes (`None`).
        merged: of a directory: what the parent has in it shows.
        touched: of a directory: the layer names it, or something in it. An opaque whiteout leaves it alone.
        names: how many names of this layer are one file.
        linked: the file of the parent that it is another name of.
        linked_path: where in the parent's tree that is.
    """

    kind: int
    metas: tuple[Meta, ...] = ()
    xattrs: Mapping[bytes, bytes] = field(default_factory=lambda: NO_XATTRS)
    target: bytes = b""
    device: int = 0
    size: int = 0
    digest: bytes = b""
    sparse: list[tuple[int, int]] | None = None
    children: dict[bytes, Node | None] = field(default_factory=dict)
    merged: bool = False
    touched: bool = False
    names: int = 1
    linked: os.stat_result | None = None
    linked_path: bytes = b""


@dataclass(slots=True)
class _Place:
    """A directory on the way down: its path, and its node, `None` where only the parent has it."""

    path: bytes
    node: Node | None


class Expected:
    """What a layer brings and deletes.

    Args:
        entries: its tar.
        parent: its parent's tree; `None` for a base layer.

    Attributes:
        root: the top of what it brings.
        linked: by device and inode, files of the parent to which it adds names.
        missing: hard links whose targets are not there: their names, and what they link to.
    """

    def __init__(self, entries: Iterable[Brought], parent: Parent | None) -> None:
        self._parent = parent
        self.root = Node(stat.S_IFDIR, merged=True)
        self.linked: dict[tuple[int, int], Node] = {}
        self.missing: list[tuple[bytes, bytes]] = []
        self._aufs = Node(stat.S_IFDIR)
        #: The directory of the last entry: as it was named, and where it is.
        self._entered: bytes | None = None
        self._entered_node = self.root
        self._path = b""
        for one in entries:
            self._take(one)

    def at(self, path: bytes) -> Node | None:
        """What the layer brings at a path, relative and without links on the way."""
        node: Node | None = self.root
        for part in path.split(b"/") if path else ():
            node = node.children.get(part) if node is not None else None
        return node

    def deletes(self, path: bytes) -> bool:
        """Whether the layer deletes, hides or replaces what the parent has at a path."""
        node = self.root
        for part in path.split(b"/"):
            child = node.children.get(part, node)
            if child is node:
                return not node.merged
            if child is None or child.kind != stat.S_IFDIR:
                return True
            node = child
        return False

    def _take(self, one: Brought) -> None:
        entry = one.entry
        if entry.type in (EntryType.GLOBAL, EntryType.VOLUME):
            return
        name = entry.path
        if leaves_root(name):
            return
        kind = classify(name)
        if kind is NameKind.PLAIN and not entry.is_whiteout_device:
            self._bring(one, name)
        elif kind is NameKind.PLAIN or kind is NameKind.WHITEOUT:
            deleted = whiteout_target(name) if kind is NameKind.WHITEOUT else name
            if deleted:
                place, base = self._parent_of(deleted)
                self._put(place, base, None)
        elif kind is NameKind.OPAQUE:
            self._hide_all(name.rpartition(b"/")[0])
        elif kind is NameKind.AUFS_LINK and entry.type is EntryType.FILE:
            self._aufs.children[name.rpartition(b"/")[2]] = _node_of(one)

    def _bring(self, one: Brought, name: bytes) -> None:
        entry = one.entry
        if not name:
            if entry.type is EntryType.DIR:
                _dress(self.root, entry, keep=not entry.name)  # an empty name is no name of the root to all
            return
        place, base = self._parent_of(name)
        if entry.type is EntryType.HARDLINK:
            self._link(entry, name, place, base)
        elif entry.type is EntryType.DIR:
            node = self._look(place, self._path, base)
            if node is None or node.kind != stat.S_IFDIR:
                node = Node(stat.S_IFDIR)
            self._put(place, base, node)
            node.touched = True
            _dress(node, entry)
        else:
            self._put(place, base, _node_of(one))

    def _link(self, entry: TarEntry, name: bytes, place: Node, base: bytes) -> None:
        here = _join(self._path, base)
        target = clean_name(entry.linkname)
        parent, _, source_base = target.rpartition(b"/")
        node: Node | None = None
        if target.startswith(AUFS_LINKS + b"/") and self._aufs.children:
            node = self._aufs.children.get(source_base)
        else:
            way = self._walk(parent)
            if way is not None:
                source = way[-1]
                if _join(source.path, source_base) == here:
                    return  # a link to itself is there already
                node = self._known(source, source_base)
        if node is None or node.kind == stat.S_IFDIR:
            self.missing.append((name, entry.linkname))
            return
        node.names += 1
        self._put(place, base, node)
        if node.kind != stat.S_IFLNK:
            _dress(node, entry, keep=True)

    def _known(self, place: _Place, base: bytes) -> Node | None:
        """The file that a hard link is to."""
        if place.node is not None and (base in place.node.children or not place.node.merged):
            return place.node.children.get(base)
        path = _join(place.path, base)
        found = self._parent.find(path) if self._parent else None
        if found is None or stat.S_ISDIR(found.status.st_mode):
            return None
        status = found.status
        return self.linked.setdefault(
            (status.st_dev, status.st_ino),
            Node(stat.S_IFMT(status.st_mode), target=found.target, linked=status, linked_path=path),
        )

    def _hide_all(self, path: bytes) -> None:
        """Delete all in a directory that this layer has not brought."""
        way = self._walk(path, make=True)
        if way is None:
            return  # a file of the layer's own, which hides what is below
        self._entered = None
        pending = [way[-1].node]
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

    def _parent_of(self, name: bytes) -> tuple[Node, bytes]:
        """The directory that an entry goes into, made where it is missing; where it is in the end stands in `_path`."""
        parent, _, base = name.rpartition(b"/")
        if parent == self._entered:
            return self._entered_node, base
        way = self._walk(parent, make=True) or self._walk(parent, make=True, replace=True)
        assert way is not None
        for place in way:
            assert place.node is not None
            place.node.touched = True
            self._entered_node = place.node
        self._entered, self._path = parent, way[-1].path
        return self._entered_node, base

    def _put(self, place: Node, base: bytes, node: Node | None) -> None:
        if base in place.children:
            self._entered = None  # what it led through may be gone
        place.children[base] = node

    def _walk(self, path: bytes, *, make: bool = False, replace: bool = False) -> list[_Place] | None:
        """Go down to a directory, through links.

        Args:
            path: as it stands in the tar, cleaned.
            make: make what is missing of it, also in the place of a parent's file.
            replace: and in the place of one that the layer itself has brought.

        Returns:
            The directories on the way, the root first; `None` where it is not there.
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
            child, found = self._seen(here, part)
            if child is None and found is not None:
                if stat.S_ISLNK(found.status.st_mode):
                    child = Node(stat.S_IFLNK, target=found.target)
                elif stat.S_ISDIR(found.status.st_mode) and not make:
                    way.append(_Place(there, None))
                    continue
                else:
                    child = Node(stat.S_IFMT(found.status.st_mode), merged=True)
                    if child.kind == stat.S_IFDIR:
                        assert here.node is not None
                        here.node.children[part] = child
            if child is not None and child.kind == stat.S_IFLNK and links < _MAX_LINKS:
                links += 1
                if child.target.startswith(b"/"):
                    way = way[:1]
                parts += child.target.split(b"/")[::-1]
                continue
            if child is None or child.kind != stat.S_IFDIR:
                if not make or (child is not None and found is None and not replace):
                    return None
                assert here.node is not None
                child = here.node.children[part] = Node(stat.S_IFDIR, touched=child is not None)
            way.append(_Place(there, child))
        return way

    def _seen(self, place: _Place, base: bytes) -> tuple[Node | None, Found | None]:
        """What a directory shows at a name: of this layer, or of the parent."""
        if place.node is not None and (base in place.node.children or not place.node.merged):
            return place.node.children.get(base), None
        return None, self._parent.find(_join(place.path, base)) if self._parent else None

    def _look(self, place: Node, path: bytes, base: bytes) -> Node | None:
        """The directory that an entry for a directory finds at its name."""
        node, found = self._seen(_Place(path, place), base)
        if node is None and found is not None and stat.S_ISDIR(found.status.st_mode):
            return Node(stat.S_IFDIR, merged=True)
        return node


def _node_of(one: Brought) -> Node:
    entry = one.entry
    is_device = entry.type in (EntryType.CHAR, EntryType.BLOCK)
    node = Node(
        _KINDS[entry.type],
        children=_NO_CHILDREN,
        target=entry.linkname,
        device=os.makedev(entry.devmajor, entry.devminor) if is_device else 0,
        size=entry.size,
        digest=one.digest,
        sparse=entry.sparse,
    )
    _dress(node, entry)
    return node


def _dress(node: Node, entry: TarEntry, *, keep: bool = False) -> None:
    """Give a node an entry's metadata; with `keep`, what it had is as good."""
    meta = Meta(entry.mode, entry.uid, entry.gid, mtime_to_set(entry))
    if not keep:
        node.metas, node.xattrs = (meta,), entry.xattrs
        return
    if meta not in node.metas:
        node.metas = (*node.metas, meta)
    if entry.xattrs:
        node.xattrs = {**node.xattrs, **entry.xattrs}


def _join(directory: bytes, base: bytes) -> bytes:
    return directory + b"/" + base if directory else base
