"""Paths in a view, which are used like those of pathlib."""

from __future__ import annotations

import fnmatch
import io
import os
import re
from collections.abc import Iterator, Mapping
from functools import total_ordering
from typing import BinaryIO, Final, Literal, Protocol, TextIO, overload

from layerstore_core.tar.entry import EntryType
from layerstore_core.view.nodes import Node

_SPECIAL: Final = re.compile(r"[*?\[]")


class Files(Protocol):
    """The methods of a view by which paths read it; see `TreeView`."""

    def find(self, path: bytes, *, follow: bool = True) -> tuple[bytes, Node]: ...

    def list_directory(self, path: bytes) -> Mapping[bytes, Node]: ...

    def readlink(self, path: bytes) -> bytes: ...

    def status(self, node: Node) -> os.stat_result: ...

    def open(self, path: bytes) -> BinaryIO: ...


@total_ordering
class ViewPath:
    """A path in a view, which has the methods of pathlib.Path that read.

    It always begins at the root of the view. Symbolic links are followed inside the view, and `..` does not lead out of
    it. Names that are not UTF-8 have surrogates, as with `os.fsdecode`.

    Attributes:
        view: the view.
    """

    __slots__ = ("_path", "view")

    def __init__(self, view: Files, path: str | bytes = "/") -> None:
        self.view = view
        self._path = b"/" + b"/".join(part for part in os.fsencode(path).split(b"/") if part not in (b"", b"."))

    def __truediv__(self, other: str | bytes) -> ViewPath:
        name = os.fsencode(other)
        return ViewPath(self.view, name if name.startswith(b"/") else self._path + b"/" + name)

    def __str__(self) -> str:
        return os.fsdecode(self._path)

    def __bytes__(self) -> bytes:
        return self._path

    def __repr__(self) -> str:
        return f"ViewPath({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ViewPath) and (self.view, self._path) == (other.view, other._path)

    def __lt__(self, other: ViewPath) -> bool:
        return self._path < other._path

    def __hash__(self) -> int:
        return hash(self._path)

    # The path itself

    @property
    def name(self) -> str:
        """The last component; empty for the root."""
        return os.fsdecode(self._path.rpartition(b"/")[2])

    @property
    def suffix(self) -> str:
        """The part of the name from its last dot on; empty if it has none, or only one at its beginning or end."""
        stem, dot, end = self.name.rpartition(".")
        return dot + end if stem and end else ""

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return self.name.removesuffix(self.suffix) if self.suffix else self.name

    @property
    def parts(self) -> tuple[str, ...]:
        """The components: the first is `/`."""
        return ("/", *(part for part in str(self).split("/") if part))

    @property
    def parent(self) -> ViewPath:
        """The path without its last component; the root is its own parent."""
        return ViewPath(self.view, self._path.rpartition(b"/")[0])

    def resolve(self) -> ViewPath:
        """Return the path of the same file without symbolic links and `..`.

        Raises:
            FileNotFoundError, NotADirectoryError: there is no such file.
            OSError: with `ELOOP` for a loop of links.
        """
        return ViewPath(self.view, self.view.find(self._path)[0])

    # Metadata

    def node(self, *, follow_symlinks: bool = True) -> Node:
        """Return the file with all its metadata; errors as for `resolve`."""
        return self.view.find(self._path, follow=follow_symlinks)[1]

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Return the status of the file, as `os.stat` does; errors as for `resolve`.

        Times of access and change are not known: they are the time of modification.
        """
        return self.view.status(self.node(follow_symlinks=follow_symlinks))

    def lstat(self) -> os.stat_result:
        """Return the status of the file itself, even if it is a symbolic link; errors as for `resolve`."""
        return self.stat(follow_symlinks=False)

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        """Return whether there is a file of this path."""
        return self._type(follow_symlinks=follow_symlinks) is not None

    def is_dir(self) -> bool:
        """Return whether it is a directory, or a symbolic link to one."""
        return self._type() is EntryType.DIR

    def is_file(self) -> bool:
        """Return whether it is a regular file, or a symbolic link to one."""
        return self._type() is EntryType.FILE

    def is_symlink(self) -> bool:
        """Return whether it is a symbolic link."""
        return self._type(follow_symlinks=False) is EntryType.SYMLINK

    def readlink(self) -> str:
        """Return the target of a symbolic link, as it is.

        Raises:
            OSError: there is no such file, or with `EINVAL`: it is no symbolic link.
        """
        return os.fsdecode(self.view.readlink(self._path))

    # Content

    @overload
    def open(self, mode: Literal["r", "rt"] = "r", *, encoding: str = "utf-8", errors: str | None = None) -> TextIO: ...

    @overload
    def open(self, mode: Literal["rb"], *, encoding: str = "utf-8", errors: str | None = None) -> BinaryIO: ...

    def open(self, mode: str = "r", *, encoding: str = "utf-8", errors: str | None = None) -> TextIO | BinaryIO:
        """Open a regular file for reading; see `TreeView.open`.

        Args:
            mode: `"r"` for text, `"rb"` for bytes.
            encoding: of the text.
            errors: what is done with bytes that are no text, as for Python's `open`.

        Raises:
            ValueError: the mode is another one.
        """
        if mode not in ("r", "rt", "rb"):
            raise ValueError(f"the mode {mode!r} is not possible: a view is for reading ('r' or 'rb')")
        file = self.view.open(self._path)
        return file if mode == "rb" else io.TextIOWrapper(file, encoding, errors)

    def read_bytes(self) -> bytes:
        """Return the content of a regular file; errors as for `open`."""
        with self.open("rb") as file:
            return file.read()

    def read_text(self, encoding: str = "utf-8", errors: str | None = None) -> str:
        """Return the content of a regular file as text; errors as for `open`."""
        with self.open(encoding=encoding, errors=errors) as file:
            return file.read()

    # Directories

    def iterdir(self) -> Iterator[ViewPath]:
        """Yield the files of a directory, sorted by name.

        Raises:
            FileNotFoundError, NotADirectoryError: there is no such directory.
        """
        for name in sorted(self.view.list_directory(self._path)):
            yield self / name

    def walk(self) -> Iterator[tuple[ViewPath, list[str], list[str]]]:
        """Yield each directory from this one on, with the names of its directories and of its other files.

        No symbolic link below this path is followed. As with pathlib.Path.walk, names of directories that the caller
        removes are not visited.
        """
        pending = [self]
        while pending:
            here = pending.pop()
            children = self.view.list_directory(bytes(here))
            names = {os.fsdecode(name): child.type is EntryType.DIR for name, child in sorted(children.items())}
            directories = [name for name, is_directory in names.items() if is_directory]
            yield here, directories, [name for name, is_directory in names.items() if not is_directory]
            pending += [here / name for name in reversed(directories)]

    def glob(self, pattern: str) -> Iterator[ViewPath]:
        """Yield the files below this directory whose paths match a pattern, sorted, as pathlib.Path.glob does.

        Args:
            pattern: `*`, `?` and `[…]` match within a component; `**` is any number of directories, without following
                symbolic links.

        Raises:
            ValueError: the pattern is empty, or begins with a slash.
        """
        if not pattern or pattern.startswith("/"):
            raise ValueError(f"the pattern {pattern!r} is not possible: it is relative to a directory, and not empty")
        found = {self}
        for part in (part for part in pattern.split("/") if part not in ("", ".")):
            found = {path for one in found for path in _matching(one, part)}
        yield from sorted(found)

    def rglob(self, pattern: str) -> Iterator[ViewPath]:
        """Yield what `glob` yields for `**/` and the pattern."""
        return self.glob(f"**/{pattern}")

    def _type(self, *, follow_symlinks: bool = True) -> EntryType | None:
        try:
            return self.node(follow_symlinks=follow_symlinks).type
        except OSError:
            return None


def _matching(directory: ViewPath, part: str) -> Iterator[ViewPath]:
    """Yield the paths that one component of a pattern leads to from a directory."""
    if not _SPECIAL.search(part):
        if (directory / part).exists(follow_symlinks=False):
            yield directory / part
        return
    if not directory.is_dir():
        return
    if part == "**":
        for here, _, _ in directory.walk():
            yield here
        return
    matches = re.compile(fnmatch.translate(part)).match
    for name in directory.view.list_directory(bytes(directory)):
        if matches(os.fsdecode(name)):
            yield directory / name
