"""zstd's seekable format: frames of one MiB each, and at the end a table of them in a skippable frame.

Format: "Zstandard Seekable Format", version 0.1.0, in `contrib/seekable_format` of zstd's sources. Any zstd program
decompresses such a file.
"""

from __future__ import annotations

import bisect
import io
import os
import struct
import sys
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING or sys.version_info < (3, 14):
    from backports import zstd
else:
    from compression import zstd

_FRAME: Final = 1 << 20
_SKIPPABLE: Final = struct.Struct("<II")
_SKIPPABLE_MAGIC: Final = 0x184D2A5E
_ENTRY: Final = struct.Struct("<II")
_FOOTER: Final = struct.Struct("<IBI")
_FOOTER_MAGIC: Final = 0x8F92EAB1


class FrameWriter:
    """A writer of a new file, and a context manager. If its `with` block ends by an error, the file is removed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = open(path, "xb")  # noqa: SIM115
        self._pending = bytearray()
        self._sizes: list[tuple[int, int]] = []

    def write(self, data: bytes | memoryview) -> None:
        """Write some bytes; they are compressed as soon as a frame is full."""
        self._pending += data
        while len(self._pending) >= _FRAME:
            self._write_frame(bytes(self._pending[:_FRAME]))
            del self._pending[:_FRAME]

    def __enter__(self) -> FrameWriter:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                if self._pending:
                    self._write_frame(bytes(self._pending))
                self._write_table()
        except BaseException:
            kind = True
            raise
        finally:
            self._file.close()
            if kind is not None:
                self._path.unlink()

    def _write_frame(self, data: bytes) -> None:
        frame = zstd.compress(data)
        self._file.write(frame)
        self._sizes.append((len(frame), len(data)))

    def _write_table(self) -> None:
        entries = b"".join(_ENTRY.pack(*sizes) for sizes in self._sizes)
        self._file.write(_SKIPPABLE.pack(_SKIPPABLE_MAGIC, len(entries) + _FOOTER.size))
        self._file.write(entries + _FOOTER.pack(len(self._sizes), 0, _FOOTER_MAGIC))


class FrameReader(io.RawIOBase):
    """A reader of a file that `FrameWriter` has written. Reading after a seek decompresses one frame.

    Raises:
        OSError: the file cannot be read, or is cut off.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = open(path, "rb")  # noqa: SIM115
        try:
            sizes = self._read_table()
        except BaseException:
            self._file.close()
            raise
        # Both lists have one item more than there are frames: the end of the last frame.
        #: Where each frame begins in the file, and where its data begins in the decompressed stream.
        self._starts = list(accumulate((size for size, _ in sizes), initial=0))
        self._offsets = list(accumulate((size for _, size in sizes), initial=0))
        self._at = 0
        self._frame = -1
        self._data = b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._offsets[-1]}[whence]
        self._at = max(base + offset, 0)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if self._at >= self._offsets[-1]:
            return 0
        self._load(bisect.bisect_right(self._offsets, self._at) - 1)
        start = self._at - self._offsets[self._frame]
        data = self._data[start : start + len(buffer)]
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()

    def _load(self, frame: int) -> None:
        if frame != self._frame:
            self._file.seek(self._starts[frame])
            self._data = zstd.decompress(self._file.read(self._starts[frame + 1] - self._starts[frame]))
            self._frame = frame

    def _read_table(self) -> list[tuple[int, int]]:
        size = self._file.seek(0, os.SEEK_END)
        self._file.seek(max(size - _FOOTER.size, 0))
        footer = self._file.read()
        if len(footer) != _FOOTER.size or _FOOTER.unpack(footer)[2] != _FOOTER_MAGIC:
            raise OSError(f"{self._file.name}: it has no table of frames at its end; the file was cut off")
        count = _FOOTER.unpack(footer)[0]
        self._file.seek(size - _FOOTER.size - count * _ENTRY.size)
        return list(_ENTRY.iter_unpack(self._file.read(count * _ENTRY.size)))
