"""The inputs, made from files of every machine: Python's standard library and /usr/share, repeated or cut to size."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import sysconfig
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from itertools import count, islice
from pathlib import Path
from typing import Final

from layerstore_core.tar.encode import END_OF_ARCHIVE, encode_header, padding
from layerstore_core.tar.entry import EntryType, TarEntry

#: Python's standard library.
LIBRARY: Final = sysconfig.get_path("stdlib")
_SOURCES: Final = (LIBRARY, "/usr/share")
#: At most so many bytes of a single file are used, so that inputs of different machines are similar.
MAX_FILE: Final = 1 << 20
_TIME: Final = 1_700_000_000
_MIB: Final = 1 << 20
#: The size of the block that large files repeat. No compressor looks so far back.
_BLOCK: Final = 32 * _MIB
#: The gzip level of compressed layers, which `docker push` and most builders use.
_LEVEL: Final = 6


def source_files(start: int = 0) -> Iterator[tuple[str, str]]:
    """Yield regular files again and again: a name, which is new in each round, and the file's path."""
    for number in range(start, 1 << 20):
        for source in _SOURCES:
            for where, directories, names in os.walk(source):
                directories.sort()
                for name in sorted(names):
                    path = os.path.join(where, name)
                    if os.path.isfile(path) and not os.path.islink(path) and os.access(path, os.R_OK):
                        yield f"round-{number}{path}", path


def small_files(target: Path, entries: int, start: int = 0) -> None:
    """Write a tar of `entries` files and directories, with owners and times that are the same everywhere.

    Args:
        target: the tar.
        entries: the number of entries, about.
        start: the first round's number. Inputs with different starts have different names.
    """
    written = 0
    known: set[str] = set()
    with tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as tar:
        for name, path in source_files(start):
            parents = [str(one) for one in reversed(Path(name).parents) if str(one) not in known and str(one) != "."]
            for directory in parents:
                known.add(directory)
                info = tarfile.TarInfo(directory)
                info.type, info.mode, info.mtime = tarfile.DIRTYPE, 0o755, _TIME
                tar.addfile(info)
            info = tarfile.TarInfo(name)
            with open(path, "rb") as file:
                data = file.read(MAX_FILE)
            info.size, info.mode, info.mtime = len(data), 0o644, _TIME
            tar.addfile(info, io.BytesIO(data))
            written += 1 + len(parents)
            if written >= entries:
                return


def changed_files(target: Path, layers: Sequence[Path]) -> None:
    """Write a tar that has the first file of each layer with another content, and deletes the second one."""
    with tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as tar:
        for layer in layers:
            with tarfile.open(layer) as source:
                first, second = islice((entry for entry in source if entry.isfile()), 2)
            data = b"changed"
            first.size = len(data)
            tar.addfile(first, io.BytesIO(data))
            above, _, base = second.name.rpartition("/")
            tar.addfile(tarfile.TarInfo(f"{above}/.wh.{base}"))


