"""Assembly in blocks: the result of `assemble`, with fewer calls for each file, and with a worker that reads files."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from layerstore_core.tarsplit.assemble import CHUNK, DescriptorGetter, assemble
from layerstore_core.tarsplit.codec import FileEntry, Piece, Segment
from layerstore_core.tarsplit.read_files import FileToRead, fill

if TYPE_CHECKING:
    from layerstore_core.tarsplit.read_worker import ReadWorker

#: A chunk from `assemble_blocks` keeps its content until this many more chunks were requested.
BLOCKS_KEPT: Final = 6
#: Blocks that are assembled in advance, while the worker reads the files of an earlier one.
_AHEAD: Final = 4
#: Memory of a block, in bytes: less than a chunk, plus a segment and a file. The rest is for the order of its files.
_ROOM: Final = 4 * CHUNK
#: Memory that `assemble_blocks` shares with the worker, in bytes.
SHARED: Final = (BLOCKS_KEPT + _AHEAD) * _ROOM


class _Block(NamedTuple):
    """Chunk of the tar whose files were read, or are being read."""

    chunk: memoryview
    files: list[FileToRead]
    #: Whether the worker reads them.
    by_worker: bool


def assemble_blocks(
    batches: Iterable[Iterable[Piece]], files: DescriptorGetter, worker: ReadWorker | None = None
) -> Iterator[bytes | memoryview]:
    """Assemble a tar as `assemble` does, but read files directly to their places in it.

    Args:
        batches: the decoded tar-split lines, as `decode_blocks` returns them.
        files: the layer's files.
        worker: reads a part of the files; has `SHARED` bytes of memory.

    Yields:
        The bytes of the tar, in chunks of about a MiB. The memory of a chunk is used again once `BLOCKS_KEPT` more
        chunks were requested.

    Raises:
        IntegrityError: as `assemble`.
    """
    import mmap

    # The kernel allocates only the pages that are used.
    memory = mmap.mmap(-1, SHARED, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) if worker is None else worker.memory
    view = memoryview(memory)
    waiting: deque[_Block] = deque()

    def start_reading() -> None:
        """Have the worker read the current block's files, or read them here."""
        chunk = view[start:filled]
        by_worker = bool(to_read) and worker is not None and worker.has_room
        if by_worker:
            assert worker is not None
            by_worker = worker.submit(start, filled, start + _ROOM, to_read)
        if not by_worker:
            fill(chunk, to_read, files.open_fd)
        waiting.append(_Block(chunk, to_read, by_worker))

    def finished(most: int) -> Iterator[memoryview]:
        """Yield the chunks that are complete; wait for more until at most `most` are left."""
        while waiting:
            chunk, block_files, by_worker = waiting[0]
            if by_worker:
                assert worker is not None
                succeeded = worker.outcome(wait=len(waiting) > most)
                if succeeded is None:
                    return
                if not succeeded:
                    try:
                        fill(chunk, block_files, files.open_fd)
                    except BaseException:
                        waiting.clear()  # the chunks after it are not yielded
                        raise
            waiting.popleft()
            yield chunk

    number = start = filled = 0
    to_read: list[FileToRead] = []
    try:
        for batch in batches:
            for segment, name, size, expected in batch:
                if size > CHUNK or len(segment) > CHUNK:
                    if filled > start:
                        start_reading()
                        number = (number + 1) % (BLOCKS_KEPT + _AHEAD)
                        start = filled = number * _ROOM
                        to_read = []
                    yield from finished(0)
                    yield from assemble([Segment(segment), FileEntry(name, size, expected)], files)
                    continue
                begin = filled + len(segment)
                memory[filled:begin] = segment
                filled = begin
                if size:
                    filled += size
                    to_read.append((name, begin - start, filled - start, expected))
                if filled - start >= CHUNK:
                    start_reading()
                    number = (number + 1) % (BLOCKS_KEPT + _AHEAD)
                    start = filled = number * _ROOM
                    to_read = []
                    yield from finished(_AHEAD)
        if filled > start:
            start_reading()
    except Exception:
        yield from finished(0)  # what comes before the damage is yielded first
        raise
    yield from finished(0)
