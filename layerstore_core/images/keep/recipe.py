"""Recipes: how a layer was compressed, so that it can be saved with the digest that it was loaded with.

A gzip stream depends on the program that wrote it. If that program used zlib, as Python programs do, the stream can be
re-created from the uncompressed tar, the gzip header and the compression level. Other compressors write other streams,
which this cannot re-create: Go's compressor, which Docker and BuildKit use, its parallel variants (Buildah,
containerd), GNU gzip and pigz. Streams of zstd cannot be re-created either: the encoder changes from version to
version.

A recipe is tried on the start of a layer when the layer is loaded, which costs next to nothing. It is proved by the
digest of the whole blob when the layer is saved.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, Final

from layerstore_core.base import inside
from layerstore_core.base.atomic import make_directory
from layerstore_core.base.digests import DiffID
from layerstore_core.errors import InvalidLayer
from layerstore_core.images.keep.deflate import BLOCK, deflate
from layerstore_core.records.own_state import recorded_drivers, state_directory
from layerstore_core.streams.compression import detect

#: The size of the start of a blob that a recipe is tried on, in bytes.
_TRIAL: Final = 512 << 10
#: A recipe is tried on at most this many pieces of the tar, of this many bytes each. zlib writes its first block when
#: it has some sixteen thousand symbols, and a symbol may encode 258 bytes.
_PIECES, _PIECE = 32, 256 << 10
#: If this many bytes of compressed data are equal, that is no accident.
_ENOUGH: Final = 1024
_HEADER_LIMIT: Final = 64 << 10
#: The greatest size of a recipe's file, in bytes: it has a header in hex, and little else.
_LONGEST: Final = 4 * _HEADER_LIMIT
#: The name of our field in a gzip header.
_FIELD: Final = b"LS"
#: The levels of zlib, the most usual first.
_LEVELS: Final = (6, 9, 1, 5, 4, 7, 8, 3, 2)
_HEX = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to re-create a compressed layer.

    Attributes:
        digest: the digest of the compressed blob, `sha256:…`.
        size: the size of the compressed blob in bytes.
        media_type: the media type in the manifest.
        level: the compression level of zlib.
        header: the gzip header in hex: it may contain a time, a name and an operating system.
        block: the size of the blocks that it was compressed in, in bytes; 0 for one stream.
    """

    digest: str
    size: int
    media_type: str
    level: int
    header: str
    block: int = 0

    def encode(self, tar: Iterable[bytes]) -> Iterator[bytes]:
        """Compress a tar. The result is the blob if the recipe is right; the caller has to compare the digest."""
        yield bytes.fromhex(self.header)
        crc, size = 0, 0

        def counted() -> Iterator[bytes]:
            nonlocal crc, size
            for chunk in tar:
                crc = zlib.crc32(chunk, crc)
                size += len(chunk)
                yield chunk

        yield from deflate(counted(), self.level, self.block)
        yield crc.to_bytes(4, "little") + (size & 0xFFFFFFFF).to_bytes(4, "little")


class Recipes:
    """The recipes of one driver's layers, one file each: `<root>/layerstore/recipes/<driver>/<diff ID hex>`.

    A recipe is not essential: if it is lost or damaged, the layer is saved uncompressed. Earlier versions wrote the
    recipes into the parent directory; these are read for every driver.

    Args:
        root: the root of the store.
        driver: the driver's name on disk.
    """

    def __init__(self, root: Path, driver: str) -> None:
        self._root = root
        self._driver = driver
        self._directory = state_directory(root, "recipes", driver)

    def get(self, diff_id: DiffID) -> Recipe | None:
        """Return the recipe of a layer; `None` if there is none, or it is damaged."""
        return self._read(self._directory / diff_id.hex) or self._read(self._directory.parent / diff_id.hex)

    def _read(self, path: Path) -> Recipe | None:
        try:
            recipe = Recipe(**json.loads(inside.read(path, _LONGEST)))
            known = recipe.level in _LEVELS and recipe.block in (0, BLOCK) and isinstance(recipe.size, int)
            return recipe if known and bytes.fromhex(recipe.header) else None
        except (FileNotFoundError, ValueError, TypeError, RecursionError):
            return None

    def put(self, diff_id: DiffID, recipe: Recipe) -> None:
        """Write the recipe of a layer."""
        make_directory(self._directory, 0o700)
        inside.write(self._directory / diff_id.hex, (json.dumps(asdict(recipe)) + "\n").encode(), 0o644)

    def keep_only(self, wanted: Iterable[DiffID]) -> None:
        """Remove the recipes of all layers but these.

        Recipes of earlier versions are removed only if no other driver has records: they may belong to that driver.
        """
        keep = {diff_id.hex for diff_id in wanted}
        alone = recorded_drivers(self._root) in ([], [self._driver])
        for directory in (self._directory, self._directory.parent) if alone else (self._directory,):
            for name in inside.names(directory):
                if _HEX.fullmatch(name) and name not in keep:
                    inside.unlink(directory / name, missing_ok=True)


