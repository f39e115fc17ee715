"""Where a layer's table of contents is, and the digest that it must have: from the annotations of its descriptor.

Formats: eStargz (github.com/containerd/stargz-snapshotter, docs/estargz.md), and zstd:chunked, as
github.com/containers/storage writes it. Both say where each file begins in the compressed layer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

#: The digest of the table of an eStargz layer, uncompressed.
_ESTARGZ_DIGEST: Final = "containerd.io/snapshot/stargz/toc.digest"
#: The beginnings of the annotations of zstd:chunked: podman's, and those of older programs.
_ZSTD_PREFIXES: Final = ("io.github.containers.zstd-chunked.", "io.containers.zstd-chunked.")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}", re.ASCII)
#: Offset, compressed and uncompressed size, and the type of the table.
_POSITION = re.compile(r"(\d{1,18}):(\d{1,18}):(\d{1,18}):1", re.ASCII)


@dataclass(frozen=True, slots=True)
class TocPlace:
    """Where a table of contents is.

    Attributes:
        form: `"estargz"`: the footer of the layer says where it is; `"zstd:chunked"`: the annotations have said it.
        digest: the digest of the table: with eStargz as it is, with zstd:chunked as it is compressed.
        offset: with zstd:chunked, its offset in the layer.
        compressed: with zstd:chunked, its compressed size.
        size: with zstd:chunked, its size.
    """

    form: Literal["estargz", "zstd:chunked"]
    digest: str
    offset: int = 0
    compressed: int = 0
    size: int = 0

    @property
    def compression(self) -> Literal["gzip", "zstd"]:
        """The compression of the layer, as `streams.compression` names it."""
        return "gzip" if self.form == "estargz" else "zstd"


def place_of(annotations: Mapping[str, Any], size: int) -> TocPlace | None:
    """Return where the table of a layer is; `None` if it has none that can be verified.

    Args:
        annotations: the annotations of the layer's descriptor.
        size: the size of the layer in bytes, as it is compressed.
    """
    for prefix in _ZSTD_PREFIXES:
        digest = annotations.get(f"{prefix}manifest-checksum")
        position = annotations.get(f"{prefix}manifest-position")
        if not (isinstance(digest, str) and isinstance(position, str) and _DIGEST.fullmatch(digest)):
            continue
        if match := _POSITION.fullmatch(position):
            offset, compressed, whole = map(int, match.groups())
            if compressed and offset + compressed <= size:
                return TocPlace("zstd:chunked", digest, offset, compressed, whole)
    digest = annotations.get(_ESTARGZ_DIGEST)
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        return None
    # A layer of zstd:chunked has this annotation, too.
    return None if any(key.startswith(_ZSTD_PREFIXES) for key in annotations) else TocPlace("estargz", digest)


#: The length of an eStargz layer's footer: an empty gzip member.
FOOTER: Final = 51
_FOOTER_START: Final = b"\x1f\x8b\x08\x04"
_FOOTER_FIELD: Final = re.compile(rb"SG\x16\0([0-9a-f]{16})STARGZ")
#: The end of an empty deflate stream.
_FOOTER_END: Final = b"\x01\0\0\xff\xff" + bytes(8)


def offset_in_footer(footer: bytes, size: int) -> int | None:
    """Return the offset of the table of contents that a footer names; `None` if it is no footer of eStargz.

    Args:
        footer: the last `FOOTER` bytes of the layer.
        size: the size of the layer in bytes.
    """
    match = _FOOTER_FIELD.match(footer, 12)
    if len(footer) != FOOTER or not footer.startswith(_FOOTER_START) or footer[10:12] != b"\x1a\0" or not match:
        return None
    offset = int(match[1], 16)
    return offset if footer.endswith(_FOOTER_END) and offset < size - FOOTER else None
