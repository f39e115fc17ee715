"""A layer unpacked, recorded and assembled again, with the same modules and in the same order as in the store."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from fastcrc import crc64
from isal import igzip

from layerstore_core.streams.source import LayerSource
from layerstore_core.tar.layer_stream import LayerStream
from layerstore_core.tar.scanner import TarScanner
from layerstore_core.tarsplit.assemble import assemble
from layerstore_core.tarsplit.codec import FileEntry, LineReader, LineWriter, Segment, decode_lines
from layerstore_core.tarsplit.record import Recorder
from layerstore_core.tarsplit.verify_payloads import verify_payloads
from layerstore_core.tree.files import TreeFiles
from layerstore_core.unpack.unpacker import unpack_layer


@dataclass(frozen=True)
class UnpackedLayer:
    """An unpacked layer: its directory, its size in bytes, its diff ID in hexadecimal, and its tar-split lines."""

    root: Path
    size: int
    diff_id: str
    packed_lines: bytes
    lines_rewritten: bool

    @property
    def lines(self) -> bytes:
        return igzip.decompress(self.packed_lines)

    @property
    def entries(self) -> list[Segment | FileEntry]:
        return list(decode_lines(self.lines.splitlines(keepends=True)))


def unpack_tar(
    layer: BinaryIO | str | os.PathLike[str] | bytes, root: Path, *, spool: Path | None = None, **options: Any
) -> UnpackedLayer:
    """Unpack a layer into `root`, and record its lines; `options` are those of `unpack_layer`."""
    out = io.BytesIO()
    source_file = io.BytesIO(layer) if isinstance(layer, bytes) else layer
    with LayerSource(source_file, spool_dir=spool or root.parent, allow_empty=True) as source:
        recorder = Recorder(LineWriter(out), crc64.go_iso)
        diff = LayerStream(TarScanner(source.read_chunk), recorder, save_payloads=source.save_payloads)
        size = unpack_layer(diff, str(root), **options)
        diff.drain()
        diff_id = source.hexdigest()
        displaced = recorder.displaced or diff.displaced
        if displaced:
            provisional, out = out, io.BytesIO()
            provisional.seek(0)
            files = TreeFiles(root)
            try:
                with LineReader(provisional) as lines:
                    verify_payloads(decode_lines(lines), files, source.replay(), LineWriter(out))
            finally:
                files.close()
    return UnpackedLayer(root, size, diff_id, out.getvalue(), displaced)


def assemble_tar(unpacked: UnpackedLayer) -> bytes:
    """Assemble the layer's tar from its lines and its files."""
    files = TreeFiles(unpacked.root)
    try:
        with LineReader(io.BytesIO(unpacked.packed_lines)) as lines:
            return b"".join(assemble(decode_lines(lines), files))
    finally:
        files.close()


def round_trip(tar: bytes, root: Path, **options: Any) -> UnpackedLayer:
    """Unpack a layer, and assert that its tar is assembled again byte for byte."""
    unpacked = unpack_tar(tar, root, **options)
    assert assemble_tar(unpacked) == tar
    return unpacked
