"""Decoding and assembly in blocks: the same results as one line and one file at a time."""

from __future__ import annotations

import gzip
import io
import os
import tempfile
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import chain, pairwise
from pathlib import Path
from unittest import mock

import pytest
from fastcrc import crc64
from hypothesis import example, given, settings
from hypothesis import strategies as st

from layerstore_core.errors import IntegrityError
from layerstore_core.tarsplit import assemble_blocks as assemble_blocks_module
from layerstore_core.tarsplit import codec
from layerstore_core.tarsplit.assemble import assemble
from layerstore_core.tarsplit.assemble_blocks import BLOCKS_KEPT, assemble_blocks
from layerstore_core.tarsplit.codec import (
    FileEntry,
    LineReader,
    Piece,
    Segment,
    decode_blocks,
    decode_lines,
    encode_file,
    encode_segment,
)
from layerstore_core.tarsplit.read_worker import ReadWorker
from layerstore_core.tree.files import TreeFiles

names = st.one_of(
    st.sampled_from([b"etc/hosts", b"usr/bin/", b"a", "ä".encode(), b"\xff\xfe", b'a"b', b"a\\b", b"<&>", b""]),
    st.binary(max_size=12),
)
segments = st.builds(encode_segment, st.binary(max_size=80), st.integers(0, 99))
files = st.builds(encode_file, names, st.integers(0, 1 << 70), st.integers(0, (1 << 64) - 1), st.integers(0, 99))
ODD_LINES = [
    b"\n",
    b"{}\n",
    b'{"payload":"AAAA","type":2}\n',
    b'{"type":2,"payload":"AAAA","position":01}\n',
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
    b'{"type":1,"name":"a","size":5,"payload":null,"position":1}\n',
    b'{"type":1,"name":"\\ud800","payload":null,"position":1}\n',
    b'{"type":1,"name":"\x7f\x01","payload":null,"position":1}\n',
]
odd_lines = st.sampled_from(ODD_LINES)


def items_and_error(items: Iterator[Segment | FileEntry]) -> tuple[list[Segment | FileEntry], str]:
    """Return the items that are not empty, and the message of the error that ended them."""
    found: list[Segment | FileEntry] = []
    try:
        found.extend(item for item in items if item[0] or isinstance(item, FileEntry))
    except IntegrityError as error:
        return found, str(error)
    return found, ""


def items(batches: Iterator[list[Piece]]) -> Iterator[Segment | FileEntry]:
    for segment, name, size, crc in chain.from_iterable(batches):
        yield Segment(segment)
        if name or size:
            yield FileEntry(name, size, crc)


@given(st.lists(st.one_of(segments, files, odd_lines), max_size=20), st.integers(1, 300))
@example([b'{"type":2,"payload":"AA-_","position":1}\n'], 1000)
@example([encode_segment(b"a", 0), encode_file(b"a", 1, 1, 1), b"\n"], 1000)
def test_decode_blocks_gives_the_items_of_decode_lines(lines: list[bytes], size: int) -> None:
    plain, fails = items_and_error(
        item for item in decode_lines(b"".join(lines).split(b"\n")[:-1]) if item != FileEntry(b"")
    )
    packed = gzip.compress(b"".join(lines), 1)
    with mock.patch.object(codec, "_READ_SIZE", size), LineReader(io.BytesIO(packed)) as reader:
        assert items_and_error(items(decode_blocks(reader.blocks()))) == (plain, fails)  # type: ignore[arg-type]


@pytest.mark.parametrize("line", ODD_LINES)
@pytest.mark.parametrize("after", [encode_segment(b"b", 2), encode_file(b"b", 2, 2, 2)])
def test_decode_blocks_treats_an_odd_line_as_decode_lines_does(line: bytes, after: bytes) -> None:
    block = encode_segment(b"a", 0) + encode_file(b"a", 1, 1, 1) + line + after
    plain = items_and_error(decode_lines(block.split(b"\n")[:-1]))
    assert items_and_error(items(decode_blocks([block]))) == plain  # type: ignore[arg-type]


