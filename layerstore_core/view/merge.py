"""Merging layers: the tree that unpacking a chain of layers makes, computed from the entries of their tars.

The rules are those of `layerstore_core.unpack`: whiteouts, opaque directories, links on the path of an entry, hard
links, and what replaces what. No file is made, and no content is read.
"""

from __future__ import annotations

import os
from copy import copy
from typing import Final

from layerstore_core.base.paths import clean_name, leaves_root
from layerstore_core.errors import InvalidLayer
from layerstore_core.tar.entry import NO_XATTRS, EntryType, TarEntry
from layerstore_core.tar.whiteouts import AUFS_LINKS, NameKind, classify, whiteout_target
from layerstore_core.tree.access_lists import ACCESS, stored_form
from layerstore_core.tree.root import MAX_LINKS
from layerstore_core.unpack.create import mtime_to_set
from layerstore_core.view.layers import OtherEntry, PlainFile, ViewLayer
from layerstore_core.view.limits import Budget
from layerstore_core.view.nodes import (
    NO_LAYER,
    BlockNode,
    CharNode,
    DirectoryNode,
    FifoNode,
    FileNode,
    Node,
    SparseNode,
    SymlinkNode,
)
from layerstore_core.view.sharing import SharedFiles, copy_directory

_FILE: Final = EntryType.FILE
_DIR: Final = EntryType.DIR
_SYMLINK: Final = EntryType.SYMLINK
_MAKES_NOTHING: Final = (EntryType.GLOBAL, EntryType.VOLUME)
#: All symbolic links have this mode on Linux.
_SYMLINK_MODE: Final = 0o777
#: For chown(2) this ID means "leave unchanged", and a new file belongs to root then.
_NO_ID: Final = (1 << 32) - 1
#: Extended attributes that belong to the host, not to a layer; see `tree.xattrs`.
_HOSTS_OWN: Final = (b"trusted.overlay.", b"user.overlay.", b"security.selinux")
#: Attributes outside of these namespaces come from another system: no file system of Linux keeps them.
_NAMESPACES: Final = (b"user.", b"trusted.", b"security.", b"system.posix_acl_")


class BlockedError(InvalidLayer):
    """Error of a path on which something is neither a directory nor a link to one, and may not be replaced."""


