"""Compressing layers: the same tar, method and level give the same bytes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal, Self

from layerstore_core.images.keep.deflate import BLOCK
from layerstore_core.images.keep.recipe import Recipe, blocks_header

#: The lowest, the default and the highest level of each method.
LEVELS: Final = {"gzip": (1, 6, 9), "zstd": (1, 3, 22)}
_TEXT = re.compile(r"(gzip|zstd)(?::([0-9]{1,2}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Compression:
    """A method and level of compression.

    zlib writes gzip: its output for a level has not changed for many years. Programs that replace zlib, such as
    zlib-ng, write other bytes. The output of zstd depends on the version of libzstd.

    Attributes:
        method: `"gzip"`, `"zstd"` or `"none"`.
        level: the level.
    """

    method: Literal["gzip", "zstd", "none"]
    level: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `gzip`, `gzip:9`, `zstd`, `zstd:19` or `none`.

        Raises:
            ValueError: the text is something else, or the level is out of range.
        """
        if text == "none":
            return cls("none")
        match = _TEXT.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is not a compression; give gzip, zstd or none, with a level as in zstd:19")
        method: Literal["gzip", "zstd"] = "gzip" if match[1] == "gzip" else "zstd"
        lowest, default, highest = LEVELS[method]
        level = default if match[2] is None else int(match[2])
        if not lowest <= level <= highest:
            raise ValueError(f"{text!r}: the level of {method} is from {lowest} to {highest}")
        return cls(method, level)

    @property
    def suffix(self) -> str:
        """What the media type of a tar gets: `+gzip`, `+zstd` or nothing."""
        return "" if self.method == "none" else f"+{self.method}"

    def compress(self, tar: Iterable[bytes]) -> Iterator[bytes]:
        """Compress a tar."""
        if self.method == "none":
            yield from tar
        elif self.method == "gzip":
            yield from self._gzip("", 0, "").encode(tar)
        else:
            yield from _zstd(tar, self.level)

    def recipe(self, digest: str, size: int, media_type: str) -> Recipe | None:
        """Return the recipe of a blob that this has made; `None` if a later version may make other bytes."""
        return self._gzip(digest, size, media_type) if self.method == "gzip" else None

    def _gzip(self, digest: str, size: int, media_type: str) -> Recipe:
        # The extra flags say whether the level is the highest or the lowest, as gzip writes them.
        flags = {1: 4, 9: 2}.get(self.level, 0)
        return Recipe(digest, size, media_type, self.level, blocks_header(flags).hex(), BLOCK)


def _zstd(tar: Iterable[bytes], level: int) -> Iterator[bytes]:
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        from backports import zstd
    parameter = zstd.CompressionParameter
    # One thread, because the division of work among several would show in the output.
    encoder = zstd.ZstdCompressor(
        options={parameter.compression_level: level, parameter.checksum_flag: 1, parameter.nb_workers: 0}
    )
    for chunk in tar:
        if out := encoder.compress(chunk):
            yield out
    yield encoder.flush()
