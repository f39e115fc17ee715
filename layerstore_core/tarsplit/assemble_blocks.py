"""Assembly in blocks: what `assemble` gives, with fewer calls for each file, and with another process to read files."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from layerstore_core.tarsplit.assemble import CHUNK, DescriptorGetter, assemble
from layerstore_core.tarsplit.codec import FileEntry, Piece, Segment
from layerstore_core.tarsplit.read_files import FileToRead, fill

if TYPE_CHECKING:
    from layerstore_core.tarsplit.read_worker import ReaderProcess

#: What `assemble_blocks` has given stays what it is until so many more chunks are asked for.
BLOCKS_KEPT: Final = 6
#: Blocks that are put together ahead of what is given, while another process reads the files of one before them.
_AHEAD: Final = 4
#: Room for a block: what it is not yet given out with, a segment and a file; the rest is for an order of its files.
_ROOM: Final = 4 * CHUNK
#: How much memory `assemble_blocks` wants to share with another process, in bytes.
SHARED: Final = (BLOCKS_KEPT + _AHEAD) * _ROOM


class _Block(NamedTuple):
    """A chunk of the tar whose files are read, or are being read."""

    chunk: memoryview
    files: list[FileToRead]
    #: Another process was told to read them.
    elsewhere: bool


def assemble_blocks(
    batches: Iterable[Iterable[Piece]], files: DescriptorGetter, process: ReaderProcess | None = None
) -> Iterator[bytes | memoryview]:
    """What `assemble` gives; files are read to where they stand in the tar.

    Args:
        batches: what the tar-split lines say, as `decode_blocks` gives it.
        files: the layer's files.
        process: reads files, too; has `SHARED` memory.

    Yields:
        The bytes of the tar, in chunks of about a MiB. The memory of a chunk is used again when so many as
        `BLOCKS_KEPT` more are asked for.

    Raises:
        IntegrityError: as `assemble`.
    """
    import mmap

    # What is not used of it the kernel never gives us.
    memory = mmap.mmap(-1, SHARED, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) if process is None else process.memory
    view = memoryview(memory)
    waiting: deque[_Block] = deque()

    def hand_over() -> None:
        chunk = view[start:filled]
        elsewhere = bool(to_read) and process is not None and process.has_room
        if elsewhere:
            assert process is not None
            elsewhere = process.give(start, filled, start + _ROOM, to_read)
        if not elsewhere:
            fill(chunk, to_read, files.open_fd)
        waiting.append(_Block(chunk, to_read, elsewhere))

    def done(most: int) -> Iterator[memoryview]:
        """The chunks that are whole, and as many more that there are at `most` left."""
        while waiting:
            chunk, in_it, elsewhere = waiting[0]
            if elsewhere:
                assert process is not None
                well = process.take(wait=len(waiting) > most)
                if well is None:
                    return
                if not well:
                    try:
                        fill(chunk, in_it, files.open_fd)
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
                        hand_over()
                        number = (number + 1) % (BLOCKS_KEPT + _AHEAD)
                        start = filled = number * _ROOM
                        to_read = []
                    yield from done(0)
                    yield from assemble([Segment(segment), FileEntry(name, size, expected)], files)
                    continue
                begin = filled + len(segment)
                memory[filled:begin] = segment
                filled = begin
                if size:
                    filled += size
                    to_read.append((name, begin - start, filled - start, expected))
                if filled - start >= CHUNK:
                    hand_over()
                    number = (number + 1) % (BLOCKS_KEPT + _AHEAD)
                    start = filled = number * _ROOM
                    to_read = []
                    yield from done(_AHEAD)
        if filled > start:
            hand_over()
    except Exception:
        yield from done(0)  # what is before the damage is given first
        raise
    yield from done(0)