@settings(max_examples=500)
@given(
    st.one_of(
        st.binary(max_size=200),
        st.lists(st.sampled_from(list(b'AB/+z9=-_\n\r \x80"')), max_size=12).map(bytes),
        st.tuples(st.binary(max_size=300).map(b2a_base64), st.integers(0, 400), st.binary(max_size=2)).map(
            lambda parts: parts[0][: parts[1]] + parts[2] + parts[0][parts[1] : -1]
        ),
    )
)
@example(b"")
@example(b"AAAA=")
@example(b"AB==")
@example(b"AA==AAAA")
@example(b"A" * 300 + b"\xff" + b"A" * 3)
def test_the_fast_base64_decoder_accepts_only_strict_base64(text: bytes) -> None:
    """It may refuse more: then the strict decoder decides."""
    try:
        plain = a2b_base64(text, strict_mode=True)
    except Base64Error:
        plain = None
    try:
        fast = codec.b64decode(text, None, True)
    except Base64Error:
        return
    assert fast == plain


@given(st.lists(st.one_of(st.none(), st.integers(0, (1 << 64) - 1)), max_size=20))
def test_checksums_are_decoded_together(checksums: list[int | None]) -> None:
    texts = [b"" if one is None else b2a_base64(one.to_bytes(8, "big"), newline=False) for one in checksums]
    assert codec._decode_checksums(texts) == tuple(one or 0 for one in checksums)


def test_usual_lines_are_decoded_without_a_json_parser() -> None:
    lines = [
        encode_segment(b"x" * 600, 0),
        encode_file(b"d/", 0, 0, 1),
        encode_segment(b"y" * 600, 2),
        encode_file(b"d/f", 5, 7, 3),
        encode_segment(b"", 4),
    ]
    with mock.patch.object(codec, "decode_line", side_effect=AssertionError):
        found = [piece for batch in decode_blocks([b"".join(lines)]) for piece in batch]
    assert found == [(b"x" * 600, b"d/", 0, 0), (b"y" * 600, b"d/f", 5, 7), (b"", b"", 0, 0)]


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


CONTENTS = st.one_of(st.binary(max_size=40), st.sampled_from([b"", b"x" * 31, b"x" * 32, b"x" * 33, b"y" * 200]))
DAMAGES = ["none", "grown", "cut", "empty", "changed", "gone", "directory", "fifo", "link", "link out", "crc", "size"]


#: The parts of a layer (the segment before each file, its directory, its content), the size of blocks, the number of
#: the damaged file, and the prefix of names.
DAMAGED_LAYERS = given(
    st.lists(st.tuples(st.binary(max_size=80), st.integers(0, 3), CONTENTS), min_size=1, max_size=12),
    st.sampled_from([8, 32, 1 << 20]),
    st.integers(0, 11),
    st.sampled_from([b"", b"./", b"/", b"d0/../"]),
)


@pytest.mark.parametrize("damage", DAMAGES)
@settings(max_examples=20)
@DAMAGED_LAYERS
def test_assemble_blocks_gives_the_bytes_and_errors_of_assemble(
    damage: str, parts: list[tuple[bytes, int, bytes]], chunk: int, which: int, before: bytes
) -> None:
    compare_with_assemble(damage, parts, chunk, which, before, lambda _: nullcontext())


