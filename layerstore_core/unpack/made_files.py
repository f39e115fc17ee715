"""The regular files that a layer has made, for drivers that do more with them than to keep them.

While a layer is unpacked, the digest of each file's content is taken from the tar, and kept by the file's path. When
all entries are applied, each file that is still there is passed to the driver's function. So a driver need not read a
file again to know its content.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from layerstore_core.base.paths import clean_name
from layerstore_core.tar.run import FILE, HARDLINK, Run

if TYPE_CHECKING:
    from layerstore_core.tree.root import Directory, Root

#: What is kept instead of the digest of a sparse file: only its data is in the tar.
_SPARSE: Final = b""


@dataclass(frozen=True, slots=True)
class MadeFile:
    """A regular file that a layer has made: complete, with all its metadata.

    The descriptor is open while the function that gets this object runs, and no longer.

    Attributes:
        name: the file's path, relative to the root of the tree.
        others: the paths of its other names in the tree that the layer has made: its hard links.
        digest: the sha256 of its content, 64 hex digits; `None` for a file that is sparse in the tar.
        status: its status: size, mode, owner, times, inode.
        directory: a descriptor of the directory that has it.
        base: its name in that directory.
    """

    name: bytes
    others: tuple[bytes, ...]
    digest: str | None
    status: os.stat_result
    directory: int
    base: bytes
    _tree: Root = field(repr=False, compare=False)

    @property
    def size(self) -> int:
        """The length of its content, in bytes."""
        return self.status.st_size

    def open(self) -> int:
        """Open the file for reading, and return a descriptor, which the caller has to close.

        Raises:
            OSError: it cannot be opened.
        """
        return os.open(self.base, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.directory)

    def replace(self, source: str | bytes, *, src_dir_fd: int | None = None) -> None:
        """Replace the file by another one, under all of its names: they become hard links to it.

        The other file gets nothing of this one: content, mode, owner, times and attributes must be the same already.

        Args:
            source: the path of the other file, on the same file system.
            src_dir_fd: a descriptor of the directory that a relative path begins in.

        Raises:
            OSError: the names cannot be replaced, such as with EMLINK if the other file would have more names than a
                file can have. Then none of them is, unless rename(2) fails.
        """
        asides: list[tuple[bytes, bytes, bytes]] = []
        try:
            for path in (self.name, *self.others):
                above, _, base = path.rpartition(b"/")
                aside = b".wh..wh.layerstore-" + os.urandom(8).hex().encode()
                directory = self._tree.enter(above).fd
                os.link(source, aside, src_dir_fd=src_dir_fd, dst_dir_fd=directory, follow_symlinks=False)
                asides.append((above, aside, base))
            for above, aside, base in asides:
                directory = self._tree.enter(above).fd
                os.rename(aside, base, src_dir_fd=directory, dst_dir_fd=directory)
        finally:
            # After an error, or if both were names of one file already: then rename(2) has done nothing.
            for above, aside, _ in asides:
                with suppress(FileNotFoundError):
                    os.unlink(aside, dir_fd=self._tree.enter(above).fd)


class MadeFiles:
    """Record of the regular files of one layer, with the digests of their contents. It needs some 250 bytes for each.

    Args:
        tree: the tree that the layer is unpacked into.
        on_file: the driver's function.
    """

    def __init__(self, tree: Root, on_file: Callable[[MadeFile], object]) -> None:
        self._tree = tree
        self._on_file = on_file
        #: The digest of the last file that was made at each path.
        self._digests: dict[bytes, bytes] = {}
        #: The paths that hard-link entries have made.
        self._linked: set[bytes] = set()

    def add(self, path: bytes, digest: bytes | None) -> None:
        """Record that a file was made at a path. `digest` is that of its content, `None` if it is not known."""
        self._linked.discard(path)
        self._digests[path] = digest or _SPARSE

    def add_link(self, path: bytes, target: bytes) -> None:
        """Record that another name was made at a path, for what the tree has at `target`."""
        digest = self._digests.get(target)
        if digest is None:  # a parent's file, or no regular file
            self._digests.pop(path, None)
            return
        self._digests[path] = digest
        self._linked |= {path, target}

    def add_run(self, run: Run, first: int, end: int) -> None:
        """Record the regular files and hard links among entries of a run, which are made at their own paths."""
        for index in range(first, end):
            fields = run.entry(index)
            if fields[0] == FILE:
                self.add(run.path(index), hashlib.sha256(run.payload(index)).digest())
            elif fields[0] == HARDLINK:
                self.add_link(run.path(index), clean_name(fields[8]))

    def report(self) -> None:
        """Pass each file that is still there to the driver's function. All entries must have been applied.

        Raises:
            Exception: the driver's function has raised it.
        """
        others = self._names_of_links()
        done: set[bytes] = set()
        for path, digest in self._digests.items():
            if path in done:
                continue
            found = self._find(path)
            if found is None:
                continue
            directory, base, status = found
            names = others.get((status.st_dev, status.st_ino), ()) if status.st_nlink > 1 else ()
            done.update(names)
            rest = tuple(name for name in names if name != path)
            file = MadeFile(path, rest, digest.hex() or None, status, directory.fd, base, self._tree)
            with self._tree.pinned(directory):
                try:
                    self._on_file(file)
                except Exception as error:
                    error.add_note(f"while the driver handled {os.fsdecode(path)!r} in {os.fsdecode(self._tree.path)}")
                    raise

    def _names_of_links(self) -> dict[tuple[int, int], list[bytes]]:
        """Return the names of each file that hard-link entries have given names to, by device and inode."""
        names: dict[tuple[int, int], list[bytes]] = {}
        for path in sorted(self._linked & self._digests.keys()):
            found = self._find(path)
            if found is not None:
                names.setdefault((found[2].st_dev, found[2].st_ino), []).append(path)
        return names

    def _find(self, path: bytes) -> tuple[Directory, bytes, os.stat_result] | None:
        """Return where a file is, and its status; `None` if there is no regular file at exactly this path."""
        above, _, base = path.rpartition(b"/")
        try:
            directory = self._tree.enter(above)
            status = os.stat(base, dir_fd=directory.fd, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return (directory, base, status) if directory.path == above and stat.S_ISREG(status.st_mode) else None


def hashed(chunks: Iterator[memoryview], digest: hashlib._Hash) -> Iterator[memoryview]:
    """Yield chunks, and add each to a digest."""
    for chunk in chunks:
        digest.update(chunk)
        yield chunk
