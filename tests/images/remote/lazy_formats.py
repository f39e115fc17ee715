"""Layers with a table of contents, made of tars: eStargz and zstd:chunked, as converters write them, and wrong ones."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from layerstore_core.tar.entry import EntryType, TarEntry
from layerstore_core.tar.scanner import TarScanner
from tests import tars

try:
    from compression import zstd  # type: ignore[import-not-found,unused-ignore]
except ImportError:
    from backports import zstd

Form = Literal["estargz", "zstd:chunked"]
Document = dict[str, Any]

TYPES = {
    EntryType.FILE: "reg",
    EntryType.DIR: "dir",
    EntryType.SYMLINK: "symlink",
    EntryType.HARDLINK: "hardlink",
    EntryType.CHAR: "char",
    EntryType.BLOCK: "block",
    EntryType.FIFO: "fifo",
}
LANDMARK = tars.entry(b".no.prefetch.landmark", b"\x0f")
TOC_NAME = b"stargz.index.json"


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass(frozen=True)
class Packed:
    """A compressed layer.

    Attributes:
        blob: the layer.
        tar: what it decompresses to.
        annotations: those of its descriptor.
        toc: its table of contents.
        toc_range: where that is in the layer, compressed.
    """

    blob: bytes
    tar: bytes
    annotations: dict[str, str]
    toc: Document = field(repr=False)
    toc_range: tuple[int, int] = (0, 0)


def pack(tar: bytes, form: Form, **options: Any) -> Packed:
    """Make a layer of a form."""
    return estargz(tar, **options) if form == "estargz" else zstd_chunked(tar, **options)


def estargz(
    tar: bytes,
    *,
    chunk: int = 4 << 20,
    edit: Callable[[Document], object] | None = None,
    footer: Callable[[int], bytes] | None = None,
    toc: bytes | None = None,
    toc_digest: str | None = None,
) -> Packed:
    """Make an eStargz layer.

    Args:
        tar: the tar that it is made of. A landmark and the table of contents are added.
        chunk: the size of the chunks of large files.
        edit: changes the table of contents.
        footer: makes another footer, from the offset of the table.
        toc: other bytes instead of the table.
        toc_digest: another digest in the annotations.
    """
    packer = _Packer(lambda data: gzip.compress(data, 1, mtime=0))
    entries = packer.add(LANDMARK + tar, chunk)
    packer.flush()
    document = {"version": 1, "entries": entries}
    if edit is not None:
        edit(document)
    data = json.dumps(document, indent="\t").encode() if toc is None else toc
    start = len(packer.blob)
    packer.write(tars.entry(TOC_NAME, data, mode=0) + tars.END)
    packer.flush()
    end = len(packer.blob)
    annotations = {"containerd.io/snapshot/stargz/toc.digest": toc_digest or digest(data)}
    blob = packer.blob + (footer or estargz_footer)(start)
    return Packed(blob, packer.tar, annotations, document, (start, end))


def estargz_footer(offset: int) -> bytes:
    return b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x1a\0SG\x16\0%016xSTARGZ\x01\0\0\xff\xff" % offset + bytes(8)


def zstd_chunked(
    tar: bytes,
    *,
    chunk: int = 4 << 20,
    edit: Callable[[Document], object] | None = None,
    prefix: str = "io.github.containers.zstd-chunked.",
    position: str | None = None,
    toc: bytes | None = None,
    checksum: str | None = None,
) -> Packed:
    """Make a zstd:chunked layer, as podman does: a file has the end of its last chunk, and there are chunks of zeros.

    Args:
        tar: the tar that it is made of.
        chunk: the size of chunks.
        edit: changes the table of contents.
        prefix: the beginning of the annotations.
        position: another position in the annotations.
        toc: other bytes instead of the table.
        checksum: another digest in the annotations.
    """
    packer = _Packer(zstd.compress)
    entries = packer.add(tar, chunk, ends=True)
    packer.flush()
    document = {"version": 1, "entries": entries}
    if edit is not None:
        edit(document)
    data = json.dumps(document).encode() if toc is None else toc
    packed = zstd.compress(data)
    start = len(packer.blob) + 8
    blob = packer.blob + _skippable(packed)
    numbers = (start, len(packed), len(data), 1)
    blob += _skippable(b"".join(n.to_bytes(8, "little") for n in numbers) + b"GNUlInUx")
    annotations = {
        f"{prefix}manifest-checksum": checksum or digest(packed),
        f"{prefix}manifest-position": position or ":".join(map(str, numbers)),
    }
    return Packed(blob, packer.tar, annotations, document, (start, start + len(packed)))


def _skippable(data: bytes) -> bytes:
    return b"\x50\x2a\x4d\x18" + len(data).to_bytes(4, "little") + data


class _Packer:
    """Compresses a tar so that each content begins a stream of its own."""

    def __init__(self, compress: Callable[[bytes], bytes]) -> None:
        self._compress = compress
        self._pending = bytearray()
        self._blob = bytearray()
        self._tar = bytearray()

    @property
    def blob(self) -> bytes:
        return bytes(self._blob)

    @property
    def tar(self) -> bytes:
        return bytes(self._tar)

    def write(self, data: bytes) -> None:
        self._pending += data
        self._tar += data

    def flush(self) -> int:
        """Compress what has been written; return the offset after it."""
        if self._pending:
            self._blob += self._compress(bytes(self._pending))
            self._pending.clear()
        return len(self._blob)

    def add(self, tar: bytes, chunk: int, *, ends: bool = False) -> list[Document]:
        """Write a tar up to its end marker, which is left out; return the entries of a table of contents."""
        source = io.BytesIO(tar)
        scanner = TarScanner(lambda: source.read(1 << 20))
        found: list[Document] = []
        while True:
            segment, entry = scanner.next_entry()
            if entry is None:
                # What comes before the end marker is the padding of the last content.
                self.write(segment[: -len(self._tar) % tars.BLOCK])
                if ends:
                    self.write(tars.END)
                return found
            self.write(segment)
            data = b"".join(map(bytes, scanner.payload()))
            item = toc_entry(entry)
            if item is not None:
                found.append(item)
            if not data or item is None:
                self.write(data)
                continue
            item["digest"] = digest(data)
            pieces = [data[at : at + chunk] for at in range(0, len(data), chunk)]
            file = item
            for number, piece in enumerate(pieces):
                if number:
                    item = {"name": item["name"], "type": "chunk", "chunkOffset": number * chunk}
                    found.append(item)
                item["offset"] = self.flush()
                self.write(piece)
                if ends:
                    file["endOffset"] = self.flush()
                if len(pieces) > 1 and (ends or number < len(pieces) - 1):
                    item["chunkSize"] = len(piece)
                if len(pieces) > 1 or not ends:
                    item["chunkDigest"] = digest(piece)
                if ends and len(pieces) > 1 and not piece.strip(b"\0"):
                    item["chunkType"] = "zeros"
                    del item["chunkDigest"]


def toc_entry(entry: TarEntry) -> Document | None:
    """Return an entry of a tar as one of a table of contents, without what says where its content is."""
    kind = TYPES.get(entry.type)
    if kind is None:
        return None
    time = datetime.fromtimestamp(entry.mtime_ns // 1_000_000_000, UTC)
    fields = {
        "size": entry.size if kind == "reg" else 0,
        "modtime": time.strftime("%Y-%m-%dT%H:%M:%SZ") if entry.mtime_ns else "",
        "linkName": entry.linkname.decode(),
        "mode": entry.mode,
        "uid": entry.uid,
        "gid": entry.gid,
        "devMajor": entry.devmajor,
        "devMinor": entry.devminor,
        "xattrs": {name.decode(): base64.b64encode(value).decode() for name, value in entry.xattrs.items()},
    }
    return {"name": entry.name.decode(), "type": kind, **{key: value for key, value in fields.items() if value}}


def inflated(packed: Packed) -> bytes:
    """Return what any other program decompresses the layer to."""
    if packed.blob.startswith(b"\x1f\x8b"):
        return gzip.decompress(packed.blob)
    return b"".join(map(zstd.decompress, [packed.blob]))


def deflate_bomb(size: int) -> bytes:
    """Return a gzip member of many zeros."""
    packer = zlib.compressobj(9, wbits=31)
    block = bytes(1 << 20)
    return b"".join(packer.compress(block) for _ in range(size >> 20)) + packer.flush()
