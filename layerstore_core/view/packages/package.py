"""One installed package, and the reading of a file that lists packages."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import BinaryIO, Final, NamedTuple

from layerstore_core.view.nodes import FileNode
from layerstore_core.view.tree import TreeView

#: The most bytes of a database. That of a desktop with 5,000 packages has 10 MB.
MAX_DATABASE: Final = 256 << 20
#: The most packages of a database, and the most bytes of a name or a version.
MAX_PACKAGES: Final = 100_000
MAX_TEXT: Final = 4096
#: The most bytes of a line, which has a list of dependencies at worst.
_MAX_LINE: Final = 1 << 20


class Package(NamedTuple):
    """An installed package.

    Attributes:
        system: the package manager: `dpkg`, `apk` or `rpm`.
        name: its name.
        version: its version, as the package manager writes it.
        architecture: as the package manager names it; may be empty.
        size: the bytes that it takes when installed, as it says itself: dpkg counts in KiB; 0 if it does not say.
    """

    system: str
    name: str
    version: str
    architecture: str
    size: int


def open_database(view: TreeView, path: bytes, limit: int = MAX_DATABASE) -> BinaryIO | None:
    """Open a database in a tree; `None` if there is none, or if it is larger than a limit in bytes.

    Raises:
        IntegrityError: the layer is damaged.
    """
    try:
        real, node = view.find(path)
    except OSError:
        return None
    if not isinstance(node, FileNode) or node.size > limit:
        return None
    return view.open_node(node, real)


def open_first(view: TreeView, paths: Iterable[bytes]) -> BinaryIO | None:
    """Open the first database that a tree has: one place is often a link to another; as `open_database`."""
    return next((file for path in paths if (file := open_database(view, path)) is not None), None)


def read_paragraphs(file: BinaryIO, wanted: Collection[str]) -> Iterator[dict[str, str]]:
    """Yield the paragraphs of a file of `name: value` lines, which empty lines separate.

    Lines that continue another one, and malformed ones, are left out: no field that is used has several lines. What is
    longer than a line can be is left out, too, and a value is cut after `MAX_TEXT` bytes.

    Args:
        file: an open database; it is read to its end and closed.
        wanted: the names of the fields to return.
    """
    with file:
        fields: dict[str, str] = {}
        continues = False
        while line := file.readline(_MAX_LINE):
            begins, continues = not continues, not line.endswith(b"\n")
            if not begins:
                continue
            if line in (b"\n", b"\r\n"):
                if fields:
                    yield fields
                fields = {}
                continue
            name, colon, value = line.partition(b":")
            key = name.decode(errors="replace") if colon and len(name) <= MAX_TEXT else ""
            if key in wanted:
                fields[key] = value.strip()[:MAX_TEXT].decode(errors="replace")
        if fields:
            yield fields


def whole_number(text: str) -> int:
    """Return a number of at most 18 digits; 0 if the text is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else 0
