"""Fast paths: where there is a fast and a plain implementation, both give the same results."""

from __future__ import annotations

import io

import pytest
from fastcrc import crc64
from hypothesis import given
from hypothesis import strategies as st

from layerstore_core.base.paths import clean_name, leaves_root
from layerstore_core.errors import InvalidLayer
from layerstore_core.tar.entry import TarEntry
from layerstore_core.tar.header import HeaderError, parse_common_header, parse_header
from layerstore_core.tar.layer_stream import LayerStream
from layerstore_core.tar.run import entry_of
from layerstore_core.tar.scanner import TarScanner
from layerstore_core.tar.whiteouts import NameKind, classify
from layerstore_core.tarsplit import codec
from layerstore_core.tarsplit.codec import LineWriter
from layerstore_core.tarsplit.record import Recorder
from tests import tars
from tests.across.test_properties import names, whole_tars
from tests.without_kernels import needs_kernels, plain_way

headers = st.builds(
    tars.header,
    names,
    typeflag=st.sampled_from([b"0", b"1", b"2", b"5", b"x", b"L", b"3", b"Z", b"\0", b"S"]),
    mode=st.integers(0, 0o7777777),
    uid=st.sampled_from([0, 1000, 0o7777777, 1 << 31, -1]),
    size=st.sampled_from([0, 1, 5000, 8**11 - 1, 8**11]),
    mtime=st.sampled_from([0, 1_700_000_000, 8**11 - 1, -1]),
    linkname=names,
    form=st.sampled_from(["v7", "ustar", "gnu", "star"]),
    prefix=st.sampled_from([b"", b"some/where", b"00000000001\0", b"x" * 155]),
)
OFFSETS = [
    0,
    99,
    100,
    107,
    108,
    116,
    123,
    124,
    134,
    135,
    136,
    146,
    147,
    148,
    154,
    155,
    156,
    157,
    257,
    263,
    345,
    357,
    508,
]


def checked(block: bytes) -> bool:
    """Compare the two parsers of a block. Return whether the fast one could parse it."""
    try:
        plain = parse_header(block, 7)
    except HeaderError:
        plain = None
    fast = parse_common_header(block, 7)
    assert fast is None or fast == plain
    return fast is not None


@given(headers, st.sampled_from(OFFSETS), st.binary(max_size=4), st.booleans())
def test_both_header_parsers_agree(block: bytes, at: int, noise: bytes, right_checksum: bool) -> None:
    checked(block)
    changed = (block[:at] + noise + block[at + len(noise) :])[:512]
    checked(tars.with_checksum(changed) if right_checksum else changed)


@pytest.mark.parametrize("form", ["ustar", "gnu"])
@pytest.mark.parametrize("typeflag", [b"0", b"1", b"2", b"5", b"x", b"L", b"K"])
def test_common_headers_are_parsed_by_the_fast_parser(form: str, typeflag: bytes) -> None:
    assert checked(tars.header(b"usr/bin/x", typeflag=typeflag, form=form, size=10, mtime=1_700_000_000))


@given(names, st.integers(0, 1 << 62), st.integers(0, (1 << 64) - 1), st.binary(max_size=99), st.integers(0, 1 << 40))
def test_both_line_encoders_agree(name: bytes, size: int, crc: int, segment: bytes, position: int) -> None:
    both = codec.encode_segment(segment, position) + codec.encode_file(name, size, crc, position + 1)
    assert codec.encode_entry(segment, name, size, crc, position) == both


def lines_of(tar: bytes, size: int) -> tuple[list[codec.Segment | codec.FileEntry], bool]:
    """Return the items of the tar-split lines of a tar that is read `size` bytes at a time."""
    out, file = io.BytesIO(), io.BytesIO(tar)
    recorder = Recorder(LineWriter(out), crc64.go_iso)
    LayerStream(TarScanner(lambda: file.read(size)), recorder).drain()
    found: list[codec.Segment | codec.FileEntry] = []
    with codec.LineReader(io.BytesIO(out.getvalue())) as lines:
        for item in codec.decode_lines(lines):
            last = found[-1] if found else None
            if isinstance(item, codec.Segment) and isinstance(last, codec.Segment):
                found[-1] = codec.Segment(
                    last.data + item.data
                )  # payloads without files come in the pieces of the reads
            else:
                found.append(item)
    return found, recorder.displaced


@given(whole_tars)
def test_a_tar_gives_the_same_entries_in_one_piece_and_in_many(tar: bytes) -> None:
    try:
        in_pieces = lines_of(tar, 100)
    except InvalidLayer:
        with pytest.raises(InvalidLayer):
            lines_of(tar, 1 << 20)
    else:
        assert lines_of(tar, 1 << 20) == in_pieces