def find_recipe(blob: BinaryIO, digest: str, size: int, media_type: str) -> Recipe | None:
    """Find the recipe of a blob from its first bytes.

    Args:
        blob: the compressed layer, at its start. Its digest has been verified.
        digest: its digest.
        size: its size in bytes.
        media_type: its media type in the manifest.

    Returns:
        The recipe; `None` if the blob is not gzip, or a gzip stream that cannot be re-created.

    Raises:
        InvalidLayer: the gzip stream is damaged.
    """
    start = _read(blob, _TRIAL)
    header = _header_length(start)
    if not header:
        return None
    body = start[header:]
    plain, whole = _plain_start(start)
    block = _block_in(start[:header])
    for level in _LEVELS:
        made = b""
        # Compare the bytes that the encoder has written so far. It writes none until its first block is full.
        for out in deflate(plain, level, block, threads=1):
            made += out
            if len(made) >= _ENOUGH and not whole:
                break
        if made == body[:-8] if whole else len(made) >= _ENOUGH and body.startswith(made[: len(body)]):
            return Recipe(digest, size, media_type, level, start[:header].hex(), block)
    return None


def blocks_header(extra_flags: int) -> bytes:
    """Return a gzip header (RFC 1952) of a stream in blocks: without a time or a name, of an unknown operating system.

    A field of its own says how large the blocks are, so that the stream can be made again.
    """
    field = _FIELD + (4).to_bytes(2, "little") + BLOCK.to_bytes(4, "little")
    return b"\x1f\x8b\x08\x04\0\0\0\0" + bytes([extra_flags, 255]) + len(field).to_bytes(2, "little") + field


def _block_in(header: bytes) -> int:
    """Return the size of the blocks that a header tells of; 0 for none."""
    return BLOCK if header == blocks_header(header[8]) else 0


def _plain_start(start: bytes) -> tuple[list[bytes], bool]:
    """Decompress the start of a blob up to a limit; return the pieces, and whether they are the whole tar."""
    inflate = zlib.decompressobj(wbits=31)
    pieces: list[bytes] = []
    try:
        while not inflate.eof and len(pieces) < _PIECES and (start or not pieces):
            pieces.append(inflate.decompress(start, _PIECE))
            start = inflate.unconsumed_tail
    except zlib.error as error:
        raise InvalidLayer(f"the gzip stream is damaged: {error}") from None
    return pieces, inflate.eof


def _header_length(start: bytes) -> int:
    """Return the length of the gzip header (RFC 1952, 2.3); 0 if there is none, or an unusual one."""
    if len(start) < 18 or detect(start) != "gzip":
        return 0
    flags, position = start[3], 10
    if flags & 0xE0:
        return 0
    if flags & 4:
        position += 2 + int.from_bytes(start[position : position + 2], "little")
    for flag in (8, 16):
        if flags & flag:
            position = start.find(b"\0", position) + 1
            if not position:
                return 0
    position += 2 if flags & 2 else 0
    return position if position < min(len(start), _HEADER_LIMIT) else 0


def _read(file: BinaryIO, size: int) -> bytes:
    data = b""
    while len(data) < size and (chunk := file.read(size - len(data))):
        data += chunk
    return data