def compare_with_assemble(
    damage: str,
    parts: list[tuple[bytes, int, bytes]],
    chunk: int,
    which: int,
    before: bytes,
    start: Callable[[TreeFiles], AbstractContextManager[ReadWorker | None]],
) -> None:
    """Assemble a layer with one damaged file in both ways. `start` starts the worker that reads files, if any."""
    pieces: list[Piece] = []
    with tempfile.TemporaryDirectory() as top:
        root = Path(top) / "root"
        for number in range(4):
            (root / f"d{number}" / "e").mkdir(parents=True)
        (Path(top) / "outside").write_bytes(b"x" * 32)
        for number, (segment, directory, content) in enumerate(parts):
            name = f"d{directory}/" + ("e/" if number % 3 else "") + f"f{number}"
            path = root / name
            path.write_bytes(content)
            size, crc = len(content), int(crc64.go_iso(content))
            if number == which % len(parts):
                crc ^= damage == "crc"
                size += damage == "size"
                damage_file(path, damage)
            pieces.append((segment, before + name.encode(), size, crc))
        getter = TreeFiles(root)
        plain = bytes_and_error(assemble(items(iter([pieces])), getter), getter)
        getter = TreeFiles(root)
        with start(getter) as process, mock.patch.object(assemble_blocks_module, "CHUNK", chunk):
            fast = bytes_and_error(assemble_blocks([pieces], getter, process), getter)
    assert fast[1] == plain[1]
    # With an error, more or fewer of the bytes before it were yielded.
    common = min(len(fast[0]), len(plain[0])) if plain[1] else None
    assert fast[0][:common] == plain[0][:common]


def damage_file(path: Path, damage: str) -> None:
    content = path.read_bytes()
    if damage in ("gone", "directory", "fifo", "link", "link out"):
        path.unlink()
    if damage == "grown":
        path.write_bytes(content + b"!")
    elif damage == "cut":
        path.write_bytes(content[:-1])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "changed":
        path.write_bytes(bytes(byte ^ 1 for byte in content))
    elif damage == "directory":
        path.mkdir()
    elif damage == "fifo":
        os.mkfifo(path)
    elif damage == "link":
        path.with_name("target").write_bytes(content)
        path.symlink_to("target")
    elif damage == "link out":
        path.symlink_to("../../../outside")


def bytes_and_error(chunks: Iterator[bytes | memoryview], getter: TreeFiles) -> tuple[bytes, str]:
    found = bytearray()
    try:
        for chunk in chunks:
            assert chunk
            found += chunk
    except IntegrityError as error:
        return bytes(found), str(error)
    finally:
        getter.close()
    return bytes(found), ""


@pytest.mark.usefixtures("nothing_left_open")
def test_a_file_that_readv_returns_in_pieces(tmp_path: Path) -> None:
    """Some file systems return fewer bytes at a time than were requested."""
    (tmp_path / "f").write_bytes(b"0123456789")
    real = os.readv

    def short(fd: int, buffers: tuple[memoryview, ...]) -> int:
        return real(fd, [buffers[0][:3]] if buffers[0] else buffers)

    piece = b"head", b"f", 10, int(crc64.go_iso(b"0123456789"))
    getter = TreeFiles(tmp_path)
    with mock.patch.object(os, "readv", short):
        assert bytes_and_error(assemble_blocks([[piece]], getter), getter) == (b"head0123456789", "")


@pytest.mark.usefixtures("nothing_left_open")
def test_a_read_error_closes_the_file(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x")
    getter = TreeFiles(tmp_path)
    with mock.patch.object(os, "readv", side_effect=OSError(5, "I/O error")), pytest.raises(OSError, match="I/O error"):
        list(assemble_blocks([[(b"", b"f", 1, 0)]], getter))
    getter.close()


def test_a_chunk_keeps_its_content_until_blocks_kept_more_are_requested() -> None:
    pieces = [(bytes([number]) * 5, b"", 0, 0) for number in range(40)]
    with tempfile.TemporaryDirectory() as root, mock.patch.object(assemble_blocks_module, "CHUNK", 5):
        kept: list[bytes | memoryview] = []
        for number, chunk in enumerate(assemble_blocks([pieces], TreeFiles(root))):
            kept.append(chunk)
            for back in range(min(number + 1, BLOCKS_KEPT)):
                assert kept[-1 - back] == pieces[number - back][0]
        assert len(kept) == len(pieces)
