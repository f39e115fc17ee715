"""Deflate streams (RFC 1951) by zlib: in one piece, or in blocks that several threads compress at once.

In blocks, each block is a stream of its own that ends with a flush, and may refer to the 32 KiB before it. Together
they are one stream, which every reader reads. pigz divides the work in the same way. The output depends on the size of
a block, and not on the number of threads.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Final

from layerstore_core.base.threads import Task, cores, submit

#: The size of a block, in bytes. Smaller ones take more bytes, larger ones more memory.
BLOCK: Final = 512 << 10
_WINDOW: Final = 32 << 10
_MOST_THREADS: Final = 8


def deflate(data: Iterable[bytes], level: int, block: int = 0, *, threads: int | None = None) -> Iterator[bytes]:
    """Compress data.

    Args:
        data: the data, in chunks of any size.
        level: the level of zlib.
        block: the size of a block in bytes; 0 for one stream.
        threads: how many blocks are compressed at once; `None` for one on each processor, eight at most.
    """
    if not block:
        stream = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
        for chunk in data:
            if out := stream.compress(chunk):
                yield out
        yield stream.flush()
        return
    threads = min(cores(), _MOST_THREADS) if threads is None else threads
    if threads == 1:
        for piece in _pieces(data, block):
            yield _compress(level, *piece)
        return
    running: deque[Task[bytes]] = deque()
    for piece in _pieces(data, block):
        running.append(submit(partial(_compress, level, *piece)))
        if len(running) > threads:
            yield running.popleft().result()
    while running:
        yield running.popleft().result()


def _pieces(data: Iterable[bytes], block: int) -> Iterator[tuple[bytes, bytes, bool]]:
    """Yield blocks: what comes before each, the block, and whether it is the last one."""
    before, held = b"", bytearray()
    for chunk in data:
        held += chunk
        while len(held) > block:  # the last block is not known before there is more, or no more
            piece = bytes(held[:block])
            del held[:block]
            yield before, piece, False
            before = piece[-_WINDOW:]
    yield before, bytes(held), True


def _compress(level: int, before: bytes, piece: bytes, last: bool) -> bytes:
    if before:
        stream = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS, zdict=before)
    else:
        stream = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
    return stream.compress(piece) + stream.flush(zlib.Z_FINISH if last else zlib.Z_SYNC_FLUSH)
