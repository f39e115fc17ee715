"""A recorded layer has the same entries as its tar, wherever the recording has put their payloads."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from fastcrc import crc64
from hypothesis import given
from hypothesis import strategies as st

from layerstore_core.errors import IntegrityError, InvalidLayer
from layerstore_core.tar.layer_stream import LayerStream
from layerstore_core.tar.scanner import TarScanner
from layerstore_core.tarsplit.codec import LineReader, LineWriter
from layerstore_core.tarsplit.record import Recorder
from layerstore_core.unpack.create import mtime_to_set
from layerstore_core.view.layers import OtherEntry, RecordedLayer, TarLayer, ViewLayer
from layerstore_core.view.nodes import FileNode
from tests import tars
from tests.across.chains import SPARSE, attributes, d, f, link, sym, with_records
from tests.across.test_properties import whole_tars


class _Lines(io.BytesIO):
    """A file of lines that stays readable when a reader closes it."""

    def close(self) -> None:
        self.seek(0)


def record(tar: bytes) -> _Lines:
    """Return the tar-split lines of a tar, as registering writes them."""
    chunks = iter([tar[at : at + 700] for at in range(0, len(tar), 700)])
    lines = _Lines()
    LayerStream(TarScanner(lambda: next(chunks, b"")), Recorder(LineWriter(lines), crc64.go_iso)).drain()
    lines.seek(0)
    return lines


class _Files:
    """The files that the lines name, taken from the tar."""

    def __init__(self, contents: dict[bytes, bytes]) -> None:
        self._contents = contents

    def open(self, name: bytes) -> io.BytesIO:
        return io.BytesIO(self._contents[name])


def entries_of(layer: ViewLayer) -> Iterator[dict[str, Any]]:
    for batch in layer.batches():
        if isinstance(batch, OtherEntry):
            entry = batch.entry
            yield {
                "path": entry.path,
                "type": entry.type.value,
                "meta": (entry.mode, entry.uid, entry.gid, mtime_to_set(entry)),
                "size": (entry.size, entry.stored_size, entry.sparse),
                "link": entry.linkname,
                "device": (entry.devmajor, entry.devminor),
                "xattrs": dict(entry.xattrs),
                "payload": (batch.name, batch.offset, batch.crc),
            }
            continue
        for path, owner, mtime_ns, size, name, offset, crc in batch:
            yield {
                "path": path,
                "type": "directory" if size < 0 else "file",
                "meta": (*owner, mtime_ns),
                "size": (max(size, 0), max(size, 0), None),
                "link": b"",
                "device": (0, 0),
                "xattrs": {},
                "payload": (name, offset, crc),
            }


def assert_same(tar: bytes) -> int:
    """Compare the entries of a recorded tar with those of the tar; return their number."""
    whole = TarLayer(partial(io.BytesIO, tar))
    lines = record(tar)
    wanted = list(entries_of(whole))
    contents: dict[bytes, bytes] = {}
    recorded = RecordedLayer(lambda: LineReader(lines), lambda: _Files(contents))
    found = list(entries_of(recorded))
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        (name, offset, crc), (_, true_offset, _) = one.pop("payload"), other.pop("payload")
        linkname = one["link"] if one["type"] in ("hard link", "symbolic link") else other["link"]
        assert {**one, "link": linkname} == other
        stored = one["size"][1]
        if not stored:
            continue
        assert offset == true_offset
        file = FileNode(0, 0, 0, 0, 0, stored, name, offset, crc)
        content = b"".join(whole.payload(file))
        assert content == tar[offset : offset + stored]
        if name:
            contents[name] = content
        assert b"".join(recorded.payload(file)) == content
    return len(found)


@given(whole_tars)
def test_any_recorded_tar_has_the_entries_of_the_tar(tar: bytes) -> None:
    try:
        list(TarLayer(partial(io.BytesIO, tar)).batches())
    except InvalidLayer:
        return
    assert_same(tar)


@pytest.mark.parametrize(
    ("before", "entry"),
    [
        ([], f(b"l" * 150, b"long")),
        ([], sym(b"l" * 150, b"t" * 150)),
        ([f(b"a", b"x")], link(b"b", b"a")),
        ([], with_records(f(b"x", b"content"), (b"mtime", b"1.5"), (b"uid", b"3000000"))),
        ([], with_records(d(b"x"), (b"mtime", b"-1.25"))),
        ([], attributes(f(b"x", b"content"), user_x=b"1")),
        ([], with_records(f(b"x"), (b"path", b".wh.y"))),
        ([], tars.sparse_pax(b"s", *SPARSE, "1.0")),
        ([], tars.sparse_pax(b"s", *SPARSE, "0.0")),
        ([], tars.sparse_old_gnu(b"s", *SPARSE)),
        ([f(b"a", b"1"), f(b"b", b"2")], f(b"a", b"3" * 5000)),
        ([tars.pax([(b"comment", b"commit")], typeflag=b"g")], f(b"a", b"1")),
        ([], tars.entry(b"linked", b"data", typeflag=b"1", linkname=b"a")),
        ([], tars.entry(b"unknown", b"data", typeflag=b"Z")),
        ([], f(b"x" * 600 + b"/y", b"z")),
        ([], f(b"big", b"b" * 3_000_000)),
    ],
)
def test_unusual_entries_between_usual_ones(before: list[bytes], entry: bytes) -> None:
    entries = [d(b"dir"), *before, f(b"dir/one", b"1"), entry, f(b"dir/two", b"22"), d(b"last"), f(b"last/f", b"3")]
    assert assert_same(tars.tar(*entries)) == len(entries)
    assert assert_same(tars.tar(*entries, end=b"")) == len(entries)


def test_damaged_record_is_an_error_with_advice() -> None:
    lines = record(tars.tar(f(b"a", b"1"), tars.sparse_pax(b"s", *SPARSE, "1.0"), f(b"c", b"2")))
    packed = lines.getvalue()
    for damaged in (packed[:-20], b"no gzip", packed[:30] + b"\0" + packed[31:]):
        layer = RecordedLayer(lambda damaged=damaged: LineReader(_Lines(damaged)), lambda: _Files({}))  # type: ignore[misc]
        with pytest.raises(IntegrityError, match="tar-split"):
            list(layer.batches())


def test_record_that_lacks_an_inline_payload_is_an_error() -> None:
    lines = record(tars.tar(f(b"a", b"1")))
    layer = RecordedLayer(lambda: LineReader(lines), lambda: _Files({}))
    with pytest.raises(IntegrityError, match="lacks the content"):
        list(layer.payload(FileNode(0, 0, 0, 0, 0, 10, b"", 1 << 30, 0)))


@given(st.data())
def test_flipped_lines_give_entries_or_an_error(data: st.DataObject) -> None:
    """Nothing but `IntegrityError` comes out of lines that are well-formed and wrong."""
    tar = tars.tar(f(b"a", b"1"), tars.sparse_pax(b"s", bytes(3000) + b"d", [(3000, 1)], "1.0"), f(b"c", b"2"))
    text = bytearray(b"".join(line + b"\n" for line in LineReader(record(tar))))
    for at in data.draw(st.lists(st.integers(0, len(text) - 1), min_size=1, max_size=3)):
        text[at] = data.draw(st.sampled_from(b'0AZz9/+"\n'))
    import gzip

    packed = gzip.compress(bytes(text), 1)
    layer = RecordedLayer(lambda: LineReader(_Lines(packed)), lambda: _Files({}))
    try:
        list(layer.batches())
    except IntegrityError:
        pass
