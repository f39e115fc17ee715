"""How a layer was compressed, so that it can go out with the digest that it came in with.

A gzip stream depends on the program that wrote it. Where that used zlib, as Python's do, it can be made again from the
uncompressed tar, the header and the level. Go's compressor, which Docker and BuildKit use, its parallel variants
(Buildah, containerd), GNU gzip and pigz write other streams, which this cannot make again; nor can it those of zstd,
whose encoder changes from version to version. A recipe is tried on the start of a layer when that is taken in, which
costs next to nothing, and proved by the whole digest when the layer goes out.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from layerstore_core.base import inside
from layerstore_core.base.atomic import make_directory
from layerstore_core.base.digests import DiffID
from layerstore_core.errors import InvalidLayer
from layerstore_core.records.own_state import recorded_drivers, state_directory
from layerstore_core.streams.compression import detect

#: How much of a blob is looked at, in bytes.
_TRIAL: Final = 512 << 10
#: A recipe is tried on so many pieces of the tar at most, each of so many bytes: zlib writes its first block when it
#: has some sixteen thousand symbols, and a symbol may stand for 258 bytes.
_PIECES, _PIECE = 32, 256 << 10
#: So many bytes of compressed data that agree are no accident.
_ENOUGH: Final = 1024
_HEADER_LIMIT: Final = 64 << 10
#: A recipe's file, in bytes: a header in hex, and little else.
_LONGEST: Final = 4 * _HEADER_LIMIT
#: zlib's, the most usual first.
_LEVELS: Final = (6, 9, 1, 5, 4, 7, 8, 3, 2)
_HEX = re.compile(r"[0-9a-f]{64}", re.ASCII)


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to make a compressed layer again.

    Attributes:
        digest: of the compressed blob, `sha256:…`.
        size: of the compressed blob, in bytes.
        media_type: what the manifest called it.
        level: zlib's.
        header: the gzip header, in hex: it may hold a time, a name, a system.
    """

    digest: str
    size: int
    media_type: str
    level: int
    header: str

    def encode(self, tar: Iterable[bytes]) -> Iterator[bytes]:
        """The compressed blob, if this is its recipe."""
        yield bytes.fromhex(self.header)
        deflate = _deflate(self.level)
        crc, size = 0, 0
        for chunk in tar:
            crc = zlib.crc32(chunk, crc)
            size += len(chunk)
            if out := deflate.compress(chunk):
                yield out
        yield deflate.flush()
        yield crc.to_bytes(4, "little") + (size & 0xFFFFFFFF).to_bytes(4, "little")


class Recipes:
    """The recipes of one driver's layers, a file for each: `<root>/layerstore/recipes/<driver>/<diff ID hex>`.

    They save work and nothing else: one that is lost or damaged is as good as none. Those of earlier versions stand in
    the directory above, and are read for every driver.

    Args:
        root: the store's directory.
        driver: the driver's name on disk.
    """

    def __init__(self, root: Path, driver: str) -> None:
        self._root = root
        self._driver = driver
        self._directory = state_directory(root, "recipes", driver)

    def get(self, diff_id: DiffID) -> Recipe | None:
        """The recipe of a layer, if there is one."""
        return self._read(self._directory / diff_id.hex) or self._read(self._directory.parent / diff_id.hex)

    def _read(self, path: Path) -> Recipe | None:
        try:
            recipe = Recipe(**json.loads(inside.read(path, _LONGEST)))
            known = recipe.level in _LEVELS and isinstance(recipe.size, int)
            return recipe if known and bytes.fromhex(recipe.header) else None
        except (FileNotFoundError, ValueError, TypeError, RecursionError):
            return None

    def put(self, diff_id: DiffID, recipe: Recipe) -> None:
        """Keep a recipe."""
        make_directory(self._directory, 0o700)
        inside.write(self._directory / diff_id.hex, (json.dumps(asdict(recipe)) + "\n").encode(), 0o644)

    def keep_only(self, wanted: Iterable[DiffID]) -> None:
        """Forget the recipes of all other layers. Those of earlier versions may be another driver's, if there is one."""
        keep = {diff_id.hex for diff_id in wanted}
        alone = recorded_drivers(self._root) in ([], [self._driver])
        for directory in (self._directory, self._directory.parent) if alone else (self._directory,):
            for name in inside.names(directory):
                if _HEX.fullmatch(name) and name not in keep:
                    inside.unlink(directory / name, missing_ok=True)


def find_recipe(blob: BinaryIO, digest: str, size: int, media_type: str) -> Recipe | None:
    """Find out how a blob was compressed, from its start.

    Args:
        blob: the compressed layer, known to be sound, at its start.
        digest: its digest.
        size: its size in bytes.
        media_type: what it is called.

    Returns:
        The recipe; `None` where it is no gzip, or none that can be made again.
    """
    start = _read(blob, _TRIAL)
    header = _header_length(start)
    if not header:
        return None
    body = start[header:]
    plain, whole = _plain_start(start)
    for level in _LEVELS:
        deflate = _deflate(level)
        made = b""
        # What the encoder has written so far is where the blob has to agree; it says nothing until its first block is full.
        for piece in plain:
            made += deflate.compress(piece)
            if len(made) >= _ENOUGH and not whole:
                break
        if (
            made + deflate.flush() == body[:-8]
            if whole
            else len(made) >= _ENOUGH and body.startswith(made[: len(body)])
        ):
            return Recipe(digest, size, media_type, level, start[:header].hex())
    return None


def _plain_start(start: bytes) -> tuple[list[bytes], bool]:
    """The start of the tar, up to a limit, from the start of the blob; and whether it is all of it."""
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
    """How long the gzip header is (RFC 1952, 2.3); 0 where there is none, or one that is odd."""
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


def _deflate(level: int) -> _Compressor:
    return zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)


def _read(file: BinaryIO, size: int) -> bytes:
    data = b""
    while len(data) < size and (chunk := file.read(size - len(data))):
        data += chunk
    return data