class Merger:
    """Merger of layers into one tree, the base first.

    Args:
        below: a merger of the lower layers, which must not get more of them. Its tree does not change: the new tree
            shares with it what the upper layers leave alone. `None` to begin with an empty tree.
        budget: how much work and memory it may take; with `below`, what that has left.

    Attributes:
        root: the root of the tree.
    """

    def __init__(self, below: Merger | None = None, budget: Budget | None = None) -> None:
        self._budget: Budget = below.left if below is not None else budget if budget is not None else Budget()
        self.root: DirectoryNode = DirectoryNode.make_implied(NO_LAYER) if below is None else copy_directory(below.root)
        self._layer: int = NO_LAYER if below is None else below.top
        self._shared = SharedFiles(None if below is None else below.top)
        #: The directories that paths of this layer lead to, and their paths with links resolved.
        self._entered: dict[bytes, tuple[DirectoryNode, bytes]] = {}
        #: Path of the directory of the last entry.
        self._last: bytes | None = None
        #: Paths of the directories that this layer has an entry for, or has put in the place of something else.
        self._made: set[bytes] = set()
        #: Paths of the directories below which this layer has made or deleted something.
        self._touched: set[bytes] = set()
        #: Paths where this layer has made hard links to files of layers below.
        self._linked: set[bytes] = set()
        #: The files in aufs's directory of hard links, by name.
        self._aufs: dict[bytes, Node] = {}

    @property
    def top(self) -> int:
        """Index of the topmost layer so far; `NO_LAYER` if there is none."""
        return self._layer

    @property
    def left(self) -> Budget:
        """A copy of what is left of the limits."""
        return copy(self._budget)

    def add_layer(self, layer: ViewLayer) -> None:
        """Apply the next layer.

        Raises:
            IntegrityError: its record is damaged.
            InvalidLayer: it is malformed, an entry leaves the root or cannot be made, or the limits are exceeded.
        """
        self._layer += 1
        self._budget.begin_layer(self._layer)
        self._made = set()
        self._touched = set()
        self._linked = set()
        self._aufs = {}
        self._forget_paths()
        for batch in layer.batches():
            if isinstance(batch, list):
                self._add_plain(batch)
                continue
            try:
                self._add(batch)
            except InvalidLayer as error:
                if error.entry is not None and error.offset is not None:
                    raise
                raise InvalidLayer(error.reason, offset=batch.entry.offset, entry=batch.entry.name) from error

    def _add_plain(self, files: list[PlainFile]) -> None:
        """Apply regular files and directories whose names need no care."""
        layer = self._layer
        self._budget.add(len(files), sum(len(one[0]) for one in files), files[-1][0], files[-1][5])
        last = self._last
        children: dict[bytes, Node] = {}
        real = b""
        if last is not None:
            directory, real = self._directory_of(last)
            children = directory.children
        for path, (mode, uid, gid), mtime_ns, size, name, offset, crc in files:
            above, _, base = path.rpartition(b"/")
            if above != last:
                try:
                    directory, real = self._directory_of(above)
                except InvalidLayer as error:
                    raise InvalidLayer(error.reason, offset=offset, entry=path) from error
                children = directory.children
                last = above
            old = children.get(base)
            if not (0 <= uid < _NO_ID and 0 <= gid < _NO_ID):
                stays = size < 0 and isinstance(old, DirectoryNode)
                uid, gid = _owner(uid, gid, (old.uid, old.gid) if stays and old is not None else (0, 0))
            if size >= 0:
                children[base] = FileNode(mode, uid, gid, mtime_ns, layer, size, name, offset, crc)
                if old is not None and old.type is not _FILE:
                    self._forget_paths()
                    last = None
                continue
            self._made.add(path)
            if real != above:
                self._made.add(_join(real, base))
            if isinstance(old, DirectoryNode):
                old = self._shared.own(children, base, old)
                old.mode, old.uid, old.gid, old.mtime_ns = mode, uid, gid, mtime_ns
                old.xattrs, old.layer, old.implied = NO_XATTRS, layer, False
                continue
            children[base] = DirectoryNode(mode, uid, gid, mtime_ns, layer)
            if old is not None and old.type is not _FILE:
                self._forget_paths()
                last = None
        self._last = last

    def _add(self, other: OtherEntry) -> None:
        """Apply any entry."""
        entry = other.entry
        if entry.type in _MAKES_NOTHING:
            return
        path = entry.path
        attributes = sum(map(len, entry.xattrs)) + sum(map(len, entry.xattrs.values())) if entry.xattrs else 0
        self._budget.add(1, len(path) + len(entry.linkname) + attributes)
        if leaves_root(path):
            raise InvalidLayer("its name leaves the layer's root")
        kind = classify(path)
        if kind is NameKind.PLAIN:
            if not entry.is_whiteout_device:
                self._make(other, path)
            elif path:
                self._whiteout(path)
        elif kind is NameKind.WHITEOUT:
            self._whiteout(whiteout_target(path))
        elif kind is NameKind.OPAQUE:
            self._hide_all(path.rpartition(b"/")[0])
        elif kind is NameKind.AUFS_LINK and entry.type is _FILE:
            self._aufs[path.rpartition(b"/")[2]] = self._node_of(other)

    def _make(self, other: OtherEntry, path: bytes) -> None:
        """Make what an entry describes, and replace the file of its name."""
        entry = other.entry
        if not path:
            if entry.type is _DIR:
                self._set_directory(self.root, entry)
            return  # nothing can replace the root
        above, _, base = path.rpartition(b"/")
        directory, real = self._directory_of(above)
        where = _join(real, base)
        old = directory.children.get(base)
        if entry.type is EntryType.HARDLINK:
            self._link(entry, directory, where)
            return
        if entry.type is _DIR:
            self._made.add(path)
            self._made.add(where)
            if isinstance(old, DirectoryNode):
                self._set_directory(self._shared.own(directory.children, base, old), entry)
                return
        node = self._node_of(other)
        if old is not None:
            self._remove(directory, base)
        directory.children[base] = node

    def _node_of(self, other: OtherEntry) -> Node:
        """Return a new node for an entry, which is no hard link."""
        entry, name, offset, crc = other
        layer, mtime_ns = self._layer, mtime_to_set(entry)
        mode, (uid, gid) = entry.mode, _owner(entry.uid, entry.gid)
        node: Node
        if entry.type is _FILE:
            if entry.sparse is None:
                node = file = FileNode(mode, uid, gid, mtime_ns, layer, entry.size, name, offset, crc)
            else:
                node = file = SparseNode(mode, uid, gid, mtime_ns, layer, entry.size, name, offset, crc)
                node.sparse = entry.sparse
            file.stored_size = entry.stored_size
        elif entry.type is _DIR:
            node = DirectoryNode(mode, uid, gid, mtime_ns, layer)
        elif entry.type is _SYMLINK:
            if not entry.linkname:
                raise InvalidLayer("a symbolic link without a target")
            node = SymlinkNode(_SYMLINK_MODE, uid, gid, mtime_ns, layer, entry.linkname)
        elif entry.type is EntryType.FIFO:
            node = FifoNode(mode, uid, gid, mtime_ns, layer)
        else:
            device = CharNode if entry.type is EntryType.CHAR else BlockNode
            node = device(mode, uid, gid, mtime_ns, layer, (entry.devmajor, entry.devminor))
        if entry.xattrs:
            _set_xattrs(node, entry)
        return node

    def _set_directory(self, node: DirectoryNode, entry: TarEntry) -> None:
        """Give a directory the metadata of an entry."""
        node.uid, node.gid = _owner(entry.uid, entry.gid, (node.uid, node.gid))
        node.mode, node.mtime_ns = entry.mode, mtime_to_set(entry)
        node.layer, node.implied = self._layer, False
        node.xattrs = NO_XATTRS
        _set_xattrs(node, entry)

    def _link(self, entry: TarEntry, directory: DirectoryNode, where: bytes) -> None:
        """Make a hard link, and give the file that it links to the metadata of the entry."""
        target = clean_name(entry.linkname)
        shown = repr(os.fsdecode(entry.linkname))
        if not target or leaves_root(target):
            raise InvalidLayer(f"a hard link to {shown}, which is not in the layer")
        above, _, source_base = target.rpartition(b"/")
        source: Node | None
        if target.startswith(AUFS_LINKS + b"/") and self._aufs:
            source = self._aufs.get(source_base)
            real = target
        else:
            found = self._find(above)
            source = found[0].children.get(source_base) if found is not None else None
            real = _join(found[1], source_base) if found is not None else target
            if source is not None and source.layer <= self._shared.top:
                self._shared.own_all(self.root)
                self._link(entry, directory, where)
                return
        if source is None:
            raise InvalidLayer(f"a hard link to {shown}, which does not exist")
        if source.type is _DIR:
            raise InvalidLayer("a hard link to a directory")
        if source.layer != self._layer:
            self._linked.add(where)
        if real == where:
            return  # the link is to itself, and exists already
        base = where.rpartition(b"/")[2]
        if base in directory.children:
            if real.startswith(where + b"/"):
                raise InvalidLayer(f"a hard link to {shown}, which is below what it replaces")
            self._remove(directory, base)
        directory.children[base] = source
        source.linked = True
        if source.type is not _SYMLINK:
            source.uid, source.gid = _owner(entry.uid, entry.gid, (source.uid, source.gid))
            source.mtime_ns = mtime_to_set(entry)
            self._budget.walk(len(source.xattrs))
            _set_mode(source, entry.mode)
            _set_xattrs(source, entry)

    def _whiteout(self, path: bytes) -> None:
        """Delete a file or directory, if it is there."""
        above, _, base = path.rpartition(b"/")
        directory, _ = self._directory_of(above)
        if base in directory.children:
            self._remove(directory, base)

    def _hide_all(self, path: bytes) -> None:
        """Delete everything in a directory that does not come from this layer."""
        try:
            pending = [self._enter(path)]
        except BlockedError:
            return  # this layer has a file there, which hides the directory of the layers below
        while pending:
            here, real = pending.pop()
            self._budget.walk(len(here.children))
            for name, child in list(here.children.items()):
                where = _join(real, name)
                if isinstance(child, DirectoryNode):
                    if where in self._made or where in self._touched:
                        pending.append((self._shared.own(here.children, name, child), where))
                    else:
                        del here.children[name]
                elif child.layer != self._layer and where not in self._linked:
                    del here.children[name]
        self._forget_paths()

    def _remove(self, directory: DirectoryNode, base: bytes) -> None:
        """Remove what a directory has at a name."""
        removed = directory.children.pop(base)
        if removed.type is not _FILE:
            self._forget_paths()

    def _forget_paths(self) -> None:
        """Forget where paths lead to: a directory or link on one of them may be gone."""
        self._entered.clear()
        self._last = None

    def _touch(self, directory: bytes) -> None:
        """Note that this layer has made or deleted something below a directory."""
        touched = self._touched
        while directory and directory not in touched:
            self._budget.touch(len(directory))
            touched.add(directory)
            directory = directory.rpartition(b"/")[0]

    def _directory_of(self, path: bytes) -> tuple[DirectoryNode, bytes]:
        """Return the directory at `path`, in which the layer makes something, and its path with links resolved."""
        found = self._enter(path)
        if path != self._last:
            self._last = path
            self._touch(path)
            if found[1] != path:
                self._touch(found[1])
        return found

    def _enter(self, path: bytes) -> tuple[DirectoryNode, bytes]:
        """Return the directory at `path`, made if it is missing, and its path with links resolved.

        A link that leads to a directory is followed. Anything else that comes from a layer below is replaced.

        Raises:
            BlockedError: something on the path is no directory, and may not be replaced.
            InvalidLayer: the links on the path form a loop.
        """
        known = self._entered.get(path)
        if known is not None:
            return known
        above, _, base = path.rpartition(b"/")
        parent = self._entered.get(above)
        if parent is not None:  # the usual case
            child = parent[0].children.get(base)
            if isinstance(child, DirectoryNode):
                child = self._shared.own(parent[0].children, base, child)
                found = self._entered[path] = child, _join(parent[1], base)
                return found
        found = self._entered[path] = self._walk(path)
        return found

    def _walk(self, path: bytes) -> tuple[DirectoryNode, bytes]:
        """Do the work of `_enter` for a path that was not entered before, from the root on."""
        names: list[bytes] = []
        way = [self.root]
        todo = path.split(b"/")[::-1]
        self._budget.walk(len(todo))
        # How many links were followed, and how many of the names to do come from links: a link replaces nothing.
        links = of_links = 0
        while todo:
            part = todo.pop()
            by_link = of_links > 0
            of_links -= by_link
            if part in (b"", b"."):
                continue
            if part == b"..":
                if names:
                    names.pop()
                    way.pop()
                continue
            children = way[-1].children
            child = children.get(part)
            names.append(part)
            if isinstance(child, DirectoryNode):
                way.append(self._shared.own(children, part, child))
                continue
            if child is not None:
                where = b"/".join(names)
                own = child.layer == self._layer or where in self._linked
                if child.type is _SYMLINK and (own or self._find(where) is not None):
                    links += 1
                    if links > MAX_LINKS:
                        raise InvalidLayer("the symbolic links on its path form a loop")
                    names.pop()
                    if child.route.startswith(b"/"):
                        names.clear()
                        del way[1:]
                    parts = child.route.split(b"/")[::-1]
                    self._budget.walk(len(parts))
                    of_links += len(parts)
                    todo += parts
                    continue
                if by_link or own:
                    raise BlockedError("something on its path is no directory")
                self._forget_paths()
                self._made.add(where)  # it is the layer's own now
            self._budget.add(1, len(part))
            made = children[part] = DirectoryNode.make_implied(self._layer)
            way.append(made)
        return way[-1], b"/".join(names)

    def _find(self, path: bytes) -> tuple[DirectoryNode, bytes] | None:
        """Return the directory that `path` leads to, and its path with links resolved; `None` if there is none."""
        known = self._entered.get(path)
        return known if known is not None else find_directory(self.root, path, self._budget)


