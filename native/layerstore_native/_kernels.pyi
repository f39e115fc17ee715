"""The kernels, as Python sees them."""

from collections.abc import Iterable
from typing import final

from _typeshed import ReadableBuffer

def crc64(data: ReadableBuffer, checksum: int = 0, /) -> int:
    """Return the CRC-64/GO-ISO of a buffer, continued from an earlier result (0: of none)."""

def scan(buffer: bytes, position: int, padding: int, offset: int, max_entries: int, max_bytes: int, /) -> Run:
    """Scan the plain entries of a piece of a tar, up to the first that is not plain or not wholly in the buffer.

    Args:
        buffer: the piece.
        position: the index in it where the payload of the entry before ends.
        padding: the number of bytes of padding after that.
        offset: the place of the piece in the tar.
        max_entries: the most entries of the run.
        max_bytes: no entry begins more than so many bytes after `position`.
    """

def lines(run: Run, position: int, /) -> bytearray:
    """Return the tar-split lines of a run, two for each entry; the first has the given position."""

@final
class Run:
    """Plain entries of a tar that follow each other: see `layerstore_core.tar.run.Run`."""

    @property
    def position(self) -> int: ...
    @property
    def padding(self) -> int: ...
    @property
    def needed(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def kinds(self) -> list[tuple[int, int, int, int, int]]: ...
    def __len__(self) -> int: ...
    def entry(
        self, index: int, /
    ) -> tuple[int, bytes, int, int, int, int, int, int, bytes, dict[bytes, bytes] | None, int]: ...
    def segment(self, index: int, /) -> bytes: ...
    def payload(self, index: int, /) -> memoryview: ...
    def path(self, index: int, /) -> bytes: ...
    def groups(self) -> list[tuple[int, int, int, bytes]]: ...

@final
class Names:
    """A set of names, of which it keeps 64-bit hashes with a random key: see `layerstore_core.base.nameset.NameSet`."""

    def __init__(self) -> None: ...
    def add(self, name: bytes, /) -> bool: ...
    def update(self, names: Iterable[bytes], /) -> None: ...
    def add_run(self, run: Run, /) -> bool:
        """Add the paths of a run if all are new and none is twice in it; return whether they were added."""

    def add_empty(self, run: Run, /) -> None:
        """Add the paths of the entries of a run that have no payload, whether they are new or not."""

    def __contains__(self, name: bytes, /) -> bool: ...
    def __len__(self) -> int: ...
