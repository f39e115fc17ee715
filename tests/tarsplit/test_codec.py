"""tar-split lines: written as Go writes them, read again, and refused when damaged."""

from __future__ import annotations

import base64
import gzip
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerstore_core.errors import IntegrityError
from layerstore_core.tarsplit.codec import (
    MAX_SEGMENT,
    FileEntry,
    LineReader,
    LineWriter,
    Segment,
    decode_lines,
    encode_file,
    encode_segment,
)


@pytest.mark.parametrize(
    ("name", "field"),
    [
        (b"etc/hosts", '"name":"etc/hosts"'),
        (b'<a>&"b"\\', '"name":"\\u003ca\\u003e\\u0026\\"b\\"\\\\"'),
        (b"\n\r\t\b\f\0\x1f", '"name":"\\n\\r\\t\\u0008\\u000c\\u0000\\u001f"'),
        ("\u2028\u2029".encode(), '"name":"\\u2028\\u2029"'),
        ("\x7fä☺\U0001f600\ufffd\ufeff".encode(), '"name":"\x7fä☺\U0001f600\ufffd\ufeff"'),
        (b"/", '"name":"/"'),
        (b"\xff", '"name_raw":"/w=="'),
        (b"iso-\xe4", '"name_raw":"aXNvLeQ="'),
        (b"\xed\xa0\x80", '"name_raw":"7aCA"'),  # a surrogate, which is invalid in UTF-8
    ],
)
def test_names_are_written_as_go_writes_them(name: bytes, field: str) -> None:
    assert encode_file(name, 0, 0, 7).decode() == f'{{"type":1,{field},"payload":null,"position":7}}\n'


def test_lines_are_written_as_go_writes_them() -> None:
    assert encode_file(b"", 0, 0, 0) == b'{"type":1,"payload":null,"position":0}\n'
    assert encode_file(b"a", 10, 0x0123456789ABCDEF, 3) == (
        b'{"type":1,"name":"a","size":10,"payload":"ASNFZ4mrze8=","position":3}\n'
    )
    assert encode_file(b"a", 10, 0, 3).count(b'"payload":"AAAAAAAAAAA="') == 1
    assert encode_segment(b"\0\1", 4) == b'{"type":2,"payload":"AAE=","position":4}\n'
    assert encode_segment(memoryview(b""), 5) == b'{"type":2,"payload":"","position":5}\n'


segments = st.builds(Segment, st.binary(max_size=100))
file_entries = st.builds(
    FileEntry,
    st.one_of(st.binary(max_size=20), st.text(max_size=20).map(str.encode)),
    st.integers(1, 1 << 62),
    st.integers(0, (1 << 64) - 1),
)
empty_entries = st.builds(FileEntry, st.binary(max_size=20), st.just(0), st.just(0))


def write(entries: list[Segment | FileEntry]) -> bytes:
    out = io.BytesIO()
    lines = LineWriter(out)
    for entry in entries:
        if isinstance(entry, Segment):
            lines.segment(entry.data)
        else:
            lines.file(entry.name, entry.size, entry.crc)
    lines.finish()
    return out.getvalue()


def read(packed: bytes) -> list[Segment | FileEntry]:
    with LineReader(io.BytesIO(packed)) as lines:
        return list(decode_lines(lines))


@given(st.lists(st.one_of(segments, file_entries, empty_entries)))
def test_written_lines_are_read_again(entries: list[Segment | FileEntry]) -> None:
    packed = write(entries)
    assert read(packed) == entries
    positions = [json.loads(line)["position"] for line in gzip.decompress(packed).splitlines()]
    assert positions == list(range(len(entries)))


def test_equal_lines_give_equal_files() -> None:
    entries: list[Segment | FileEntry] = [Segment(b"x" * 1000), FileEntry(b"a", 5, 6)] * 3000
    assert write(entries) == write(entries)
    assert write(entries)[4:8] == bytes(4), "the gzip header contains a time"


