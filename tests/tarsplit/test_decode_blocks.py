"""Decoding in blocks, by the kernels and without them: the same items as one line at a time."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from itertools import chain, pairwise
from unittest import mock

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from layerstore_core.base.kernels import Engine, engine
from layerstore_core.errors import IntegrityError
from layerstore_core.tarsplit import codec
from layerstore_core.tarsplit.codec import (
    FileEntry,
    LineReader,
    Piece,
    Segment,
    decode_blocks,
    decode_entries,
    decode_lines,
    encode_file,
    encode_segment,
    size_of,
)

NAMES = st.one_of(
    st.sampled_from([b"etc/hosts", b"usr/bin/", b"a", "ä".encode(), b"\xff\xfe", b'a"b', b"a\\b", b"<&>", b""]),
    st.binary(max_size=12),
    st.text(max_size=12).map(lambda text: text.encode(errors="replace")),
)
segments = st.builds(encode_segment, st.binary(max_size=80), st.integers(0, 99))
files = st.builds(encode_file, NAMES, st.integers(0, 1 << 70), st.integers(0, (1 << 64) - 1), st.integers(0, 99))
ODD_LINES = [
    b"\n",
    b"{}\n",
    b'{"payload":"AAAA","type":2}\n',
    b'{"type":2,"payload":"AAAA","position":01}\n',
    b'{"type":2,"payload":"AAAA","position":}\n',
    b'{"type":2,"payload":"AAAA","position":%s1}\n' % (b"9" * 30),
    b'x{"type":2,"payload":"AAAA","position":1}\n',
    b'{"type":2,"payload":"AAAA","position":1}x\n',
    b'{"type":2,"payload":"AA\nAA","position":1}\n',
    b'{"type":2,"payload":"AA-_","position":1}\n',
    b'{"type":2,"payload":"AA","position":1}\n',
    b'{"type":2,"payload":"AB==","position":1}\n',
    b'{"type":2,"payload":"AAAA=","position":1}\n',
    b'{"type":2,"payload":"AA==AAAA","position":1}\n',
    b'{"type":2,"payload":"A\\u0041AA","position":1}\n',
    b'{"type":2,"payload":"A\\/AA","position":1}\n',
    b'{"type":2,"payload":"","position":1}\n',
    b'{"type":2,"payload":"\xff","position":1}\n',
    b'{"type":2,"payload":null,"position":1}\n',
    b'{"type":2,"payload":"AAAA","position":1,"x":"","position":2}\n',
    b'{"type":2,"payload":"AAAA","position":1}{"type":2,"payload":"AAAA","position":2}\n',
    b'{"type":1,"name":"a","size":5,"payload":"AAAAAAAAAAE=","position":1,"x":1}\n',
    b'{"type":1,"name":"a","size":5,"payload":"AAAAAAAAAAF=","position":1}\n',
    b'{"type":1,"name":"a","size":5,"payload":"AAAAAAAAAAE","position":1}\n',
    b'{"type":1,"name":"a","size":05,"payload":"AAAAAAAAAAE=","position":1}\n',
    b'{"type":1,"name":"a","size":0,"payload":"AAAAAAAAAAE=","position":1}\n',
    b'{"type":1,"name":"a","size":0,"payload":null,"position":1}\n',
    b'{"type":1,"name":"a","size":5,"payload":null,"position":1}\n',
    b'{"type":1,"name":"a","payload":"AAAAAAAAAAE=","position":1}\n',
    b'{"type":1,"name":"a","name_raw":"Yg==","payload":null,"position":1}\n',
    b'{"type":1,"name_raw":"","payload":null,"position":1}\n',
    b'{"type":1,"name_raw":"Y","payload":null,"position":1}\n',
    b'{"type":1,"name":"\\ud800","payload":null,"position":1}\n',
    b'{"type":1,"name":"\\ud83d\\ude00","payload":null,"position":1}\n',
    b'{"type":1,"name":"\\u00","payload":null,"position":1}\n',
    b'{"type":1,"name":"\\u00g0","payload":null,"position":1}\n',
    b'{"type":1,"name":"\\x41","payload":null,"position":1}\n',
    b'{"type":1,"name":"\\\n',
    b'{"type":1,"name":"\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\\u00E4\\u20ac","payload":null,"position":1}\n',
    b'{"type":1,"name":"\x7f\x01","payload":null,"position":1}\n',
    b'{"type":1,"name":"\xed\xa0\x80","payload":null,"position":1}\n',
    b'{"type":1,"name":"\xc0\x80","payload":null,"position":1}\n',
    b'{"type":1,"name":"\xf4\x90\x80\x80","payload":null,"position":1}\n',
    b'{"type":1,"name":"\xe2\x82","payload":null,"position":1}\n',
]


@pytest.fixture(params=["kernels", "plain"])
def by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How blocks are decoded: by the kernels, or without."""
    if request.param == "plain":
        monkeypatch.setattr(codec, "engine", lambda: Engine(None, "for a test"))
    elif engine().kernels is None:
        pytest.skip(engine().reason)
    return str(request.param)


