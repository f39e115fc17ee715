"""Where there is a fast way beside the plain one, both give the same."""

from __future__ import annotations

import io
import os
import stat
import threading
from pathlib import Path
from unittest import mock

import pytest
from fastcrc import crc64
from hypothesis import given
from hypothesis import strategies as st

from layerstore_core.archive import unpack, writers
from layerstore_core.archive.header import HeaderError, parse_common_header, parse_header
from layerstore_core.archive.scanner import TarScanner
from layerstore_core.archive.stream import LayerStream
from layerstore_core.errors import InvalidLayer
from layerstore_core.tarsplit import codec
from layerstore_core.tarsplit.codec import LineWriter
from layerstore_core.tarsplit.record import Recorder
from tests import tars

from .test_properties import empty_root, entries, good_entries, names, whole_tars
from .trees import paths

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
    """Compare the two ways to parse a block; whether the fast one took it."""
    try:
        plain = parse_header(block, 7)
    except HeaderError:
        plain = None
    fast = parse_common_header(block, 7)
    assert fast is None or fast == plain
    return fast is not None


@given(headers, st.sampled_from(OFFSETS), st.binary(max_size=4), st.booleans())
def test_headers(block: bytes, at: int, noise: bytes, right_checksum: bool) -> None:
    checked(block)
    changed = (block[:at] + noise + block[at + len(noise) :])[:512]
    checked(tars.with_checksum(changed) if right_checksum else changed)


@pytest.mark.parametrize("form", ["ustar", "gnu"])
@pytest.mark.parametrize("typeflag", [b"0", b"1", b"2", b"5", b"x", b"L", b"K"])
def test_common_headers_do_go_the_fast_way(form: str, typeflag: bytes) -> None:
    assert checked(tars.header(b"usr/bin/x", typeflag=typeflag, form=form, size=10, mtime=1_700_000_000))


@given(names, st.integers(1, 1 << 62), st.integers(0, (1 << 64) - 1), st.binary(max_size=99), st.integers(0, 1 << 40))
def test_lines(name: bytes, size: int, crc: int, segment: bytes, position: int) -> None:
    both = codec.encode_segment(segment, position) + codec.encode_file(name, size, crc, position + 1)
    assert codec.encode_entry(segment, name, size, crc, position) == both
    for line in both.splitlines():
        assert codec._decode_usual_line(line) in (None, codec.decode_line(line))


@given(st.binary(max_size=40), st.integers(0, 70), st.integers(0, 100))
def test_damaged_lines(noise: bytes, at: int, length: int) -> None:
    line = codec.encode_file(b"etc/hosts", 1234, 5678, 9)
    damaged = line[:at] + noise + line[at + length :]
    fast = codec._decode_usual_line(damaged)
    assert fast is None or fast == codec.decode_line(damaged)


def lines_of(tar: bytes, size: int) -> tuple[list[codec.Segment | codec.FileEntry], bool]:
    """What the tar-split lines say of a tar that is read `size` bytes at a time."""
    out, file = io.BytesIO(), io.BytesIO(tar)
    recorder = Recorder(LineWriter(out), crc64.go_iso)
    LayerStream(TarScanner(lambda: file.read(size)), recorder).drain()
    found: list[codec.Segment | codec.FileEntry] = []
    with codec.LineReader(io.BytesIO(out.getvalue())) as lines:
        for item in codec.decode_lines(lines):
            last = found[-1] if found else None
            if isinstance(item, codec.Segment) and isinstance(last, codec.Segment):
                found[-1] = codec.Segment(last.data + item.data)  # payloads without files come as they are read
            else:
                found.append(item)
    return found, recorder.displaced


@given(whole_tars)
def test_entries_in_one_piece_and_in_many(tar: bytes) -> None:
    try:
        in_pieces = lines_of(tar, 100)
    except InvalidLayer:
        with pytest.raises(InvalidLayer):
            lines_of(tar, 1 << 20)
    else:
        assert lines_of(tar, 1 << 20) == in_pieces


