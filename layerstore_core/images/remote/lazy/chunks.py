"""Where the contents of a layer's files are in its blob: the chunks of a table of contents, in little memory."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from layerstore_core.base.limits import compressed_limit
from layerstore_core.errors import InvalidLayer

_DIGEST: Final = 32


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a file's content.

    Attributes:
        start: the offset in the blob of the compressed stream that has it.
        end: the offset after that stream.
        inner: the offset in what that stream decompresses to.
        size: its size in bytes.
        digest: its sha256; empty if only the file has one.
        zeros: whether it is of zeros only, and not in the blob.
    """

    start: int
    end: int
    inner: int
    size: int
    digest: bytes
    zeros: bool = False


class ChunkTable:
    """The chunks of all files of a layer. A file is known by its number.

    Args:
        end: the offset in the blob at which contents end.
        max_chunks: the most chunks.
    """

    def __init__(self, end: int, max_chunks: int) -> None:
        self._end = end
        self._max_chunks = max_chunks
        #: By file: its first chunk.
        self._first = array("Q")
        #: By chunk.
        self._starts = array("Q")
        self._sizes = array("Q")
        self._digests = bytearray()
        #: By chunk, where they are not 0; the chunks of zeros; and those that have no digest.
        self._inner: dict[int, int] = {}
        self._ends: dict[int, int] = {}
        self._zeros: set[int] = set()
        self._without_digest: set[int] = set()
        #: The digests of files with several chunks.
        self._files: dict[int, bytes] = {}
        self._sorted: Sequence[int] | None = None

    def __len__(self) -> int:
        """Return the number of chunks."""
        return len(self._starts)

    def add_file(self) -> int:
        """Begin with the next file; return its number."""
        self._first.append(len(self._starts))
        return len(self._first) - 1

    def add_chunk(self, start: int, end: int, inner: int, size: int, digest: bytes, *, zeros: bool = False) -> None:
        """Add a chunk of the file that was added last.

        Args:
            start: see `Chunk`.
            end: see `Chunk`; 0 if that is where the next stream begins.
            inner: see `Chunk`.
            size: see `Chunk`.
            digest: see `Chunk`.
            zeros: see `Chunk`.

        Raises:
            InvalidLayer: it is not in the blob, it comes before the chunk before it, or there are too many.
        """
        number = len(self._starts)
        if number >= self._max_chunks:
            raise InvalidLayer(f"its table of contents has more than {self._max_chunks} chunks of files")
        if not zeros:
            if start >= self._end or not (end == 0 or start < end <= self._end):
                raise InvalidLayer(f"its content is at byte {start} of the layer, where there are no contents")
            self._check_order(number, start, inner)
        self._starts.append(start)
        self._sizes.append(size)
        self._digests += digest or bytes(_DIGEST)
        if not digest:
            self._without_digest.add(number)
        if inner:
            self._inner[number] = inner
        if end:
            self._ends[number] = end
        if zeros:
            self._zeros.add(number)
        self._sorted = None

    def add_own(self, end: int, inner: int, size: int, digest: bytes) -> int:
        """Add the table of contents itself as a file of one chunk, which begins where contents end.

        Returns:
            The number of the file.
        """
        file = self.add_file()
        self._starts.append(self._end)
        self._sizes.append(size)
        self._digests += digest
        self._inner[len(self._starts) - 1] = inner
        self._ends[len(self._starts) - 1] = end
        self._sorted = None
        return file

    def finish_file(self, end: int, digest: bytes) -> None:
        """Note more of the file that was added last, after its chunks.

        Args:
            end: the offset in the blob after its last chunk; 0 if it is not known.
            digest: the digest of its whole content; empty if it has none.

        Raises:
            InvalidLayer: the end is not in the blob.
        """
        last = len(self._starts) - 1
        if end and last not in self._zeros:
            if not self._starts[last] < end <= self._end:
                raise InvalidLayer(f"its content ends at byte {end} of the layer, where there are no contents")
            self._ends.setdefault(last, end)
        if not digest:
            return
        numbers = self.chunks_of(len(self._first) - 1)
        if len(numbers) != 1 or not self._digest(numbers[0]):
            self._files[len(self._first) - 1] = digest

    def digest_of(self, file: int) -> bytes:
        """Return the digest of the whole content of a file; empty if it has none."""
        numbers = self.chunks_of(file)
        return self._files.get(file) or (self._digest(numbers[0]) if len(numbers) == 1 else b"")

    def chunks_of(self, file: int) -> range:
        """Return the numbers of a file's chunks, in their order."""
        if not 0 <= file < len(self._first):
            raise ValueError(f"this table of contents has no file of number {file}")
        after = self._first[file + 1] if file + 1 < len(self._first) else len(self._starts)
        return range(self._first[file], after)

    def chunk(self, number: int) -> Chunk:
        """Return a chunk by its number."""
        start, size = self._starts[number], self._sizes[number]
        if number in self._zeros:
            return Chunk(0, 0, 0, size, self._digest(number), zeros=True)
        if start == self._end:  # the table itself
            return Chunk(start, self._ends[number], self._inner.get(number, 0), size, self._digest(number))
        inner = self._inner.get(number, 0)
        # What compressed bytes can grow to is bounded, and a stream may go on with other files.
        end = min(self._ends.get(number, self._end), self._next(start), start + compressed_limit(inner + size))
        return Chunk(start, end, inner, size, self._digest(number))

    def _check_order(self, number: int, start: int, inner: int) -> None:
        """Refuse a chunk before those that the file has: so no byte of the blob is read twice for one file."""
        before = number - 1
        first = self._first[-1]
        while before >= first and before in self._zeros:
            before -= 1
        if before < first:
            return
        last = self._starts[before]
        if start == last:
            in_order = inner >= self._inner.get(before, 0) + self._sizes[before]
        else:
            in_order = start >= max(last + 1, self._ends.get(before, 0))
        if not in_order:
            raise InvalidLayer("the chunks of its content overlap, or are not in their order")

    def _digest(self, number: int) -> bytes:
        if number in self._without_digest:
            return b""
        return bytes(self._digests[number * _DIGEST : (number + 1) * _DIGEST])

    def _next(self, start: int) -> int:
        """Return where the next stream after an offset begins, or the contents end."""
        if self._sorted is None:
            in_order = all(one <= other for one, other in pairwise(self._starts))
            self._sorted = self._starts if in_order else array("Q", sorted(self._starts))
        found = bisect_right(self._sorted, start)
        return self._sorted[found] if found < len(self._sorted) else self._end