def test_lines_that_go_may_write_are_read() -> None:
    lines = [
        b'{"type":2,"payload":null,"position":0}\n',
        b'{"position":1,"payload":null,"name":"a","type":1}\n',
        b'{"type":1,"name":"\\u00e4\\ud83d\\ude00","size":1,"payload":"AAAAAAAAAAE=","position":2}\n',
    ]
    assert list(decode_lines(lines)) == [Segment(b""), FileEntry(b"a"), FileEntry("ä\U0001f600".encode(), 1, 1)]


def test_long_payloads_are_split_into_segments() -> None:
    out = io.BytesIO()
    lines = LineWriter(out)
    lines.payload(memoryview(b"x" * (2 * MAX_SEGMENT + 5)))
    lines.finish()
    assert [len(entry.data) for entry in read(out.getvalue()) if isinstance(entry, Segment)] == [
        MAX_SEGMENT,
        MAX_SEGMENT,
        5,
    ]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"1",
        b"{}",
        b'{"type":2}',
        b'{"type":3,"payload":null}',
        b'{"type":"2","payload":null}',
        b'{"type":2,"payload":"!"}',
        b'{"type":2,"payload":"AAE"}',
        b'{"type":2,"payload":7}',
        b'{"type":1,"name":"a","size":5,"payload":null}',
        b'{"type":1,"name":"a","size":5,"payload":"AAE="}',
        b'{"type":1,"name":"a","size":-5,"payload":"AAAAAAAAAAE="}',
        b'{"type":1,"name":"a","size":"5","payload":"AAAAAAAAAAE="}',
        b'{"type":1,"name":"a","size":5.0,"payload":"AAAAAAAAAAE="}',
        b'{"type":1,"name":7,"payload":null}',
        b'{"type":1,"name":"\\ud800","payload":null}',
        b'{"type":1,"name_raw":"!","payload":null}',
        b'{"type":2,"payload":"\xff"}',
        b"[" * 100_000,
    ],
)
def test_the_error_for_a_damaged_line_has_its_number(line: bytes) -> None:
    with pytest.raises(IntegrityError, match="tar-split line 2 is damaged"):
        list(decode_lines([encode_segment(b"x", 0), line + b"\n"]))


GOOD = write([Segment(base64.b64encode(bytes(range(256)))), FileEntry(b"a", 1, 1)] * 50)


@pytest.mark.parametrize(
    "packed",
    [
        GOOD[:-1],
        GOOD[: len(GOOD) // 2],
        GOOD[:5],
        b"no gzip",
        GOOD[:-8] + b"\0" * 8,
        GOOD[:20] + b"\xff\xff" + GOOD[22:],
        gzip.compress(encode_segment(b"x", 0) + encode_segment(b"y", 1)[:-1], mtime=0),
    ],
)
def test_damaged_gzip_files_are_refused(packed: bytes) -> None:
    with pytest.raises(IntegrityError, match="damaged"):
        read(packed)


def test_a_line_without_end_is_refused_without_reading_it_all() -> None:
    with pytest.raises(IntegrityError, match="whole line"):
        read(gzip.compress(b"x" * (65 << 20), 1))


@given(st.data())
def test_flipped_bits_are_detected_or_have_no_effect(data: st.DataObject) -> None:
    packed = bytearray(GOOD)
    at = data.draw(st.integers(0, len(packed) * 8 - 1))
    packed[at // 8] ^= 1 << at % 8
    try:
        found = read(bytes(packed))
    except IntegrityError:
        return
    assert found == read(GOOD)


def test_closing_the_reader_closes_the_file() -> None:
    file = io.BytesIO(GOOD)
    with LineReader(file):
        pass
    assert file.closed


def test_errors_of_the_file_are_raised_unchanged() -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError(5, "the disk is gone")

        def readinto(self, buffer: object, /) -> int:
            raise OSError(5, "the disk is gone")

    with LineReader(Broken(GOOD)) as lines, pytest.raises(OSError, match="the disk is gone"):
        list(lines)