def find_directory(root: DirectoryNode, path: bytes, budget: Budget) -> tuple[DirectoryNode, bytes] | None:
    """Return the directory that `path` leads to, and its path with links resolved; `None` if it leads to none."""
    names: list[bytes] = []
    way = [root]
    todo = path.split(b"/")[::-1]
    budget.walk(len(todo))
    links = 0
    while todo:
        part = todo.pop()
        if part == b"..":
            del names[-1:], way[max(1, len(way) - 1) :]
        elif part not in (b"", b"."):
            child = way[-1].children.get(part)
            if isinstance(child, DirectoryNode):
                names.append(part)
                way.append(child)
            elif child is None or child.type is not _SYMLINK or links == MAX_LINKS:
                return None
            else:
                links += 1
                if child.route.startswith(b"/"):
                    names.clear()
                    del way[1:]
                parts = child.route.split(b"/")[::-1]
                budget.walk(len(parts))
                todo += parts
    return way[-1], b"/".join(names)


def _owner(uid: int, gid: int, old: tuple[int, int] = (0, 0)) -> tuple[int, int]:
    """Return the owner that a file has after it was given one. -1, signed or not, leaves the old one."""
    return (old[0] if uid in (-1, _NO_ID) else uid), (old[1] if gid in (-1, _NO_ID) else gid)


