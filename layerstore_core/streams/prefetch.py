"""Reading and decompression in threads, ahead of the code that needs the bytes."""

from __future__ import annotations

from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Final

from layerstore_core.streams.compression import ReadChunk, decompress
from layerstore_core.streams.hasher import join_thread

#: How many compressed chunks are read ahead.
_INPUTS: Final = 2
#: How many chunks of a file are read ahead.
_CHUNKS: Final = 2
#: How many decompressed chunks may be queued: a few MiB.
_OUTPUTS: Final = 4


class _Stopped(Exception):
    """The reader has stopped, so the rest is not needed."""


class ReadAhead:
    """A thread that reads a file ahead of the code that uses its bytes.

    It is for regular files only. Another file may block for ever: then the thread would wait, and so would `stop`.

    Args:
        read: returns the next bytes, and `b""` at the end.
    """

    def __init__(self, read: ReadChunk) -> None:
        self._chunks: SimpleQueue[bytes | BaseException] = SimpleQueue()
        #: `True` for each chunk that the thread may still read; `False` ends it. It is a queue because that is written
        #: in C: a semaphore would need the GIL for longer.
        self._room: SimpleQueue[bool] = SimpleQueue()
        for _ in range(_CHUNKS):
            self._room.put(True)
        self._end: bytes | BaseException | None = None
        # The thread has no reference to this object. So an unused object is deleted, and that ends the thread.
        arguments = read, self._chunks, self._room
        self._thread = Thread(target=_read_all, args=arguments, name="layerstore-read", daemon=True)
        self._thread.start()

    def read_chunk(self) -> bytes:
        """Return the next bytes, and `b""` at the end.

        Raises:
            OSError: the file cannot be read.
        """
        if self._end is None:
            chunk = self._chunks.get()
            if isinstance(chunk, bytes) and chunk:
                self._room.put(True)
                return chunk
            self._end = chunk
        if isinstance(self._end, BaseException):
            raise self._end
        return self._end

    def stop(self) -> None:
        """End the thread. A second call does nothing."""
        _drain(self._room)
        self._room.put(False)
        join_thread(self._thread)

    def __del__(self) -> None:
        _drain(self._room)
        self._room.put(False)


def _read_all(read: ReadChunk, chunks: SimpleQueue[bytes | BaseException], room: SimpleQueue[bool]) -> None:
    try:
        while room.get():
            chunk = read()
            chunks.put(chunk)
            if not chunk:
                return
    except BaseException as error:  # raised again in the reader's thread
        chunks.put(error)


def _drain(queue: SimpleQueue[Any]) -> None:
    with suppress(Empty):
        while True:
            queue.get_nowait()


class DecompressAhead:
    """A thread that decompresses a source ahead of the code that uses its bytes.

    The libraries release the GIL, so decompression costs no time if there is a second core. The source itself is read
    in the thread that calls `read_chunk`: it may be a pipe without data for hours, or an object that is not
    thread-safe.

    Args:
        read_chunk: returns compressed bytes, and `b""` at the end.
        name: the compression, as `detect` returns it.
    """

    def __init__(self, read_chunk: ReadChunk, name: str) -> None:
        self._read_compressed = read_chunk
        self._name = name
        self._inputs: SimpleQueue[bytes | None] = SimpleQueue()
        #: Decompressed bytes; `None` as a request for an input; an error or empty bytes at the end.
        self._outputs: SimpleQueue[bytes | BaseException | None] = SimpleQueue()
        #: As in `ReadAhead`.
        self._room: SimpleQueue[bool] = SimpleQueue()
        for _ in range(_OUTPUTS):
            self._room.put(True)
        self._thread: Thread | None = None
        self._end: bytes | BaseException | None = None

    def read_chunk(self) -> bytes:
        """Return the next decompressed bytes, and `b""` at the end.

        Raises:
            InvalidLayer: the stream is damaged.
            OSError: the source cannot be read.
        """
        if self._end is None:
            try:
                if self._thread is None:
                    self._start()
                while (output := self._outputs.get()) is None:
                    self._inputs.put(self._read_compressed())
            except BaseException as error:
                self._end = error
                raise
            if isinstance(output, bytes) and output:
                self._room.put(True)
                return output
            self._end = output
        if isinstance(self._end, BaseException):
            raise self._end
        return self._end

    def stop(self) -> None:
        """End the thread. A second call does nothing."""
        self._request_stop()
        if self._thread is not None:
            join_thread(self._thread)
            self._thread = None

    def __del__(self) -> None:
        self._request_stop()

    def _request_stop(self) -> None:
        _drain(self._room)
        self._room.put(False)
        self._inputs.put(None)

    def _start(self) -> None:
        for _ in range(_INPUTS):
            self._inputs.put(self._read_compressed())
        # As in `ReadAhead`.
        arguments = self._name, self._inputs, self._outputs, self._room
        self._thread = Thread(target=_decompress_all, args=arguments, name="layerstore-decompress", daemon=True)
        self._thread.start()


def _decompress_all(
    name: str,
    inputs: SimpleQueue[bytes | None],
    outputs: SimpleQueue[bytes | BaseException | None],
    room: SimpleQueue[bool],
) -> None:
    def next_input() -> bytes:
        outputs.put(None)
        data = inputs.get()
        if data is None:
            raise _Stopped
        return data

    try:
        decompressed = decompress(next_input, name)
        while True:
            output = decompressed()
            if output and not room.get():
                return
            outputs.put(output)
            if not output:
                return
    except _Stopped:
        pass
    except BaseException as error:  # raised again in the reader's thread
        outputs.put(error)
