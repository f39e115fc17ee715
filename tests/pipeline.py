"""A layer's whole way through the archive modules: in, onto disk, and out again, as the store puts them together."""

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
class Taken:
    """What is known of a layer once it is in."""

    root: Path
    size: int
    diff_id: str
    packed_lines: bytes
    settled: bool

    @property
    def lines(self) -> bytes:
        return igzip.decompress(self.packed_lines)

    @property
    def entries(self) -> list[Segment | FileEntry]:
        return list(decode_lines(self.lines.splitlines(keepends=True)))


def take_in(
    layer: BinaryIO | str | os.PathLike[str] | bytes, root: Path, *, spool: Path | None = None, **options: Any
) -> Taken:
    """Unpack a layer into `root`, recording it; `options` are `unpack_layer`'s."""
    out = io.BytesIO()
    given = io.BytesIO(layer) if isinstance(layer, bytes) else layer
    with LayerSource(given, spool_dir=spool or root.parent, allow_empty=True) as source:
        recorder = Recorder(LineWriter(out), crc64.go_iso)
        diff = LayerStream(TarScanner(source.read_chunk), recorder)
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
    return Taken(root, size, diff_id, out.getvalue(), displaced)


def give_back(taken: Taken) -> bytes:
    """The tar again, from the lines and the files."""
    files = TreeFiles(taken.root)
    try:
        with LineReader(io.BytesIO(taken.packed_lines)) as lines:
            return b"".join(assemble(decode_lines(lines), files))
    finally:
        files.close()


def round_trip(tar: bytes, root: Path, **options: Any) -> Taken:
    """Take a layer in, and make sure that it comes back exactly."""
    taken = take_in(tar, root, **options)
    assert give_back(taken) == tar
    return taken