def _set_mode(node: Node, mode: int) -> None:
    """Set permission bits, which changes an access list."""
    node.mode = mode
    value = node.xattrs.get(ACCESS)
    if value is not None:
        stored, _ = stored_form(value, mode & 0o777)
        assert stored is not None, "an access list that says more than the mode keeps doing so"
        node.xattrs = {**node.xattrs, ACCESS: stored}


def _set_xattrs(node: Node, entry: TarEntry) -> None:
    """Set the extended attributes of an entry, as far as a file can have them. Others that the file has stay."""
    new = dict(node.xattrs)
    for name, value in entry.xattrs.items():
        if name.startswith(_HOSTS_OWN) or not name.startswith(_NAMESPACES):
            continue
        if name.startswith(b"user.") and node.type not in (_FILE, _DIR):
            continue
        if name == ACCESS:
            try:
                stored, bits = stored_form(value)
            except (KeyError, ValueError, OverflowError) as error:
                raise InvalidLayer("its extended attribute 'system.posix_acl_access' is no access list") from error
            node.mode = node.mode & ~0o777 | bits
            if stored is None:
                new.pop(name, None)
            else:
                new[name] = stored
            continue
        new[name] = value
    node.xattrs = dict(sorted(new.items())) if new else NO_XATTRS


def _join(directory: bytes, base: bytes) -> bytes:
    return directory + b"/" + base if directory else base
