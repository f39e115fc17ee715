"""Tars as sources of a new layer: recognising one, and reading its entries with their contents."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Final, cast

from layerstore_core.base.limits import Limits
from layerstore_core.base.replace_file import naming
from layerstore_core.errors import InvalidLayer
from layerstore_core.images.layer.content import Content, TarPart
from layerstore_core.streams.compression import MAGIC_SIZE, decompress, detect
from layerstore_core.streams.source import LayerSource
from layerstore_core.tar.entry import EntryType, TarEntry
from layerstore_core.tar.header import BLOCK, is_header
from layerstore_core.tar.scanner import TarScanner

#: How much of a compressed file is read at most to see whether it is a tar, in bytes: bzip2 has blocks of 900 kB.
_START: Final = 2 << 20
_PIECE: Final = 1 << 16


def is_tar(path: str) -> bool:
    """Return whether a regular file is a tar, compressed or not, from the checksum of its first header.

    Raises:
        OSError: it cannot be read.
    """
    with naming(path), open(path, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return False
        start = file.read(BLOCK)
        compression = detect(start[:MAGIC_SIZE])
        if compression is None:
            return len(start) == BLOCK and is_header(start)
        file.seek(0)
        start = b""
        try:
            read = decompress(lambda: file.read(_PIECE) if file.tell() < _START else b"", compression)
            while len(start) < BLOCK and (chunk := read()):
                start += chunk
        except InvalidLayer:
            return False
    return len(start) >= BLOCK and is_header(start[:BLOCK])


class TarSource:
    """The entries of a tar. Close it when the layer was read.

    What is compressed, or cannot seek, is copied to a temporary file without a name.

    Args:
        source: a path, or a binary file object.
        spool_dir: the directory of the temporary file.
        limits: how many bytes are accepted; `None` for any number.

    Raises:
        InvalidLayer: it is empty or no tar.
        OSError: it cannot be read.
    """

    def __init__(self, source: BinaryIO | str | os.PathLike[str], *, spool_dir: Path, limits: Limits | None) -> None:
        self._stack = ExitStack()
        self._copy: BinaryIO | None = None
        with ExitStack() as opening:
            self._source = opening.enter_context(LayerSource(source, spool_dir=spool_dir, limits=limits))
            self.name = self._source.name
            self._file: BinaryIO | None = None
            if isinstance(source, (str, os.PathLike)) and self._source.compression is None:
                file = opening.enter_context(open(source, "rb", buffering=0))
                if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    self._file = cast("BinaryIO", file)
            if self._file is None:
                self._copy = self._file = cast(
                    "BinaryIO", opening.enter_context(tempfile.TemporaryFile(dir=spool_dir, buffering=0))
                )
            self._stack = opening.pop_all()
        self._limits = limits
        self._copied = 0

    def entries(self) -> Iterator[tuple[TarEntry, Content | None]]:
        """Yield each entry, and the content of a regular file. To be called once.

        Raises:
            InvalidLayer: the tar is damaged, or too large.
            OSError: it cannot be read.
        """
        scanner = TarScanner(self._read_chunk)
        while True:
            _, entry = scanner.next_entry()
            if entry is None:
                break
            content = None
            if entry.type is EntryType.FILE:
                assert self._file is not None
                content = TarPart(self._file, scanner.offset, entry.stored_size, entry.size, entry.sparse)
            for _ in scanner.payload():
                pass
            yield entry, content
        for _ in scanner.trailer():
            pass

    def close(self) -> None:
        """Close the files."""
        self._stack.close()

    def _read_chunk(self) -> bytes:
        chunk = self._source.read_chunk()
        if self._copy is not None:
            self._copied += len(chunk)
            if self._limits is not None and self._copied > self._limits.spool.bytes:
                raise InvalidLayer(f"uncompressed, it has more bytes than {self._limits.spool}; decompress it first")
            left = memoryview(chunk)
            while left:
                left = left[self._copy.write(left) :]
        return chunk