def large_files(target: Path, packed: Path, size: int) -> None:
    """Write a tar of four files with about `size` bytes in all, and the same tar compressed with gzip.

    The files repeat a block of text and programs. The block is compressed once, and its compressed form is repeated.
    gzip could have written the same stream.
    """
    block = _block(min(_BLOCK, max(1, size // 4 // _MIB) * _MIB))
    repeats = max(1, size // 4 // len(block))
    with target.open("wb") as plain, packed.open("wb") as out:
        deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
        body = deflate.compress(block) + deflate.flush(zlib.Z_FULL_FLUSH)
        out.write(bytes([0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 255]))
        checksum = length = 0
        for number in range(4):
            entry = TarEntry(b"large-%d" % number, EntryType.FILE, size=repeats * len(block), mtime_ns=_TIME * 10**9)
            for piece in (encode_header(entry), *[block] * repeats, *[END_OF_ARCHIVE] * (number == 3)):
                plain.write(piece)
                checksum, length = zlib.crc32(piece, checksum), length + len(piece)
                if piece is block:
                    out.write(body)
                else:
                    small = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
                    last = piece is END_OF_ARCHIVE
                    out.write(small.compress(piece) + small.flush(zlib.Z_FINISH if last else zlib.Z_FULL_FLUSH))
        out.write(checksum.to_bytes(4, "little") + (length & 0xFFFFFFFF).to_bytes(4, "little"))


def _block(size: int) -> bytes:
    block = bytearray()
    for _, path in source_files():
        with open(path, "rb") as file:
            block += file.read(MAX_FILE)
        if len(block) >= size:
            break
    return bytes(block[:size])


def compress(source: Path, target: Path) -> None:
    """Compress a tar in the way of most builders."""
    with source.open("rb") as plain, gzip.open(target, "wb", _LEVEL) as packed:
        while chunk := plain.read(_MIB):
            packed.write(chunk)


def even_files(target: Path, entries: int, prefix: bytes = b"usr") -> None:
    """Write a tar of `entries` entries that each cost the same: 50 files of 200 bytes in each directory.

    Directories come before their files, as in every layer that a builder writes.
    """
    with target.open("wb") as file:
        parts = islice(_even_parts(prefix), entries)
        while batch := b"".join(islice(parts, 1000)):
            file.write(batch)
        file.write(END_OF_ARCHIVE)


def _even_parts(prefix: bytes) -> Iterator[bytes]:
    payload = b"x" * 200 + padding(200)
    for parent in (b"/", b"/share/", b"/share/doc/"):
        yield _directory(prefix + parent)
    for number in count():
        name = prefix + b"/share/doc/package-%05d/" % number
        yield _directory(name)
        for place in range(50):
            entry = TarEntry(name + b"file-%02d.txt" % place, EntryType.FILE, size=200, mtime_ns=_TIME * 10**9)
            yield encode_header(entry) + payload


def _directory(name: bytes) -> bytes:
    return encode_header(TarEntry(name, EntryType.DIR, 0o755, mtime_ns=_TIME * 10**9))


def hollow_file(target: Path, size: int) -> None:
    """Write a tar of one file of `size` zeros, as a sparse file, which takes no disk space."""
    with target.open("wb") as file:
        file.write(encode_header(TarEntry(b"hollow", EntryType.FILE, size=size, mtime_ns=_TIME * 10**9)))
        file.truncate(file.tell() + size + len(padding(size)) + len(END_OF_ARCHIVE))


def digest_of(path: Path) -> str:
    """Return the sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def docker_archive(target: Path, layers: list[tuple[Path, str]], name: str = "bench") -> None:
    """Write an image of some layers, each with its diff ID in hex, for `docker load` and `ctr images import`."""
    config = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff_id}" for _, diff_id in layers]},
    }
    names = [f"{number}/layer.tar" for number in range(len(layers))]
    manifest = [{"Config": "config.json", "RepoTags": [f"{name}:latest"], "Layers": names}]
    with tarfile.open(target, "w") as tar:
        for file, content in (("config.json", config), ("manifest.json", manifest)):
            data = json.dumps(content).encode()
            info = tarfile.TarInfo(file)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for file, (layer, _) in zip(names, layers, strict=True):
            tar.add(layer, file)


def oci_layout(target: Path, layer: Path, diff_id: str) -> None:
    """Write an OCI layout of a layer, tagged `bench`, for `umoci`. The layer's blob is a hard link to its file."""
    blobs = target / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    gzipped = layer.suffix == ".gz"

    def put(content: object, media_type: str) -> dict[str, object]:
        data = json.dumps(content).encode()
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": f"application/vnd.oci.image.{media_type}", "digest": f"sha256:{digest}", "size": len(data)}

    digest = digest_of(layer) if gzipped else diff_id
    os.link(layer, blobs / digest)
    rootfs = {"type": "layers", "diff_ids": [f"sha256:{diff_id}"]}
    config = put({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs}, "config.v1+json")
    kind = "application/vnd.oci.image.layer.v1.tar" + "+gzip" * gzipped
    blob = {"mediaType": kind, "digest": f"sha256:{digest}", "size": layer.stat().st_size}
    manifest = put({"schemaVersion": 2, "config": config, "layers": [blob]}, "manifest.v1+json")
    index = {
        "schemaVersion": 2,
        "manifests": [manifest | {"annotations": {"org.opencontainers.image.ref.name": "bench"}}],
    }
    (target / "index.json").write_text(json.dumps(index))
    (target / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
