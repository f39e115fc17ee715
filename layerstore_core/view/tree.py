"""The merged tree of a chain of layers, which is read without a mount."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import BinaryIO, Final, Self, cast

from layerstore_core.tar.entry import EntryType
from layerstore_core.tree.root import MAX_LINKS
from layerstore_core.view.content import Content, expand
from layerstore_core.view.history import LayerChange, changes_to
from layerstore_core.view.layers import ViewLayer
from layerstore_core.view.limits import MAX_ENTRIES, MAX_PATH_BYTES, Budget
from layerstore_core.view.lookup import locate_file
from layerstore_core.view.merge import Merger
from layerstore_core.view.nodes import DirectoryNode, FileNode, Node
from layerstore_core.view.path import ViewPath

_BUFFER: Final = 1 << 16


class TreeView:
    """The files of a chain of layers, as a mount of them would show them, read from the layers' records.

    Paths are bytes, relative to the root, without a slash at the beginning or end; the root is the empty path. The tree
    is read when it is first needed. A view is for one thread at a time. Close it, or use it in a `with` block.

    Args:
        layers: the layers, the base first.
        on_close: called once, when the view is closed.
        max_entries: the most entries of all layers, with the directories that paths imply.
        max_path_bytes: the most bytes of their paths, link targets and extended attributes, as they are kept in memory.

    Raises (of all methods that need the tree):
        IntegrityError: the record of a layer is damaged.
        InvalidLayer: the tar of a layer is damaged, or the tree exceeds the limits.
    """

    def __init__(
        self,
        layers: Sequence[ViewLayer],
        on_close: Callable[[], None] | None = None,
        *,
        max_entries: int = MAX_ENTRIES,
        max_path_bytes: int = MAX_PATH_BYTES,
    ) -> None:
        self._max_entries = max_entries
        self._max_path_bytes = max_path_bytes
        self._layers = tuple(layers)
        self._on_close = on_close
        self._root: DirectoryNode | None = None
        self._closed = False
        #: The paths of hard-linked files, and inode numbers, by the identities of nodes.
        self._names: dict[int, list[bytes]] | None = None
        self._numbers: dict[int, int] = {}

    @property
    def root(self) -> Node:
        """The root directory."""
        if self._closed:
            raise ValueError("this view is closed")
        if self._root is None:
            merger = Merger(budget=self._budget())
            for layer in self._layers:
                merger.add_layer(layer)
            self._root = merger.root
        return self._root

    def share_base(self, other: TreeView, count: int) -> None:
        """Merge the first layers, which are the same as another view's, once for both views.

        What the further layers of a view leave alone is the same objects in both trees, so that comparing the trees has
        nothing to do there. Views of which one has been read already are merged by themselves.

        Args:
            other: the other view.
            count: how many layers are the same.
        """
        if self.is_merged or other.is_merged or not count:
            return
        base = Merger(budget=self._budget())
        for layer in self._layers[:count]:
            base.add_layer(layer)
        for view in (self, other):
            view._merge_above(base)  # noqa: SLF001 - of the same class

    def take_base(self, other: TreeView, count: int) -> None:
        """Read the first layers, which are the same as another view's, where that view reads them.

        Args:
            other: the other view, which is closed with this one.
            count: how many layers are the same.
        """
        if not (self.is_merged or other.is_merged):
            for layer in self._layers[:count]:
                layer.close()
            self._layers = other._layers[:count] + self._layers[count:]

    def _merge_above(self, base: Merger) -> None:
        """Merge the layers above the first ones.

        Args:
            base: has merged the first layers. Its tree is not changed, and shared.
        """
        above = self._layers[base.top + 1 :]
        merger = Merger(base) if above else base
        for layer in above:
            merger.add_layer(layer)
        self._root = merger.root

    @property
    def is_merged(self) -> bool:
        """Whether the tree has been read."""
        return self._root is not None

    def walk(self, path: bytes = b"", *, follow: bool = True) -> Iterator[tuple[bytes, Node]]:
        """Yield the path and the node of a file and of all files below it, sorted by path, so parents first.

        Paths are compared byte by byte: `a`, `a-b`, `a/c`.

        Args:
            path: where to begin. Symbolic links on the way are followed.
            follow: whether a symbolic link at its end is followed, too.

        Raises:
            FileNotFoundError, NotADirectoryError: there is no such file.
            OSError: with `ELOOP` for a loop of links.
        """
        real, node = self.find(path, follow=follow)
        yield real, node
        if not node.children:
            return
        # A name is first the file itself, and then, with a slash at its end, what is in the directory.
        pending = [(real + b"/" if real else b"", node.children, _steps(node.children))]
        while pending:
            prefix, children, steps = pending[-1]
            if not steps:
                pending.pop()
                continue
            step = steps.pop()
            if step.endswith(b"/"):
                inner = children[step[:-1]].children
                pending.append((prefix + step, inner, _steps(inner)))
            else:
                yield prefix + step, children[step]

    def find(self, path: bytes, *, follow: bool = True) -> tuple[bytes, Node]:
        """Look a file up.

        Args:
            path: its path. A slash at its beginning means the root, `..` does not lead out of it, and symbolic links
                are followed inside it, as in a process whose root it is.
            follow: whether a symbolic link at the end of the path is followed, too.

        Returns:
            Its path with links resolved, and its node.

        Raises:
            FileNotFoundError, NotADirectoryError: there is no such file.
            OSError: with `ELOOP` for a loop of links.
        """
        names: list[bytes] = []
        way: list[Node] = [self.root]
        todo = path.split(b"/")[::-1]
        must_be_directory = todo[0] in (b"", b".")
        links = 0
        while todo:
            part = todo.pop()
            if part in (b"", b"."):
                continue
            if part == b"..":
                if way[-1].type is not EntryType.DIR:
                    raise _error(errno.ENOTDIR, path)
                del names[-1:], way[max(1, len(way) - 1) :]
                continue
            here = way[-1]
            if here.type is not EntryType.DIR:
                raise _error(errno.ENOTDIR, path)
            child = here.children.get(part)
            if child is None:
                raise _error(errno.ENOENT, path)
            if child.type is EntryType.SYMLINK and (follow or any(todo) or must_be_directory):
                links += 1
                if links > MAX_LINKS:
                    raise _error(errno.ELOOP, path)
                if child.linkname.startswith(b"/"):
                    names.clear()
                    del way[1:]
                must_be_directory = must_be_directory or (not any(todo) and child.linkname.endswith((b"/", b"/.")))
                todo += child.linkname.split(b"/")[::-1]
                continue
            names.append(part)
            way.append(child)
        if must_be_directory and way[-1].type is not EntryType.DIR:
            raise _error(errno.ENOTDIR, path)
        return b"/".join(names), way[-1]

    def __truediv__(self, path: str | bytes) -> ViewPath:
        """Return a path in this view: `view / "etc/os-release"`."""
        return ViewPath(self, path)

    def list_directory(self, path: bytes) -> Mapping[bytes, Node]:
        """Return the files of a directory by name, in no particular order. Symbolic links are followed.

        Raises:
            FileNotFoundError, NotADirectoryError: there is no such directory.
            OSError: with `ELOOP` for a loop of links.
        """
        _, node = self.find(path)
        if node.type is not EntryType.DIR:
            raise _error(errno.ENOTDIR, path)
        return node.children

    def readlink(self, path: bytes) -> bytes:
        """Return the target of a symbolic link.

        Raises:
            FileNotFoundError, NotADirectoryError: there is no such file.
            OSError: with `EINVAL`: it is no symbolic link.
        """
        _, node = self.find(path, follow=False)
        if node.type is not EntryType.SYMLINK:
            raise _error(errno.EINVAL, path)
        return node.linkname

    def names_of(self, node: Node) -> list[bytes]:
        """Return the paths of a hard-linked file, sorted; of any other file, an empty list."""
        if not node.linked:
            return []
        if self._names is None:
            self._names = {}
            for path, one in self.walk():
                if one.linked:
                    self._names.setdefault(id(one), []).append(path)
        return self._names.get(id(node), [])

    def changes_to(self, path: bytes) -> list[LayerChange]:
        """Return what each layer has done to a path, the base first; layers that have not touched it are left out.

        Args:
            path: a path without symbolic links, such as `find` returns. The view need not have it any more.
        """
        if self._closed:
            raise ValueError("this view is closed")
        changes, root = changes_to(self._layers, path, self._budget())
        if self._root is None:
            self._root = root  # merged once, for both purposes
        return changes

    def merge_steps(self) -> Iterator[tuple[Node, Node]]:
        """Merge one layer after another, and yield the tree before each layer and the one with it.

        Trees share what a layer leaves alone: it is the same objects in both.
        """
        if self._closed:
            raise ValueError("this view is closed")
        below = Merger(budget=self._budget())
        for layer in self._layers:
            merger = Merger(below)
            merger.add_layer(layer)
            yield below.root, merger.root
            below = merger
        if self._root is None:
            self._root = below.root  # merged once, for both purposes

    def status(self, node: Node) -> os.stat_result:
        """Return the metadata of a file as `os.stat` does. Inode numbers are those of this view."""
        number = self._numbers.setdefault(id(node), len(self._numbers) + 1)
        names = len(self.names_of(node)) or 1
        if node.type is EntryType.DIR:
            names = 2 + sum(child.type is EntryType.DIR for child in node.children.values())
        seconds = node.mtime_ns // 1_000_000_000
        more: dict[str, float] = {
            f"st_{which}time{unit}": value
            for which in "amc"
            for unit, value in (("", node.mtime_ns / 1e9), ("_ns", node.mtime_ns))
        }
        try:
            more["st_rdev"] = os.makedev(node.devmajor, node.devminor)
        except (OverflowError, ValueError):
            more["st_rdev"] = 0  # no device can have these numbers: unpacking leaves it out
        fields = (node.st_mode, number, 0, names, node.uid, node.gid, node.size, seconds, seconds, seconds)
        return os.stat_result(fields, more)

    def open(self, path: bytes) -> BinaryIO:
        """Open a regular file for reading. Symbolic links are followed.

        Reading it to its end verifies the content, if the layer's record has a checksum of it. As long as nothing else
        has been read from the view, only as many records are read as this file needs.

        Returns:
            A file that can seek; seeking backwards reads from the start again. It reads from the view, which must stay
            open.

        Raises:
            FileNotFoundError, NotADirectoryError: there is no such file.
            IsADirectoryError: it is a directory.
            OSError: with `ELOOP` for a loop of links, with `EINVAL` if it is a device or a fifo.
        """
        return self.open_node(self.find_file(path)[1], path)

    def find_file(self, path: bytes) -> tuple[bytes, Node]:
        """Look a regular file up in as few layers as possible. Symbolic links are followed; errors as for `open`.

        Returns:
            Its path with links resolved, and its node. Unless the tree has been read already, the node's metadata is
            that of the file's own entry: hard links in other layers may have changed it.
        """
        if self._root is None and not self._closed and (found := locate_file(self._layers, path)) is not None:
            return found
        real, node = self.find(path)
        return real, _check_file(node, path)

    def open_node(self, node: Node, path: bytes = b"") -> BinaryIO:
        """Open a regular file for reading by its node; see `open`.

        Args:
            node: the file.
            path: its path, for messages.
        """
        _check_file(node, path)
        raw = Content(lambda: self.chunks(node), node.size, os.fsdecode(path))
        return cast("BinaryIO", io.BufferedReader(raw, _BUFFER))

    def will_read(self, nodes: Iterable[Node]) -> None:
        """Say which files will be read next, in any order, which may make it quicker.

        Of an image in a registry, files that are near to each other in a layer are then fetched with one request.
        """
        files: dict[int, list[FileNode]] = {}
        for node in nodes:
            if isinstance(node, FileNode) and node.stored_size:
                files.setdefault(node.layer, []).append(node)
        for number, found in files.items():
            plan = getattr(self._layers[number], "plan", None)
            if plan is not None:
                plan(found)

    def chunks(self, node: Node) -> Iterator[bytes]:
        """Yield the content of a regular file, in chunks. The last one comes only once the content is verified.

        Raises:
            OSError: it is no regular file.
            IntegrityError: the layer's files or record are damaged (while iterating).
        """
        payload = self.payload(node)
        return payload if node.sparse is None else expand(payload, node.sparse, node.size)

    def payload(self, node: Node) -> Iterator[bytes]:
        """Do what `chunks` does, but leave out the holes of a sparse file: yield its data regions only."""
        if self._closed:
            raise ValueError("this view is closed")
        file = _check_file(node)
        return self._layers[file.layer].payload(file) if file.stored_size else iter(())

    def digest(self, node: Node) -> bytes:
        """Return the sha256 of a file's content, if it is known without reading the content; else no bytes."""
        known = getattr(self._layers[node.layer], "digest", None) if isinstance(node, FileNode) else None
        found: bytes = b"" if known is None else known(node)
        return found

    def close(self) -> None:
        """Close the files of the layers. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        with ExitStack() as closing:
            if self._on_close is not None:
                closing.callback(self._on_close)
            for layer in self._layers:
                closing.callback(layer.close)

    def _budget(self) -> Budget:
        return Budget(self._max_entries, self._max_path_bytes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _steps(children: dict[bytes, Node]) -> list[bytes]:
    steps = list(children)
    steps += [name + b"/" for name, child in children.items() if child.children]
    steps.sort(reverse=True)
    return steps


def _check_file(node: Node, path: bytes = b"") -> FileNode:
    if isinstance(node, FileNode):
        return node
    raise _error(errno.EISDIR if node.type is EntryType.DIR else errno.EINVAL, path)


def is_of_view(error: OSError) -> bool:
    """Return whether the path of an error is one in a view, and not one of the host."""
    return vars(error).get("of_view", False) is True


def _error(number: int, path: bytes) -> OSError:
    error = OSError(number, os.strerror(number), os.fsdecode(path))
    vars(error)["of_view"] = True
    return error