def items_and_error(items: Iterator[Segment | FileEntry]) -> tuple[list[Segment | FileEntry], str]:
    """Return the items that are not empty, and the message of the error that ended them."""
    found: list[Segment | FileEntry] = []
    try:
        found.extend(item for item in items if item[0] or (isinstance(item, FileEntry) and item.size))
    except IntegrityError as error:
        return found, str(error)
    return found, ""


def items_of(batches: Iterator[list[Piece]]) -> Iterator[Segment | FileEntry]:
    for segment, name, size, crc in chain.from_iterable(batches):
        yield Segment(segment)
        yield FileEntry(name, size, crc)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(segments, files, st.sampled_from(ODD_LINES)), max_size=20), st.integers(1, 300))
@example([b'{"type":2,"payload":"AA-_","position":1}\n'], 1000)
@example([encode_segment(b"a", 0), encode_file(b"a", 1, 1, 1), b"\n"], 1000)
@pytest.mark.usefixtures("by")
def test_blocks_have_the_items_of_their_lines(lines: list[bytes], size: int) -> None:
    plain = items_and_error(decode_lines(b"".join(lines).split(b"\n")[:-1]))
    packed = gzip.compress(b"".join(lines), 1)
    with mock.patch.object(codec, "_READ_SIZE", size), LineReader(io.BytesIO(packed)) as reader:
        assert items_and_error(items_of(decode_blocks(reader.blocks()))) == plain  # type: ignore[arg-type]


@pytest.mark.parametrize("line", ODD_LINES)
@pytest.mark.parametrize("after", [encode_segment(b"b", 2), encode_file(b"b", 2, 2, 2)])
@pytest.mark.usefixtures("by")
def test_an_odd_line_in_a_block_is_decoded_as_by_itself(line: bytes, after: bytes) -> None:
    block = encode_segment(b"a", 0) + encode_file(b"a", 1, 1, 1) + line + after
    plain = items_and_error(decode_lines(block.split(b"\n")[:-1]))
    assert items_and_error(items_of(decode_blocks([block]))) == plain  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [b"d/f", "ä".encode(), b"\xff", b'a"b', b"<&>", "\u2028".encode(), b"\x01", b"\x7f"])
@pytest.mark.usefixtures("by")
def test_a_segment_and_the_entry_after_it_are_one_piece(name: bytes) -> None:
    lines = [
        encode_segment(b"x" * 600, 0),
        encode_file(b"d/", 0, 0, 1),
        encode_segment(b"y" * 600, 2),
        encode_file(name, 5, 7, 3),
        encode_segment(b"z", 4),
        encode_segment(b"", 5),
    ]
    found = [piece for batch in decode_blocks([b"".join(lines)]) for piece in batch]
    assert found == [(b"x" * 600, b"d/", 0, 0), (b"y" * 600, name, 5, 7), (b"z", b"", 0, 0), (b"", b"", 0, 0)]


@given(st.lists(st.one_of(segments, files), max_size=20), st.integers(1, 300), st.binary(max_size=5))
def test_blocks_have_whole_lines_and_keep_a_file_entry_with_its_segment(
    lines: list[bytes], size: int, rest: bytes
) -> None:
    rest = rest.replace(b"\n", b"")
    packed = gzip.compress(b"".join(lines) + rest, 1)
    blocks: list[bytes] = []
    with mock.patch.object(codec, "_READ_SIZE", size), LineReader(io.BytesIO(packed)) as reader:
        try:
            blocks.extend(map(bytes, reader.blocks()))
            assert not rest
        except IntegrityError:
            assert rest
    assert b"".join(blocks) == b"".join(lines)
    for block, following in pairwise(blocks):
        assert block.endswith(b"\n")
        assert not (block.splitlines()[-1].startswith(b'{"type":2,"payload":"') and following.startswith(b'{"type":1'))


@given(st.lists(st.one_of(segments, files), max_size=20))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.usefixtures("by")
def test_entries_of_blocks_are_those_of_lines(lines: list[bytes]) -> None:
    block = b"".join(lines)
    entries = [entry for entry in decode_lines(lines) if entry != FileEntry(b"")]
    assert [entry for entry in decode_entries([block]) if entry != Segment(b"")] == [
        entry for entry in entries if entry != Segment(b"")
    ]
    assert sum(map(size_of, decode_blocks([block]))) == sum(
        len(entry.data) if isinstance(entry, Segment) else entry.size for entry in entries
    )


def test_an_empty_segment_is_an_entry() -> None:
    """Docker's writer ends with one."""
    lines = [encode_segment(b"a", 0), encode_file(b"b", 0, 0, 1), encode_segment(b"", 2)]
    assert list(decode_entries([b"".join(lines)])) == list(decode_lines(lines))
