"""Assembly in blocks: what `assemble` gives, with fewer calls for each file, and with another worker to read files."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from layerstore_core.tarsplit.assemble import CHUNK, DescriptorGetter, assemble
from layerstore_core.tarsplit.codec import FileEntry, Piece, Segment
from layerstore_core.tarsplit.read_files import FileToRead, fill

if TYPE_CHECKING:
    from layerstore_core.tarsplit.read_worker import ReadWorker

#: What `assemble_blocks` has given stays what it is until so many more chunks are asked for.
BLOCKS_KEPT: Final = 6
#: Blocks that are put together ahead of what is given, while another worker reads the files of one before them.
_AHEAD: Final = 4
#: Room for a block: what it is not yet given out with, a segment and a file; the rest is for an order of its files.
_ROOM: Final = 4 * CHUNK
#: How much memory `assemble_blocks` wants to share with another worker, in bytes.
SHARED: Final = (BLOCKS_KEPT + _AHEAD) * _ROOM


class _Block(NamedTuple):
    """A chunk of the tar whose files are read, or are being read."""

    chunk: memoryview
    files: list[FileToRead]
    #: Another worker was told to read them.
    by_worker: bool


def assemble_blocks(
    batches: Iterable[Iterable[Piece]], files: DescriptorGetter, worker: ReadWorker | None = None
) -> Iterator[bytes | memoryview]:
    """What `assemble` gives; files are read to where they stand in the tar.

    Args:
        batches: what the tar-split lines say, as `decode_blocks` gives it.
        files: the layer's files.
        worker: reads files, too; has `SHARED` memory.

    Yields:
        The bytes of the tar, in chunks of about a MiB. The memory of a chunk is used again when so many as
        `BLOCKS_KEPT` more are asked for.

    Raises:
        IntegrityError: as `assemble`.
    """
    import mmap

    # What is not used of it the kernel never gives us.
    memory = mmap.mmap(-1, SHARED, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) if worker is None else worker.memory
    view = memoryview(memory)
    waiting: deque[_Block] = deque()

    def start_reading() -> None:
        chunk = view[start:filled]
        by_worker = bool(to_read) and worker is not None and worker.has_room
        if by_worker:
            assert worker is not None
            by_worker = worker.submit(start, filled, start + _ROOM, to_read)
        if not by_worker:
            fill(chunk, to_read, files.open_fd)
        waiting.append(_Block(chunk, to_read, by_worker))

    def finished(most: int) -> Iterator[memoryview]:
        """The chunks that are whole, and as many more that there are at `most` left."""
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
                        waiting.clear()  # nothing is given that comes after it
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
        yield from finished(0)  # what is before the damage is given first
        raise
    yield from finished(0)
