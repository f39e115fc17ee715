"""Reading and decompression ahead of the code that needs the bytes."""

from __future__ import annotations

from collections import deque
from queue import SimpleQueue
from typing import Final

from layerstore_core.base.threads import Lane
from layerstore_core.streams.compression import ReadChunk, decompress

#: How many compressed chunks are read ahead.
_INPUTS: Final = 2
#: How many chunks of a file are read ahead.
_CHUNKS: Final = 2
#: How many decompressed chunks may be queued: a few MiB.
_OUTPUTS: Final = 4


class ReadAhead:
    """Reading of a file ahead of the code that uses its bytes.

    It is for regular files only. Another file may block for ever: then a thread of the pool would wait, and so would
    `stop`.

    Args:
        read: returns the next bytes, and `b""` at the end.
    """

    def __init__(self, read: ReadChunk) -> None:
        self._reading = _Reading(read)
        self._end: bytes | BaseException | None = None
        # A chunk can be taken a moment before the lane counts its call as finished.
        self._lane = Lane("layerstore-read", depth=_CHUNKS + 1)
        for _ in range(_CHUNKS):
            self._lane.put(self._reading.next)

    def read_chunk(self) -> bytes:
        """Return the next bytes, and `b""` at the end.

        Raises:
            OSError: the file cannot be read.
        """
        if self._end is None:
            chunk = self._reading.chunks.get()
            if isinstance(chunk, bytes) and chunk:
                self._lane.put(self._reading.next)
                return chunk
            self._end = chunk
        if isinstance(self._end, BaseException):
            raise self._end
        return self._end

    def stop(self) -> None:
        """Read no more. A second call does nothing."""
        self._lane.close()


class _Reading:
    """What the lane of a `ReadAhead` does. It has no reference to that, so an unused one is deleted."""

    def __init__(self, read: ReadChunk) -> None:
        self.chunks: SimpleQueue[bytes | BaseException] = SimpleQueue()
        self._read = read
        self._ended = False

    def next(self) -> None:
        """Read a chunk. At the end, or after an error, do nothing."""
        if self._ended:
            return
        try:
            chunk: bytes | BaseException = self._read()
        except BaseException as error:  # raised again by `ReadAhead.read_chunk`
            chunk = error
        self._ended = not isinstance(chunk, bytes) or not chunk
        self.chunks.put(chunk)


class DecompressAhead:
    """Decompression of a source ahead of the code that uses its bytes.

    The libraries release the GIL, so decompression costs no time if there is a second core. The source itself is read
    in the thread that calls `read_chunk`: it may be a pipe without data for hours, or an object that is not
    thread-safe.

    Args:
        read_chunk: returns compressed bytes, and `b""` at the end.
        name: the compression, as `detect` returns it.
    """

    def __init__(self, read_chunk: ReadChunk, name: str) -> None:
        self._read_compressed = read_chunk
        self._work = _Decompression(name)
        #: How many inputs the lane has that are not used, as far as this is known; how many of its calls go on.
        self._inputs = self._calls = 0
        self._input_ended = False
        self._end: bytes | BaseException | None = None
        self._lane = Lane("layerstore-decompress", depth=_OUTPUTS + 1)  # see `ReadAhead`

    def read_chunk(self) -> bytes:
        """Return the next decompressed bytes, and `b""` at the end.

        Raises:
            InvalidLayer: the stream is damaged.
            OSError: the source cannot be read.
        """
        if self._end is None:
            try:
                while (output := self._next_output()) is None:
                    pass
            except BaseException as error:
                self._end = error
                raise
            if isinstance(output, bytes) and output:
                return output
            self._end = output
        if isinstance(self._end, BaseException):
            raise self._end
        return self._end

    def stop(self) -> None:
        """Decompress no more. A second call does nothing."""
        self._lane.close()

    def _next_output(self) -> bytes | BaseException | None:
        """Return what the next call of the lane brought; `None` if it had no input."""
        while self._inputs < _INPUTS:
            data = b"" if self._input_ended else self._read_compressed()
            self._input_ended = not data
            self._work.inputs.append(data)
            self._inputs += 1
        while self._calls < _OUTPUTS:
            self._lane.put(self._work.next)
            self._calls += 1
        output, used = self._work.outputs.get()
        self._calls -= 1
        self._inputs -= used
        return output


class _NoInput(Exception):
    """The decompression needs an input before it can go on."""


class _Decompression:
    """What the lane of a `DecompressAhead` does. It has no reference to that, so an unused one is deleted."""

    def __init__(self, name: str) -> None:
        self.inputs: deque[bytes] = deque()
        #: An item for each call: decompressed bytes, empty ones at the end; an error; or `None` if there was no input.
        #: And how many inputs were used.
        self.outputs: SimpleQueue[tuple[bytes | BaseException | None, int]] = SimpleQueue()
        self._decompressed = decompress(self._next_input, name)
        self._used = 0
        self._ended = False

    def next(self) -> None:
        """Decompress a chunk. At the end, or after an error, do nothing."""
        if self._ended:
            return
        self._used = 0
        output: bytes | BaseException | None
        try:
            output = self._decompressed()
        except _NoInput:
            output = None
        except BaseException as error:  # raised again by `DecompressAhead.read_chunk`
            output = error
        self._ended = output is not None and not (isinstance(output, bytes) and output)
        self.outputs.put((output, self._used))

    def _next_input(self) -> bytes:
        # A call must not wait for input: it would hold a thread of the pool.
        if not self.inputs:
            raise _NoInput
        self._used += 1
        return self.inputs.popleft()
