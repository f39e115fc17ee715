"""The entries of a tar, compressed or not, as a small interface of the scanner."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import BinaryIO, Final, cast

from layerstore_core.base.arguments import check_stream
from layerstore_core.errors import while_doing
from layerstore_core.streams.compression import MAGIC_SIZE, decompress, detect
from layerstore_core.streams.iterstream import IterStream
from layerstore_core.tar.entry import TarEntry
from layerstore_core.tar.scanner import TarScanner
from layerstore_core.view.content import expand

_CHUNK: Final = 1 << 20


def iter_entries(source: BinaryIO | str | os.PathLike[str]) -> Iterator[tuple[TarEntry, BinaryIO]]:
    """Yield the entries of a tar one after the other, each with its content.

    The tar is read once, from start to end, and may be of any length. Nothing is unpacked. A whiteout is an entry like
    any other; entries that only describe others (PAX, GNU) are applied to those.

    Args:
        source: a path, or a binary file object, which is read from its current position and stays open. The tar may be
            compressed with gzip, zstd, xz or bzip2.

    Yields:
        The entry, whose `path` is its cleaned name, and a file with its content, which is closed with the next step.
        The holes of a sparse file are read as zeros.

    Raises (while iterating):
        InvalidLayer: the tar, or its compression, is damaged; the error has the offset and the entry.
        OSError: the source cannot be read.
    """
    check_stream(source)
    path = isinstance(source, (str, os.PathLike))
    with open(source, "rb", buffering=0) if path else nullcontext(cast("BinaryIO", source)) as file:  # type: ignore[arg-type]
        scanner = TarScanner(plain_chunks(cast("BinaryIO", file)))
        while (entry := scanner.next_entry()[1]) is not None:
            payload: Iterator[bytes | memoryview] = scanner.payload()
            if entry.sparse is not None:
                payload = expand(map(bytes, payload), entry.sparse, entry.size)
            with io.BufferedReader(IterStream(payload)) as content:
                yield entry, cast("BinaryIO", content)
        for _ in scanner.trailer():
            pass  # a compressed tar is only known to be whole at its end


def plain_chunks(file: BinaryIO) -> Callable[[], bytes]:
    """Return a function that returns the next uncompressed bytes of a file, and `b""` at its end.

    Args:
        file: the file, compressed or not.

    Raises (of the function):
        InvalidLayer: the compression is damaged.
        OSError: the file cannot be read.
    """
    start: list[bytes] = []
    with while_doing(f"reading {getattr(file, 'name', 'the stream')}"):
        while sum(map(len, start)) < MAGIC_SIZE and (chunk := file.read(_CHUNK)):
            start.append(chunk)
    first = b"".join(start)

    def read() -> bytes:
        nonlocal first
        chunk, first = first, b""
        return chunk or file.read(_CHUNK) or b""

    compression = detect(first)
    return decompress(read, compression) if compression else read
