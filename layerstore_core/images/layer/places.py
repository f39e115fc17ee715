"""The names in a layer that is being built: what is at a name, and where a name leads to by symbolic links.

A name may go through symbolic links, of the layer or of the image below it. It is resolved within the root, as a
program that runs in the image would do. Otherwise a layer that has a file `lib/x` would turn the link `lib` of the
image into a directory.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, Protocol

from layerstore_core.base.paths import clean_name, leaves_root
from layerstore_core.errors import InvalidSource
from layerstore_core.images.layer.content import Content
from layerstore_core.tar.entry import EntryType, TarEntry
from layerstore_core.tar.header import MAX_NAME

#: Symbolic links followed for one name: the kernel's limit.
_MAX_LINKS: Final = 40
#: More names than this in one layer count as an attack on memory.
MAX_NAMES: Final = 1_000_000
#: So do more bytes than this in all names and the paths of all directories above them: a path of 4 KiB may have two
#: thousand.
MAX_BYTES: Final = 256 << 20
#: The most components of paths and links that are looked up for one layer.
MAX_STEPS: Final = 20_000_000
#: How many bytes of paths are remembered to be quicker.
_MAX_WALKED: Final = 32 << 20


class BaseNode(Protocol):
    """What the image below the layer has at a name."""

    @property
    def type(self) -> EntryType: ...

    @property
    def mode(self) -> int: ...

    @property
    def uid(self) -> int: ...

    @property
    def gid(self) -> int: ...

    @property
    def mtime_ns(self) -> int: ...

    @property
    def xattrs(self) -> Mapping[bytes, bytes]: ...

    @property
    def linkname(self) -> bytes: ...

    @property
    def implied(self) -> bool: ...

    @property
    def children(self) -> Mapping[bytes, BaseNode]: ...


class Base(Protocol):
    """The tree of the image below the layer, such as a `TreeView`."""

    @property
    def root(self) -> BaseNode: ...


@dataclass(slots=True)
class Item:
    """A file of the layer; several names of one file have the same item.

    Attributes:
        entry: its metadata. The name in it is not used.
        content: the content of a regular file.
    """

    entry: TarEntry
    content: Content | None = None


class Places:
    """The names of a layer that is being built.

    Args:
        base: the tree of the image below it; `None` if there is none, or if it is not known.
        limited: whether more names than `MAX_NAMES` are refused.
        made: the metadata of directories that are made here, because a name needs them.

    Attributes:
        items: the files by their paths.
        whiteouts: the paths of what the layer deletes.
        opaque: the paths of directories that hide what the image has in them.
        made: the argument.
    """

    def __init__(
        self,
        base: Base | None = None,
        *,
        limited: bool = True,
        made: TarEntry = TarEntry(b"", EntryType.DIR, mode=0o755),  # noqa: B008 (only copies of it are changed)
    ) -> None:
        self.items: dict[bytes, Item] = {}
        self.whiteouts: set[bytes] = set()
        self.opaque: set[bytes] = set()
        self.base = base
        self.made = made
        self._limited = limited
        #: The names in each directory that are, or lead to, names of this layer.
        self._names: defaultdict[bytes, set[bytes]] = defaultdict(set)
        #: Where directories lead to, and the paths that this depends on.
        self._resolved: dict[bytes, bytes] = {}
        self._walked: set[bytes] = set()
        self._walked_bytes = 0
        #: The lengths of all names, with those of the directories above them, together.
        self._bytes = 0
        #: How many components of paths and links were looked up.
        self._steps = 0

    @property
    def is_empty(self) -> bool:
        """Whether the layer changes nothing."""
        return not (self.items or self.whiteouts or self.opaque)

    def put(self, path: bytes, item: Item) -> None:
        """Add a file, or replace what has the path. What is below it stays if both are directories."""
        if item.entry.type is EntryType.DIR:
            before = self.items.get(path)
            replaces = before is not None and before.entry.type is not EntryType.DIR
            if replaces:
                self._forget(path)
            if replaces or path in self.whiteouts:  # deleted and made again: without what the image has in it
                self.whiteouts.discard(path)
                self.opaque.add(path)
        else:
            self._forget(path)
        self._note(path)
        self.items[path] = item

    def delete(self, path: bytes) -> None:
        """Delete a path: of this layer what it has had, and what the image has."""
        self._forget(path)
        self._note(path)
        self.whiteouts.add(path)

    def clear(self, path: bytes) -> None:
        """Make a directory opaque: nothing that the image has in it is left."""
        self._note(path)
        self.opaque.add(path)
        self._forget_resolved()

    def find(self, path: bytes) -> TarEntry | BaseNode | None:
        """Return what is at a path that `resolve` has returned; `None` if there is nothing, or it is not known."""
        item = self.items.get(path)
        if item is not None:
            return item.entry
        if path in self.whiteouts or self.base is None:
            return None
        return self._below(path, self.base)

    def is_directory(self, path: bytes) -> bool:
        """Return whether there is a directory at a path, as far as it is known."""
        found = self.find(path)
        return (found is not None and found.type is EntryType.DIR) or (found is None and bool(self._names.get(path)))

    def missing(self) -> list[bytes]:
        """Return the directories that names of this layer need, and neither it nor the image has; only with a base."""
        if self.base is None:
            return []
        return [path for path, names in self._names.items() if names and path and self.find(path) is None]

    def parents(self, image: Base | None = None) -> Iterator[tuple[bytes, BaseNode]]:
        """Yield the directories above names of this layer that the image has and the layer has not.

        The tar of the layer needs them. Otherwise a program that keeps the files of each layer apart (Docker,
        containers/storage with overlayfs) makes them with metadata of its own, which hide the image's.

        Args:
            image: the tree of the image below the layer; without it, the `base`.
        """
        image = image if image is not None else self.base
        if image is None:
            return
        for path in {*self.opaque, *(path for path, names in self._names.items() if names)}:
            if path and path not in self.items and path not in self.whiteouts:
                node = self._below(path, image)
                if node is not None and node.type is EntryType.DIR and not node.implied:
                    yield path, node

    def resolve(self, name: bytes, *, last: bool = False) -> bytes:
        """Return the path that a name leads to, by symbolic links that stay within the root.

        Args:
            name: a name, absolute or relative to the root.
            last: whether a link at the end of the name is followed as well.

        Raises:
            InvalidSource: the name leaves the root, is too long, leads through too many links, or through a file.
        """
        path = clean_name(name)
        if leaves_root(path) or b".." in name.split(b"/"):
            raise InvalidSource(f"{os.fsdecode(name)!r} would leave the root of the image; use a name without '..'")
        if len(path) > MAX_NAME or b"\0" in path:
            raise InvalidSource(
                f"{os.fsdecode(name)[:80]!r}… is no path: it is longer than {MAX_NAME} bytes, or has a NUL"
            )
        directory, _, base = path.rpartition(b"/")
        if last or not base:
            return self._follow(path)
        known = self._resolved.get(directory)
        if known is None:
            known = self._resolved[directory] = self._follow(directory)
            if known:
                self._check_directory(known, name)
        return known + b"/" + base if known else base

    def _below(self, path: bytes, image: Base) -> BaseNode | None:
        """Return what the image below has at a path that the layer does not hide."""
        above = path
        while above:
            above = above.rpartition(b"/")[0]
            if above in self.opaque or above in self.whiteouts:
                return None
        node: BaseNode | None = image.root
        for part in path.split(b"/") if path else ():
            node = node.children.get(part) if node is not None else None
        return node

    def _check_directory(self, path: bytes, name: bytes) -> None:
        found = self.find(path)
        if found is not None and found.type is not EntryType.DIR:
            raise self._in_the_way(path, found.type, name)

    @staticmethod
    def _in_the_way(path: bytes, kind: EntryType, name: bytes) -> InvalidSource:
        return InvalidSource(
            f"{os.fsdecode(name)!r} cannot be made: {os.fsdecode(path)!r} in the image is a {kind.value}"
        )

    def _follow(self, path: bytes) -> bytes:
        """Return where a path leads to. This looks at each component once, however deep the path is."""
        pending = path.split(b"/")[::-1] if path else []
        self._count_steps(len(pending), path)
        # The directories on the way, each with what the image has there, if the layer does not hide it.
        way: list[tuple[bytes, BaseNode | None]] = [(b"", self.base.root if self.base is not None else None)]
        links = 0
        while pending:
            part = pending.pop()
            if part in (b"", b"."):
                continue
            if part == b"..":
                del way[max(1, len(way) - 1) :]
                continue
            here, node = way[-1]
            below = here + b"/" + part if here else part
            self._walked.add(below)
            self._walked_bytes += len(below)
            if node is not None:
                node = None if here in self.opaque or below in self.whiteouts else node.children.get(part)
            item = self.items.get(below)
            found = item.entry if item is not None else node
            if found is None or found.type is not EntryType.SYMLINK:
                if found is not None and pending and found.type is not EntryType.DIR:
                    raise self._in_the_way(below, found.type, path)
                way.append((below, node))
                continue
            links += 1
            if links > _MAX_LINKS or len(found.linkname) > MAX_NAME:
                raise InvalidSource(
                    f"{os.fsdecode(path)!r} leads through more than {_MAX_LINKS} symbolic links, or too long ones"
                )
            if found.linkname.startswith(b"/"):
                del way[1:]
            parts = [part for part in found.linkname.split(b"/") if part not in (b"", b".")]
            self._count_steps(len(parts), path)
            pending += parts[::-1]
        if self._walked_bytes > _MAX_WALKED:
            self._forget_resolved()
        return way[-1][0]

    def _count_steps(self, count: int, path: bytes) -> None:
        self._steps += count
        if self._limited and self._steps > MAX_STEPS:
            raise InvalidSource(
                f"{os.fsdecode(path)!r}: the names and links of one layer take more than {MAX_STEPS} steps to look up; "
                "make several layers"
            )

    def _note(self, path: bytes) -> None:
        """Note that the layer has a name, and has something below its directories."""
        if self._limited and len(self.items) + len(self.whiteouts) >= MAX_NAMES:
            raise InvalidSource(f"one layer cannot have more than {MAX_NAMES} names; make several layers")
        while path:
            directory, _, base = path.rpartition(b"/")
            names = self._names[directory]
            if base in names:
                break
            names.add(base)
            self._bytes += len(path)
            if self._bytes > MAX_BYTES:
                raise InvalidSource(f"the names of one layer have more than {MAX_BYTES >> 20} MiB; make several layers")
            if directory in self.whiteouts:  # something below a deleted name makes it a directory again
                self.whiteouts.discard(directory)
                self.opaque.add(directory)
                self.items.setdefault(directory, Item(replace(self.made)))
            path = directory

    def _forget(self, path: bytes) -> None:
        """Forget what the layer has at a path, and below it."""
        if path in self._walked:
            self._forget_resolved()
        for gone in self._all_below(path):
            self.items.pop(gone, None)
            self.whiteouts.discard(gone)
            self.opaque.discard(gone)
            self._names.pop(gone, None)
        directory, _, base = path.rpartition(b"/")
        if path:
            self._names[directory].discard(base)

    def _forget_resolved(self) -> None:
        self._resolved.clear()
        self._walked.clear()
        self._walked_bytes = 0

    def _all_below(self, path: bytes) -> Iterator[bytes]:
        pending = [path]
        while pending:
            here = pending.pop()
            pending += [here + b"/" + base if here else base for base in self._names.get(here, ())]
            yield here
