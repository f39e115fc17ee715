"""The kernel that reads the headers in tar-split lines, and its twin in Python: a view gets the same from both."""

from __future__ import annotations

import io
from unittest import mock

import pytest
from fastcrc import crc64
from hypothesis import example, given
from hypothesis import strategies as st

from layerstore_core.base.kernels import Engine
from layerstore_core.errors import IntegrityError, InvalidLayer
from layerstore_core.tar.layer_stream import LayerStream
from layerstore_core.tar.scanner import TarScanner
from layerstore_core.tarsplit import codec
from layerstore_core.tarsplit.codec import LineReader, LineWriter
from layerstore_core.tarsplit.record import Recorder
from layerstore_core.view import layers
from layerstore_core.view.layers import OtherEntry, PlainFile, RecordedLayer
from tests import tars
from tests.across.test_properties import whole_tars

kernels = pytest.importorskip("layerstore_native._kernels", reason="the kernels are not built")


def lines_of(tar: bytes) -> bytes:
    """Return the tar-split lines of a tar, up to its first error, as gzip."""
    out, file = io.BytesIO(), io.BytesIO(tar)
    writer = LineWriter(out)
    try:
        LayerStream(TarScanner(lambda: file.read(1 << 20)), Recorder(writer, crc64.go_iso)).drain()
    except InvalidLayer:
        writer.finish()
    return out.getvalue()


def entries_of(lines: bytes, engine: Engine) -> list[PlainFile | OtherEntry | str]:
    """Return what a view reads in lines, and the error at the end."""
    found: list[PlainFile | OtherEntry | str] = []
    with (
        mock.patch.object(layers, "engine", return_value=engine),
        mock.patch.object(codec, "engine", return_value=engine),
    ):
        try:
            for batch in RecordedLayer(lambda: LineReader(io.BytesIO(lines)), mock.Mock()).batches():
                found += batch if isinstance(batch, list) else [batch]
        except IntegrityError as error:
            found.append(str(error))
    return found


def compare(lines: bytes) -> list[PlainFile | OtherEntry | str]:
    found = entries_of(lines, Engine(kernels, "a test"))
    assert found == entries_of(lines, Engine(None, "a test"))
    return found


@given(whole_tars)
def test_entries_in_lines_are_the_twins(tar: bytes) -> None:
    compare(lines_of(tar))


@given(whole_tars, st.data())
def test_entries_in_damaged_headers_are_the_twins(tar: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(tar)))
    block = at // tars.BLOCK * tars.BLOCK
    damaged = (tar[:at] + data.draw(st.binary(max_size=12)) + tar[at:])[: len(tar)]
    if len(damaged) >= block + tars.BLOCK and data.draw(st.booleans()):
        mended = tars.with_checksum(damaged[block : block + tars.BLOCK])
        damaged = damaged[:block] + mended + damaged[block + tars.BLOCK :]
    compare(lines_of(damaged))


@example([(0, 0, 0), (0, 0, -1)])
@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5), st.integers(-600, 600)), max_size=6))
def test_entries_of_segments_that_say_something_else_are_the_twins(changes: list[tuple[int, int, int]]) -> None:
    """The record says of each payload how long it is; the headers may say something else."""
    out = io.BytesIO()
    writer = LineWriter(out)
    padding = 0
    for number, (longer, other, cut) in enumerate(changes):
        headers = tars.pax([(b"mtime", b"1.5")]) + tars.header(b"%d" % number, size=10 + longer)
        segment = bytes(padding) + headers
        writer.segment(segment[: len(segment) + min(cut, 0)] + bytes(max(cut, 0)))
        writer.file(b"%d" % number, 10 + other, 7)
        padding = -(10 + other) % 512
    writer.finish()
    compare(out.getvalue())


def test_plain_files_are_read_by_the_kernel() -> None:
    files = [
        tars.pax([(b"mtime", b"1.5")]) + tars.entry(b"./usr/bin/%d" % number, b"x" * number, uid=number % 3)
        for number in range(300)
    ]
    special = [tars.symlink(b"a", b"b"), tars.pax([(b"SCHILY.xattr.user.a", b"1")]) + tars.entry(b"c", b"x")]
    lines = lines_of(tars.tar(tars.directory(b"usr/"), *files, *special, *files[:3]))
    found = compare(lines)
    assert len(found) == 1 + 300 + 2 + 3
    with mock.patch.object(layers, "read_segment", wraps=layers.read_segment) as reads:
        assert entries_of(lines, Engine(kernels, "a test")) == found
    assert reads.call_count <= 3 + len(special)  # names that were there before have no file


def test_wrong_arguments_are_refused() -> None:
    pieces = kernels.Pieces(b"")
    assert kernels.headers(pieces, 0, 0, 5) == ([], 0, 0, 5)
    for arguments in ((1, 0, 0), (-1, 0, 0), (0, -1, 0), (0, 512, 0)):
        with pytest.raises(ValueError, match="no such piece"):
            kernels.headers(pieces, *arguments)
    with pytest.raises(TypeError):
        kernels.headers([], 0, 0, 0)