def state(root: Path) -> dict[bytes, tuple[object, ...]]:
    """All of a tree that a layer decides, which names are one file included."""
    found: dict[bytes, tuple[object, ...]] = {}
    first_names: dict[int, bytes] = {}
    for path in [b".", *paths(root)]:
        full = os.path.join(os.fsencode(root), path)
        status = os.lstat(full)
        content = b""
        if stat.S_ISREG(status.st_mode):
            with open(full, "rb") as file:
                content = file.read()
        elif stat.S_ISLNK(status.st_mode):
            content = os.readlink(full)
        same = b"" if stat.S_ISDIR(status.st_mode) else first_names.setdefault(status.st_ino, path)
        found[path] = status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, content, same
    # Times of directories that no entry is about are those of the clock.
    return {path: (*one[:3], 0, *one[4:]) if stat.S_ISDIR(int(str(one[0]))) else one for path, one in found.items()}


def unpacked(layers: list[bytes]) -> tuple[object, ...]:
    """What unpacking layers on top of each other gives: the tree, sizes, and the error that ended it."""
    results: list[object] = []
    with empty_root() as root:
        for tar in layers:
            file = io.BytesIO(tar)
            diff = LayerStream(TarScanner(lambda file=file: file.read(1 << 20)))  # type: ignore[misc]
            try:
                results += [unpack.unpack_layer(diff, str(root)), diff.displaced]
            except InvalidLayer as error:
                return *results, str(error)
        return *results, state(root)


@given(
    st.lists(st.lists(st.one_of(good_entries, entries()), max_size=12).map(lambda parts: tars.tar(*parts)), max_size=3),
    st.sampled_from([(1, 1, 1), (2, 2, 2), (3, 8, 6), (64, 8, 6)]),
)
def test_files_made_by_threads_and_at_once(layers: list[bytes], limits: tuple[int, int, int]) -> None:
    with mock.patch.object(unpack._Unpacker, "_hand_over", return_value=False):
        at_once = unpacked(layers)
    files, directories, batches = limits
    with (
        mock.patch.object(writers, "_BATCH_FILES", files),
        mock.patch.object(writers, "_BATCH_DIRECTORIES", directories),
        mock.patch.object(writers, "_MAX_BATCHES", batches),
    ):
        assert unpacked(layers) == at_once


MANY = [tars.entry(b"d%d/f%d" % (number % 7, number), b"x" * (number % 50)) for number in range(400)]


def test_threads_do_make_them(root: Path) -> None:
    made_by: set[str] = set()
    real = os.open

    def noting(*args: object, **options: object) -> int:
        made_by.add(threading.current_thread().name)
        return real(*args, **options)  # type: ignore[arg-type]

    file = io.BytesIO(tars.tar(*MANY))
    with mock.patch.object(os, "open", noting):
        unpack.unpack_layer(LayerStream(TarScanner(file.read)), str(root))
    assert any(name.startswith("layerstore-write-") for name in made_by)
    assert len(list(root.glob("*/*"))) == 400


@pytest.mark.parametrize("before", [0, 10, 300])
def test_an_error_in_a_thread_names_its_entry(before: int, root: Path) -> None:
    """And comes before that of a later entry."""
    bad = tars.entry(b"d1/" + b"n" * 256, b"x")
    tar = tars.tar(*MANY[: before + 1], bad, *MANY[before + 1 :], tars.entry(b"../x"))
    with pytest.raises(InvalidLayer, match="component of its name is too long") as caught:
        unpack.unpack_layer(LayerStream(TarScanner(io.BytesIO(tar).read)), str(root))
    assert caught.value.offset == tar.index(b"d1/nnn") - 512
    assert caught.value.entry is not None and caught.value.entry.endswith(b"n" * 256)


def test_contents_in_memory_are_bounded() -> None:
    """Small files that stand far apart would each keep the piece of the tar that they are in."""
    large = tars.header(b"big", size=4 << 20) + bytes(4 << 20)
    tar = tars.tar(*(part for number in range(20) for part in (tars.entry(b"s%d" % number, b"x"), large)))
    spans: list[int] = []
    real = writers.FileWriters.add

    def watching(self: writers.FileWriters, file: writers.PlannedFile) -> None:
        real(self, file)
        oldest = self._under_way[0] if self._under_way else self._filling
        spans.append(file[5].offset - oldest.start if oldest else 0)

    source = io.BytesIO(tar)
    with empty_root() as root, mock.patch.object(writers.FileWriters, "add", watching):
        unpack.unpack_layer(LayerStream(TarScanner(lambda: source.read(1 << 20))), str(root))
    assert len(spans) > 5
    assert max(spans) <= writers._MAX_SPAN
