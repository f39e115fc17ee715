"""Reading and decompression beside other work."""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Final

from layerstore_core.archive.compression import ReadChunk, decompress

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
        self._read = read
        self._chunks: SimpleQueue[bytes | BaseException] = SimpleQueue()
        #: One for each chunk that there is room for. A queue, as it is of C: a semaphore would keep the interpreter longer.
        self._room: SimpleQueue[None] = SimpleQueue()
        for _ in range(_CHUNKS):
            self._room.put(None)
        self._stopping = False
        self._end: bytes | BaseException | None = None
        self._thread = Thread(target=self._run, name="layerstore-read", daemon=True)
        self._thread.start()

    def read_chunk(self) -> bytes:
        """The next bytes, `b""` at the end.

        Raises:
            OSError: the file cannot be read.
        """
        if self._end is None:
            chunk = self._chunks.get()
            if isinstance(chunk, bytes) and chunk:
                self._room.put(None)
                return chunk
            self._end = chunk
        if isinstance(self._end, BaseException):
            raise self._end
        return self._end

    def stop(self) -> None:
        """End the thread. A second call does nothing."""
        self._stopping = True
        self._room.put(None)
        self._thread.join()

    def _run(self) -> None:
        try:
            while True:
                self._room.get()
                if self._stopping:
                    return
                chunk = self._read()
                self._chunks.put(chunk)
                if not chunk:
                    return
        except BaseException as error:  # it is the reader's
            self._chunks.put(error)


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
        self._decompress: Callable[[], bytes] = decompress(self._next_input, name)
        self._inputs: SimpleQueue[bytes | None] = SimpleQueue()
        #: Plain bytes; `None` where an input was taken; an error, or the empty bytes, at the end.
        self._outputs: SimpleQueue[bytes | BaseException | None] = SimpleQueue()
        self._room: SimpleQueue[None] = SimpleQueue()
        for _ in range(_OUTPUTS):
            self._room.put(None)
        self._stopping = False
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
                self._room.put(None)
                return output
            self._end = output
        if isinstance(self._end, BaseException):
            raise self._end
        return self._end

    def stop(self) -> None:
        """End the thread. A second call does nothing."""
        if self._thread is not None:
            self._stopping = True
            self._inputs.put(None)
            self._room.put(None)
            self._thread.join()
            self._thread = None

    def _start(self) -> None:
        for _ in range(_INPUTS):
            self._inputs.put(self._read_compressed())
        self._thread = Thread(target=self._run, name="layerstore-decompress", daemon=True)
        self._thread.start()

    def _next_input(self) -> bytes:
        self._outputs.put(None)
        data = self._inputs.get()
        if data is None:
            raise _Stopped
        return data

    def _run(self) -> None:
        try:
            while not self._stopping:
                output = self._decompress()
                if output:
                    self._room.get()
                self._outputs.put(output)
                if not output:
                    return
        except _Stopped:
            pass
        except BaseException as error:  # it is the reader's
            self._outputs.put(error)
