"""Assembly by the kernels: the result of `assemble`, in blocks of memory that threads fill."""

from __future__ import annotations

import mmap
import os
from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Final, Self

from layerstore_core.base.descriptors import Descriptor
from layerstore_core.base.threads import submit, wait_for_all
from layerstore_core.tarsplit.assemble import CHUNK, assemble
from layerstore_core.tarsplit.codec import FileEntry, Piece, Segment
from layerstore_core.tarsplit.sources import Sources
from layerstore_core.tree.files import TreeFiles

#: A chunk from `assemble_blocks` keeps its content until this many more chunks were requested.
BLOCKS_KEPT: Final = 6
#: Blocks that are filled in advance.
_AHEAD: Final = 4
#: The source of a piece, as the kernel writes it: the numbers, and the bytes.
_NUMBERS: Final = 4
_SOURCE: Final = 8 * _NUMBERS


def assemble_blocks(
    batches: Iterable[Sequence[Piece]], files: TreeFiles, sources: Sources | None = None
) -> Iterator[bytes | memoryview]:
    """Assemble a tar as `assemble` does, but fill several blocks at once.

    Args:
        batches: the decoded tar-split lines, as `decode_blocks` returns them with the kernels.
        files: the layer's files.
        sources: gets the files that contents in a chunk came from, before the chunk is yielded.

    Yields:
        The bytes of the tar, in chunks of up to a MiB. The memory of a chunk is used again once `BLOCKS_KEPT` more
        chunks were requested.

    Raises:
        IntegrityError: as `assemble`.
    """
    with _Blocks(files, sources) as blocks:
        try:
            for batch in batches:
                if isinstance(batch, list):  # unusual lines
                    yield from blocks.finished()
                    yield from blocks.plain(batch)
                else:
                    yield from _assemble_pieces(batch, blocks)
        except Exception:
            yield from blocks.finished()  # what comes before the damage is yielded first
            raise
        yield from blocks.finished()


def _assemble_pieces(pieces: Any, blocks: _Blocks) -> Iterator[bytes | memoryview]:
    """Yield the bytes of what the kernel has decoded, as far as they are there yet."""
    first = 0
    while first < len(pieces):
        last, size = pieces.plan(first, CHUNK)
        if last > first:
            blocks.start(pieces, first, last, size)
            yield from blocks.finished(_AHEAD)
        else:  # it is larger than a block
            last += 1
            yield from blocks.finished()
            yield from blocks.plain([pieces[first]])
        first = last


def _assemble_plainly(pieces: Iterable[Piece], files: TreeFiles) -> Iterator[bytes]:
    for segment, name, size, crc in pieces:
        yield from assemble((Segment(segment), FileEntry(name, size, crc)), files)


class _Block:
    """Part of the tar that a thread fills.

    Args:
        pieces: what the kernel has decoded.
        first: number of the part's first piece.
        last: number of the piece after its last.
        memory: where its bytes belong.
        root: the directory of the layer's files.
        with_sources: whether the sources of its contents are wanted.

    Attributes:
        filling: the call that fills it. Until its end a thread uses the memory, and the directory.
    """

    def __init__(
        self, pieces: Any, first: int, last: int, memory: memoryview, root: Descriptor, *, with_sources: bool
    ) -> None:
        self._pieces = pieces
        self._first = first
        self._last = last
        self._root = root
        self._memory = memory
        self._sources = memoryview(array("q", bytes(_SOURCE * (last - first)))) if with_sources else None
        self.filling = submit(partial(self._fill, first, 0))

    def content(self, files: TreeFiles, offset: int, sources: Sources | None) -> memoryview:
        """Wait until it is filled, and do what the kernel has declined.

        Args:
            files: the layer's files.
            offset: where the block begins in the tar.
            sources: gets the files that its contents came from.

        Raises:
            IntegrityError: as `assemble`.
        """
        first, begin = self._first, 0
        piece, size = self.filling.result()
        while True:
            if sources is not None and self._sources is not None:
                sources.add(
                    offset + begin, self._sources[_NUMBERS * (first - self._first) : _NUMBERS * (piece - self._first)]
                )
            if piece == self._last:
                return self._memory
            begin += size
            for chunk in _assemble_plainly([self._pieces[piece]], files):
                self._memory[begin : begin + len(chunk)] = chunk
                begin += len(chunk)
            first = piece + 1
            piece, size = self._fill(first, begin)

    def _fill(self, first: int, begin: int) -> tuple[int, int]:
        """Have the kernel fill the memory from `begin` on, with the pieces from `first` on."""
        sources = () if self._sources is None else (self._sources[_NUMBERS * (first - self._first) :],)
        filled: tuple[int, int] = self._pieces.fill(
            first, self._last, self._root.number, self._memory[begin:], *sources
        )
        return filled


class _Blocks:
    """The blocks that are being filled, in the order of the tar; a context manager that waits for them."""

    def __init__(self, files: TreeFiles, sources: Sources | None) -> None:
        self._files = files
        self._sources = sources
        # A descriptor of their own: threads may use it until the last block is filled.
        self._root = Descriptor(os.dup, files.fd)
        # The kernel allocates only the pages that are used.
        number = BLOCKS_KEPT + _AHEAD
        self._memory = memoryview(mmap.mmap(-1, number * CHUNK, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        self._started = 0
        self._waiting: deque[_Block] = deque()
        self._failed = False
        #: How many bytes of the tar were yielded.
        self._offset = 0

    def start(self, pieces: Any, first: int, last: int, size: int) -> None:
        """Have a thread fill the next block with the pieces from `first` to before `last`, of `size` bytes."""
        begin = self._started % (BLOCKS_KEPT + _AHEAD) * CHUNK
        self._started += 1
        memory = self._memory[begin : begin + size]
        self._waiting.append(_Block(pieces, first, last, memory, self._root, with_sources=self._sources is not None))

    def finished(self, most: int = 0) -> Iterator[memoryview]:
        """Yield the contents of the first blocks, until at most `most` are left; nothing after one that is damaged."""
        while len(self._waiting) > most and not self._failed:
            self._failed = True
            content = self._waiting[0].content(self._files, self._offset, self._sources)
            self._failed = False
            self._waiting.popleft()
            self._offset += len(content)
            if content:
                yield content

    def plain(self, pieces: Iterable[Piece]) -> Iterator[bytes]:
        """Yield the bytes of pieces that go into no block."""
        for chunk in _assemble_plainly(pieces, self._files):
            self._offset += len(chunk)
            yield chunk

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            wait_for_all(block.filling for block in self._waiting)
        finally:
            self._root.close()
