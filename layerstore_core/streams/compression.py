"""Detection and decompression of gzip, zstd, xz and bzip2, by their magic numbers.

Decompression is streamed, with bounded memory: however well a chunk was compressed, at most `CHUNK` bytes of it are
decompressed at a time. Several compressed streams, one after another, count as one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final, NoReturn, Protocol

from layerstore_core.errors import InvalidLayer

#: How many bytes are read, and decompressed, at a time.
CHUNK: Final = 1 << 20

#: How much of its input a decompressor gets at a time.
_SMALLEST_PIECE: Final = 8 << 10
_LARGEST_PIECE: Final = 4 << 20

ReadChunk = Callable[[], bytes]


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes | memoryview, max_length: int) -> bytes: ...


def _gzip() -> _Decompressor:
    from isal import igzip_lib

    # Of isal's two decompressors, this one keeps the rest of its input itself, which is a quarter faster.
    decompressor: _Decompressor = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
    return decompressor


@cache
def _zstd_module() -> Any:
    """Return the module; an import that fails is not remembered by Python, and takes longer than a small file."""
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        from backports import zstd
    return zstd


def _zstd() -> _Decompressor:
    zstd = _zstd_module()
    # Docker and containerd accept windows up to 128 MiB. A larger one counts as an attack on memory.
    decompressor: _Decompressor = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: 27})
    return decompressor


def _xz() -> _Decompressor:
    import lzma

    return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=512 << 20)


def _bzip2() -> _Decompressor:
    import bz2

    return bz2.BZ2Decompressor()


_FORMATS: Final[tuple[tuple[str, bytes, Callable[[], _Decompressor]], ...]] = (
    ("gzip", b"\x1f\x8b\x08", _gzip),
    ("zstd", b"\x28\xb5\x2f\xfd", _zstd),
    ("xz", b"\xfd7zXZ\0", _xz),
    ("bzip2", b"BZh", _bzip2),
)
#: Formats that are recognised and refused by name: magic number, name, and the program that decompresses it.
_UNSUPPORTED: Final[tuple[tuple[bytes, str, str], ...]] = (
    (b"\x04\x22\x4d\x18", "lz4", "lz4 -dc"),
    (b"\x02\x21\x4c\x18", "lz4", "lz4 -dc"),
    (b"LZIP", "lzip", "lzip -dc"),
    (b"\x5d\0\0", "lzma", "xz --format=lzma -dc"),
    (b"\x1f\x9d", "compress (.Z)", "gzip -dc"),
    (b"\x1f\xa0", "compress -H (.Z)", "gzip -dc"),
    (b"\x1f\x1e", "pack (.z)", "gzip -dc"),
    (b"\x89LZO\0\r\n\x1a\n", "lzop", "lzop -dc"),
    (b"\xff\x06\0\0sNaPpY", "snappy", "snzip -dc"),
    (b"LRZI", "lrzip", "lrzip -d -o -"),
    (b"PK\x03\x04", "zip", "bsdtar -cf - @FILE"),
    (b"PK\x05\x06", "zip", "bsdtar -cf - @FILE"),
    (b"7z\xbc\xaf\x27\x1c", "7z", "bsdtar -cf - @FILE"),
    (b"Rar!\x1a\x07", "rar", "bsdtar -cf - @FILE"),
)
#: How many bytes `detect` needs.
MAGIC_SIZE: Final = 6


def detect(start: bytes) -> str | None:
    """Return the name of the compression whose magic number `start` begins with; `None` for an uncompressed tar."""
    if start[:3] == b"BZh" and not start[3:4].isdigit():
        return None
    # zstd allows skippable frames at the beginning.
    if len(start) >= 4 and start[1:4] == b"\x2a\x4d\x18" and 0x50 <= start[0] <= 0x5F:
        return "zstd"
    for name, magic, _ in _FORMATS:
        if start.startswith(magic):
            return name
    return None


def why_no_tar(start: bytes) -> str:
    """Return an error message for input that is not a tar: which format it has, and what to do.

    Args:
        start: the beginning of the input, at most a block.
    """
    supported = detect(start)
    if supported is not None:
        return f"this is not a tar: after decompression it is still compressed with {supported}; decompress it once"
    for magic, name, program in _UNSUPPORTED:
        if start.startswith(magic):
            return (
                f"this is not a tar: it is packed with {name}, which is not supported; use the output of '{program}' "
                "instead"
            )
    return "this is not a tar, and not compressed with gzip, zstd, xz or bzip2"


def decompress(read_chunk: ReadChunk, name: str) -> ReadChunk:
    """Wrap a source of compressed chunks into a source of decompressed chunks.

    Args:
        read_chunk: returns compressed bytes, and `b""` at the end. If it raises an exception, reading can go on later.
        name: the compression, as `detect` returns it.

    Returns:
        A function like `read_chunk`. It raises `InvalidLayer` if the stream is damaged or cut off. Zeros after a stream
        are padding. Any other bytes that are not another stream are an error.
    """
    new = next(factory for known, _, factory in _FORMATS if known == name)
    return _Reader(read_chunk, name, new).read_chunk


class _Reader:
    """A reader of compressed streams, one after another.

    A layer may have a stream for each of its files. What a decompressor does not use of its input, it copies. So after
    a stream has ended, the next one gets small pieces of the input first, and then larger ones.
    """

    def __init__(self, read_compressed: ReadChunk, name: str, new: Callable[[], _Decompressor]) -> None:
        self._read_compressed = read_compressed
        self._name = name
        self._new = new
        self._decompressor: _Decompressor | None = new()
        #: The input, how much of it the decompressor has got, and how much it gets next.
        self._input = memoryview(b"")
        self._position = 0
        self._piece = _LARGEST_PIECE
        self._consumed = 0
        self._produced = 0

    def read_chunk(self) -> bytes:
        while True:
            if self._decompressor is None and not self._next_stream():
                return b""
            assert self._decompressor is not None
            data = memoryview(b"")
            if self._decompressor.needs_input:
                data = self._next_piece()
                if not data:
                    self._fail("it is cut off")
            self._consumed += len(data)
            try:
                output = self._decompressor.decompress(data, CHUNK)
            except Exception as error:  # each library has its own error class
                self._fail(str(error) or type(error).__name__, error)
            if self._decompressor.eof:
                unused = len(self._decompressor.unused_data)
                self._position -= unused
                self._consumed -= unused
                self._decompressor = None
                self._piece = _SMALLEST_PIECE
            if output:
                self._produced += len(output)
                return output

    def _next_piece(self) -> memoryview:
        """Return the next piece of the input for the decompressor; an empty one at its end."""
        if self._position == len(self._input):
            self._input, self._position = memoryview(self._read_compressed()), 0
        piece = self._input[self._position : self._position + self._piece]
        self._position += len(piece)
        self._piece = min(2 * self._piece, _LARGEST_PIECE)
        return piece

    def _next_stream(self) -> bool:
        """Begin the next stream; return `False` at the end of the input."""
        while True:
            start = bytes(self._input[self._position : self._position + MAGIC_SIZE])
            if len(start) < MAGIC_SIZE and (more := self._read_compressed()):
                self._input, self._position = memoryview(start + more), 0
                continue
            if start.startswith(b"\0"):
                rest = bytes(self._input[self._position :])
                zeros = len(rest) - len(rest.lstrip(b"\0"))
                self._consumed += zeros
                self._position += zeros
                continue
            if detect(start) == self._name:
                self._decompressor = self._new()
                return True
            if start:
                self._fail("it is followed by bytes that belong to no stream")
            return False

    def _fail(self, reason: str, cause: BaseException | None = None) -> NoReturn:
        raise InvalidLayer(
            f"the {self._name} stream is damaged near its byte {self._consumed}: {reason}", offset=self._produced
        ) from cause