def runs_of(tar: bytes, size: int) -> tuple[list[tuple[TarEntry, bytes]], int]:
    """Return the entries and payloads of a tar, read `size` bytes at a time, and the number of entries in runs."""
    found: list[tuple[TarEntry, bytes]] = []
    in_runs = 0
    file = io.BytesIO(tar)
    diff = LayerStream(TarScanner(lambda: file.read(size)))
    for item in diff.entries_and_runs():
        if isinstance(item, TarEntry):
            found.append((item, b"".join(diff.payload())))
            continue
        in_runs += len(item)
        for index in range(len(item)):
            entry = entry_of(item, index)
            assert item.path(index) == clean_name(entry.name) != b""
            assert not leaves_root(entry.path)
            assert classify(entry.path) is NameKind.PLAIN
            found.append((entry, bytes(item.payload(index))))
    return found, in_runs


def compare_runs_and_entries(tar: bytes) -> None:
    def result(size: int) -> object:
        try:
            return runs_of(tar, size)[0]
        except InvalidLayer as error:
            return error.reason, error.offset

    with plain_way():
        expected = result(1 << 20)
    assert result(1 << 20) == expected
    assert result(700) == expected
    assert result(100) == expected


@given(whole_tars)
def test_runs_have_the_same_entries_as_single_reads(tar: bytes) -> None:
    compare_runs_and_entries(tar)


PLAIN_NAMES = [b"x", b"./usr/bin/x", b"usr/.git/config", b"a/..b/.wha", b"a.wh.b", b"p" * 100, b"q/" * 80 + b"r"]
PLAIN_NAMES += [b"\xc3\xa4"]
SPECIAL_NAMES = [b"/x", b"x//y", b"x/", b"./.wh.x", b"x/.wh.y", b"x/../y", b"../x", b"x/.", b"x/..", b"."]


@needs_kernels
@pytest.mark.parametrize("form", ["gnu", "pax"])
@pytest.mark.parametrize("name", PLAIN_NAMES)
def test_plain_entries_come_in_runs(name: bytes, form: str) -> None:
    extended = b""
    if len(name) > 100:
        extended = tars.long_name(name) if form == "gnu" else tars.pax([(b"path", name)])
    one = extended + tars.entry(name[:100], b"content", form="gnu" if form == "gnu" else "ustar")
    empty = extended + tars.entry(name[:100], form="gnu" if form == "gnu" else "ustar")
    directory = extended + tars.header((name + b"/")[:100], typeflag=b"5", form="gnu" if form == "gnu" else "ustar")
    assert runs_of(tars.tar(tars.entry(b"first", b"1"), one, directory, empty, one), 1 << 20)[1] == 5


@needs_kernels
@pytest.mark.parametrize("name", SPECIAL_NAMES)
def test_entries_with_special_names_do_not_come_in_runs(name: bytes) -> None:
    for entry in (tars.entry(name, b"content"), tars.directory(name + b"/"), tars.directory(name)):
        if not (name == b"x/" and entry == tars.directory(name)):
            assert runs_of(tars.tar(tars.entry(b"first", b"1"), entry), 1 << 20)[1] == 1


@needs_kernels
def test_a_directory_with_content_does_not_come_in_a_run() -> None:
    tar = tars.tar(tars.directory(b"d/"), tars.directory(b"e/"), tars.entry(b"f/", b"content", typeflag=b"5"))
    assert runs_of(tar, 1 << 20)[1] == 2


@pytest.mark.parametrize("at", OFFSETS)
@pytest.mark.parametrize("byte", [b"\0", b" ", b"7", b"9", b"-", b"_", b"\xff"])
def test_a_damaged_header_in_a_run(at: int, byte: bytes) -> None:
    """A damaged header is not accepted because a similar one was."""
    good = tars.entry(b"some/name", b"content", mtime=1_700_000_000)
    for right_checksum in (False, True):
        block = good[:at] + byte + good[at + 1 : 512]
        bad = (tars.with_checksum(block) if right_checksum else block) + good[512:]
        compare_runs_and_entries(tars.tar(good, good, bad, good))


@needs_kernels
@pytest.mark.parametrize("form", ["gnu", "pax"])
def test_a_long_name_before_a_header_with_an_odd_name(form: str) -> None:
    name = b"d/" + b"n" * 120
    extended = tars.long_name(name) if form == "gnu" else tars.pax([(b"path", name)])
    odd = extended + tars.entry(b"d/\xff\0rest", b"content", form="gnu" if form == "gnu" else "ustar")
    usual = extended + tars.entry(name[:100], b"content", form="gnu" if form == "gnu" else "ustar")
    tar = tars.tar(tars.entry(b"first", b"1"), usual, odd)
    compare_runs_and_entries(tar)
    assert runs_of(tar, 1 << 20)[1] == 3
