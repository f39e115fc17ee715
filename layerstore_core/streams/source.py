"""The source of a layer's bytes: a path or a binary file, compressed or not. Parts of it can be read again."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final, Self

from layerstore_core.base.limits import Limits, compressed_limit
from layerstore_core.errors import InvalidLayer, while_doing
from layerstore_core.streams.compression import CHUNK, MAGIC_SIZE, decompress, detect
from layerstore_core.streams.hasher import Hasher
from layerstore_core.streams.prefetch import DecompressAhead, ReadAhead
from layerstore_core.streams.saved import SavedPayloads

#: A pipe's bytes are kept in memory up to this size, in bytes, and beyond it in a temporary file without a name.
_SPOOL_IN_MEMORY: Final = 8 << 20
#: How many bytes are read at a time. The chunks are large because an entry whose bytes are in two chunks costs more
#: work.
_READ_SIZE: Final = 4 << 20
#: A pipe's compressed bytes are so much more than its content, in bytes, at most: those that are decompressed ahead,
#: and what the format adds, such as a table of contents.
_AHEAD: Final = 64 << 20
#: A pipe is made so large, in bytes: the most that the kernel lets an ordinary user have. Reads are large then.
_PIPE_SIZE: Final = 1 << 20
#: A file is read ahead in a thread only if it is larger than this, in bytes.
_LARGE: Final = 16 << 20


class LayerSource:
    """The uncompressed bytes of one layer. They are read once, and parts of them, rarely, a second time.

    A file that cannot seek is spooled while it is read: otherwise a part could not be read again. It is not spooled if
    its reader saves what would be needed (`save_payloads`).

    Args:
        layer: a path, or a binary file object, which is read from its current position.
        spool_dir: the directory of the spool of a pipe. The spool has no name, and is removed at the end of the
            process.
        limits: how many bytes are accepted; `None` for any number.
        allow_empty: whether an input without any byte is accepted, as the tar of an empty layer.

    Raises:
        OSError: the file does not exist, or cannot be read.
    """

    def __init__(
        self,
        layer: BinaryIO | str | os.PathLike[str],
        *,
        spool_dir: Path,
        limits: Limits | None = None,
        allow_empty: bool = False,
    ) -> None:
        if isinstance(layer, (str, os.PathLike)) and not os.fspath(layer):
            raise FileNotFoundError(errno.ENOENT, "the path of the layer's tar is empty")
        self._owns_file = isinstance(layer, (str, os.PathLike))
        # No buffering: chunks are large, and a buffer would only copy them once more.
        self._file: BinaryIO = open(layer, "rb", buffering=0) if isinstance(layer, (str, os.PathLike)) else layer  # noqa: SIM115
        name = getattr(self._file, "name", None)
        # The name of a file that was opened by its descriptor is the number of that.
        self.name = os.fsdecode(name) if isinstance(name, (str, bytes, os.PathLike)) else "the layer's stream"
        self._progress: Callable[[int], None] | None = None
        self._limits = limits
        self._allow_empty = allow_empty
        self._input_read = 0
        self._read_size = _READ_SIZE
        self._size = 0
        self._implied = 0
        self._spool: BinaryIO | None = None
        self._spool_dir = spool_dir
        self._saved: SavedPayloads | None = None
        self._start = 0
        self._hasher = Hasher()
        self._read_ahead: ReadAhead | None = None
        self._ahead: DecompressAhead | None = None
        try:
            self._can_seek = _can_seek(self._file)
            if self._can_seek:
                self._start = self._file.tell()
            elif _enlarge(self._file):
                self._read_size = _PIPE_SIZE
            first = b""
            while len(first) < MAGIC_SIZE and (more := self._read_input()):
                first += more
            if _may_be_read_ahead(self._file):
                self._read_ahead = ReadAhead(partial(self._file.read, _READ_SIZE))
        except BaseException:
            self.close()
            raise
        self._first: bytes | None = first  # it is not spooled before it is known whether there is a spool
        self.compression = detect(first)
        self._ahead = DecompressAhead(self._next_input, self.compression) if self.compression else None
        self._read_plain = self._ahead.read_chunk if self._ahead else self._next_input

    def on_progress(self, progress: Callable[[int], None]) -> None:
        """Call `progress` after each chunk with the number of input bytes read so far."""
        self._progress = progress

    def read_chunk(self) -> bytes:
        """Return the next uncompressed bytes, and `b""` at the end.

        Raises:
            InvalidLayer: the compressed stream is damaged, or the layer is larger than allowed, or empty.
            OSError: the input cannot be read.
        """
        chunk = self._read_plain()
        self._size += len(chunk)
        self._check_size()
        if not (self._size or self._allow_empty):
            raise InvalidLayer(
                "it is empty, but even a tar without entries has blocks of zeros: the program that writes it may have "
                "failed; if the layer is meant to be empty, allow that (--allow-empty; in Python allow_empty=True)",
                offset=0,
            )
        self._hasher.update(chunk)
        return chunk

    def count_implied(self, size: int) -> None:
        """Count `size` bytes that the tar would have in addition if it had entries for all directories that it needs.

        Raises:
            InvalidLayer: the layer is larger than allowed.
        """
        self._implied += size
        self._check_size()

    def hexdigest(self) -> str:
        """Return the sha256 of the uncompressed bytes, in hex. Nothing may be read after this."""
        return self._hasher.finish()

    def save_payloads(self) -> SavedPayloads | None:
        """Return where the reader has to save payloads that are needed again, so that nothing is spooled.

        Returns:
            `None` if that is not necessary, because the file can be read again, or its spool has begun.
        """
        if self._can_seek or self._first is None:
            return None
        if self._saved is None:
            self._saved = SavedPayloads(self._spool_dir, self._limits, self.name)
        return self._saved

    def replay(self) -> Replay | SavedPayloads:
        """Start a second reading, for parts of the layer that are needed again.

        This source must not be read any more after this call.
        """
        if self._saved is not None:
            return self._saved
        file = self._spool or self._file
        file.seek(0 if self._spool else self._start)
        return Replay(file, self.compression)

    def close(self) -> None:
        """Stop the threads, and close the files that this object opened. A file object that it was given stays open."""
        if self._read_ahead is not None:
            self._read_ahead.stop()
        if self._ahead is not None:
            self._ahead.stop()
        self._hasher.stop()
        for kept in (self._spool, self._saved):
            if kept is not None:
                kept.close()
        if self._owns_file:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _check_size(self) -> None:
        if self._limits and (limit := self._limits.layer) and self._size + self._implied > limit.bytes:
            if self._size > limit.bytes:
                raise InvalidLayer(f"it is larger than {limit}", offset=self._size)
            raise InvalidLayer(f"with the directories that its names imply, it is larger than {limit}")

    def _next_input(self) -> bytes:
        if self._first is not None:
            first, self._first = self._first, None
            if not (self._can_seek or self._saved):
                import tempfile  # lazy: with what it loads, it takes 5 ms, and files need no spool

                self._spool = tempfile.SpooledTemporaryFile(_SPOOL_IN_MEMORY, dir=str(self._spool_dir))  # type: ignore[assignment]  # noqa: SIM115
                self._write_spool(first)
            if first:
                return first
        return self._read_input()

    def _read_input(self) -> bytes:
        with while_doing(f"reading {self.name}"):
            chunk = self._read_ahead.read_chunk() if self._read_ahead else self._file.read(self._read_size)
            if chunk is None:
                raise BlockingIOError(
                    errno.EAGAIN, "the file is in non-blocking mode; a layer can only be read in blocking mode"
                )
        self._input_read += len(chunk)
        self._check_input()
        self._write_spool(chunk)
        if self._progress is not None:
            self._progress(self._input_read)
        return chunk

    def _check_input(self) -> None:
        """Refuse an endless stream, which may have no uncompressed bytes at all: then `_check_size` does not help."""
        if self._can_seek:
            return
        if self._limits and (limit := self._limits.layer) and self._input_read > limit.compressed + _READ_SIZE:
            raise InvalidLayer(f"it is larger than {limit}")
        if self._input_read > compressed_limit(self._size) + _AHEAD:
            raise InvalidLayer("its compressed bytes have next to no content")

    def _write_spool(self, chunk: bytes) -> None:
        """Write what was read into the spool, if there is one; an endless stream must not fill the disk."""
        if self._spool is None:
            return
        if self._limits is not None and self._input_read > self._limits.spool.bytes:
            raise InvalidLayer(f"it has more bytes than {self._limits.spool}; register it from a file")
        with while_doing(f"spooling {self.name}"):
            self._spool.write(chunk)


class Replay:
    """A second reading of a layer, in forward direction only."""

    def __init__(self, file: BinaryIO, compression: str | None) -> None:
        read: Callable[[], bytes] = lambda: file.read(CHUNK) or b""  # noqa: E731
        self._file = file if compression is None else None
        self._start = file.tell()
        self._read_chunk = decompress(read, compression) if compression else read
        self._offset = 0
        self._buffer = b""

    def range(self, offset: int, length: int) -> Iterator[bytes]:
        """Read a range of bytes, in chunks.

        Args:
            offset: the beginning of the range, in bytes from the start of the uncompressed tar. It must not be before
                the end of the last range.
            length: the number of bytes.

        Raises:
            ValueError: the layer is compressed, and the offset is before the end of the last range.
            OSError: the file has become shorter since it was first read.
        """
        if self._file is not None:
            self._file.seek(self._start + offset)
            self._buffer, self._offset = b"", offset
        if offset < self._offset:
            raise ValueError(
                f"a compressed layer is read again forwards only, but offset {offset} is before {self._offset}"
            )
        while self._offset + len(self._buffer) <= offset and length:
            self._offset += len(self._buffer)
            self._buffer = self._more()
        self._buffer = self._buffer[offset - self._offset :]
        self._offset = offset
        while length:
            if not self._buffer:
                self._buffer = self._more()
            chunk = self._buffer[:length]
            self._buffer = self._buffer[len(chunk) :]
            self._offset += len(chunk)
            length -= len(chunk)
            yield chunk

    def payload(self, offset: int, size: int, crc: int) -> Iterator[bytes]:
        """Read a payload; see `range`."""
        return self.range(offset, size)

    def _more(self) -> bytes:
        chunk = self._read_chunk()
        if not chunk:
            raise OSError("the layer's file was cut off before it was read a second time")
        return chunk


def _can_seek(file: BinaryIO) -> bool:
    try:
        return file.seekable()
    except (AttributeError, OSError):
        return False


def _enlarge(file: BinaryIO) -> bool:
    """Let a pipe hold more, so that it is read in large pieces; return whether it is a pipe."""
    try:
        number = file.fileno()
        is_pipe = stat.S_ISFIFO(os.fstat(number).st_mode)
    except (AttributeError, OSError, ValueError):  # no file of the system
        return False
    if is_pipe and fcntl.fcntl(number, fcntl.F_GETPIPE_SZ) < _PIPE_SIZE:
        with suppress(OSError):  # the user has too many large ones
            fcntl.fcntl(number, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
    return is_pipe


def _may_be_read_ahead(file: BinaryIO) -> bool:
    """Return whether a file is read ahead in a thread: a large regular file, opened as one of Python's own objects."""
    if not isinstance(file.raw if isinstance(file, io.BufferedReader) else file, io.FileIO):
        return False
    status = os.fstat(file.fileno())
    return stat.S_ISREG(status.st_mode) and status.st_size > _LARGE
