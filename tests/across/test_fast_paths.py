"""Fast paths: where there is a fast and a plain implementation, both give the same results."""

from __future__ import annotations

import io

import pytest
from fastcrc import crc64
from hypothesis import given

from layerstore_core.base.paths import clean_name, leaves_root
from layerstore_core.errors import InvalidLayer
from layerstore_core.tar.entry import TarEntry
from layerstore_core.tar.layer_stream import LayerStream
from layerstore_core.tar.run import entry_of
from layerstore_core.tar.scanner import TarScanner
from layerstore_core.tar.whiteouts import NameKind, classify
from layerstore_core.tarsplit import codec
from layerstore_core.tarsplit.codec import LineWriter
from layerstore_core.tarsplit.record import Recorder
from tests import tars
from tests.across.test_properties import whole_tars
from tests.without_kernels import needs_kernels, plain_way


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
