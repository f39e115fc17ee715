"""Recording of tar-split lines: file entries, inline payloads, and names that occur more than once."""

from __future__ import annotations

import io

import pytest
from fastcrc import crc64

from layerstore_core.tar.layer_stream import LayerStream
from layerstore_core.tar.scanner import TarScanner
from layerstore_core.tarsplit.codec import FileEntry, LineReader, LineWriter, Segment, decode_lines
from layerstore_core.tarsplit.record import Recorder
from tests import tars


def record(tar: bytes) -> tuple[list[Segment | FileEntry], bool]:
    """Return the lines of a tar, and whether a recorded file may have been replaced."""
    out, file = io.BytesIO(), io.BytesIO(tar)
    recorder = Recorder(LineWriter(out), crc64.go_iso)
    LayerStream(TarScanner(lambda: file.read(1000)), recorder).drain()
    out.seek(0)
    with LineReader(out) as lines:
        return list(decode_lines(lines)), recorder.displaced


def files(tar: bytes) -> list[FileEntry]:
    return [entry for entry in record(tar)[0] if isinstance(entry, FileEntry)]


def crc(data: bytes) -> int:
    return int(crc64.go_iso(data))


def test_lines_have_the_order_of_the_tar() -> None:
    a, d = tars.entry(b"a", b"x" * 1500), tars.directory(b"d")
    entries, displaced = record(tars.tar(a, d, end=bytes(10240)))
    assert entries == [
        Segment(a[:512]),
        FileEntry(b"a", 1500, crc(b"x" * 1500)),
        Segment(a[2012:] + d),
        FileEntry(b"d"),
        Segment(tars.END),
        Segment(bytes(9216)),
        Segment(b""),
    ]
    assert not displaced


def test_the_checksum_is_crc64_go_iso() -> None:
    assert crc(b"123456789") == 0xB90956C775A41001


@pytest.mark.parametrize("flag", [b"0", b"\0", b"7"])
def test_plain_files_are_recorded_with_their_checksum(flag: bytes) -> None:
    assert files(tars.tar(tars.entry(b"./a", b"abc", typeflag=flag))) == [FileEntry(b"./a", 3, crc(b"abc"))]


@pytest.mark.parametrize(
    "part",
    [
        tars.entry(b"a", b"abc", typeflag=b"Z"),
        tars.entry(b"a", b"abc", typeflag=b"D"),
        tars.entry(b"a", b"abc", typeflag=b"M"),
        tars.hard_link(b"a", b"b", b"abc"),
        tars.sparse_old_gnu(b"a", bytes(1000) + b"abc", [(1000, 3)]),
        tars.sparse_pax(b"a", bytes(1000) + b"abc", [(1000, 3)], "1.0"),
        tars.entry(b".wh.a", b"abc"),
        tars.entry(b".wh..wh..opq", b"abc"),
        tars.entry(b".wh..wh.plnk/1", b"abc"),
        tars.entry(b".wh..wh.aufs", b"abc"),
        tars.entry(b"../a", b"abc"),
        tars.entry(b"./", b"abc"),
    ],
)
def test_payloads_that_no_file_will_have_are_inline(part: bytes) -> None:
    tar = tars.tar(part, tars.entry(b"other", b"o"))
    entries, _ = record(tar)
    assert files(tar) == [FileEntry(b"other", 1, crc(b"o"))]
    assert Segment(b"abc") in entries


@pytest.mark.parametrize("name", [b"a", b"./a", b"/a", b"a/", b"x/../a", b"//a"])
@pytest.mark.parametrize("content", [b"", b"new"])
def test_a_name_has_one_file_entry(name: bytes, content: bytes) -> None:
    """Readers refuse two file entries of one clean name."""
    first = tars.entry(b"a", b"old")
    entries, displaced = record(tars.tar(first, tars.entry(name, content)))
    assert [entry for entry in entries if isinstance(entry, FileEntry)] == [FileEntry(b"a", 3, crc(b"old"))]
    assert displaced


def test_duplicates_without_content_displace_nothing() -> None:
    entries, displaced = record(tars.tar(tars.directory(b"d"), tars.directory(b"d/"), tars.entry(b"f", b"x")))
    assert [entry.name for entry in entries if isinstance(entry, FileEntry)] == [b"d", b"f"]
    assert not displaced


def test_large_inline_payloads_are_split_into_segments() -> None:
    content = bytes(range(256)) * 16384
    entries, _ = record(tars.tar(tars.entry(b"a", content, typeflag=b"Z")))
    inline = [entry.data for entry in entries if isinstance(entry, Segment)][1:-2]
    assert b"".join(inline) == content


def test_names_that_are_not_utf8_are_recorded() -> None:
    assert files(tars.tar(tars.entry(b"\xff", b"x"))) == [FileEntry(b"\xff", 1, crc(b"x"))]
