"""Reading and decompression beside other work."""

from __future__ import annotations

from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Final

from layerstore_core.streams.compression import ReadChunk, decompress
from layerstore_core.streams.hasher import join_thread

#: Compressed chunks that are read before they are asked for.
_INPUTS: Final = 2
#: Chunks of a file that may wait to be taken.
_CHUNKS: Final = 2
#: Plain chunks that may wait to be taken: a few MiB.
_OUTPUTS: Final = 4


class _Stopped(Exception):
    """Nobody wants the rest."""


class ReadAhead:
    """A file's bytes, read in a thread of its own, ahead of whoever takes them.

    For regular files only: what can block for ever would keep the thread, and `stop`, waiting.

    Args:
        read: gives the next bytes, `b""` at the end.
    """

    def __init__(self, read: ReadChunk) -> None:
        self._chunks: SimpleQueue[bytes | BaseException] = SimpleQueue()
        #: For each chunk that there is room for, that the thread is to go on. A queue, as it is of C: a semaphore would
        #: keep the interpreter longer.
        self._room: SimpleQueue[bool] = SimpleQueue()
        for _ in range(_CHUNKS):
            self._room.put(True)
        self._end: bytes | BaseException | None = None
        # The thread does not know this object, so that one which is forgotten goes, and ends it.
        arguments = read, self._chunks, self._room
        self._thread = Thread(target=_read_all, args=arguments, name="layerstore-read", daemon=True)
        self._thread.start()

    def read_chunk(self) -> bytes:
        """The next bytes, `b""` at the end.

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
    except BaseException as error:  # it is the reader's
        chunks.put(error)


def _drain(queue: SimpleQueue[Any]) -> None:
    with suppress(Empty):
        while True:
            queue.get_nowait()


class DecompressAhead:
    """Plain chunks of a compressed source, decompressed ahead of the reader in a thread of its own.

    The libraries let go of the interpreter meanwhile, so that it costs no time on a second core. The source itself is read
    by whoever calls `read_chunk`: it may be a pipe that gives nothing for hours, or an object that knows no threads.

    Args:
        read_chunk: gives compressed bytes, `b""` at the end.
        name: the compression, as `detect` names it.
    """

    def __init__(self, read_chunk: ReadChunk, name: str) -> None:
        self._read_compressed = read_chunk
        self._name = name
        self._inputs: SimpleQueue[bytes | None] = SimpleQueue()
        #: Plain bytes; `None` where an input was taken; an error, or the empty bytes, at the end.
        self._outputs: SimpleQueue[bytes | BaseException | None] = SimpleQueue()
        #: As of `ReadAhead`.
        self._room: SimpleQueue[bool] = SimpleQueue()
        for _ in range(_OUTPUTS):
            self._room.put(True)
        self._thread: Thread | None = None
        self._end: bytes | BaseException | None = None

    def read_chunk(self) -> bytes:
        """The next plain bytes, `b""` at the end.

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
        self._tell()
        if self._thread is not None:
            join_thread(self._thread)
            self._thread = None

    def __del__(self) -> None:
        self._tell()

    def _tell(self) -> None:
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
    except BaseException as error:  # it is the reader's
        outputs.put(error)
