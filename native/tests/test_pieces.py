"""The kernel that decodes tar-split lines and fills memory with what they describe, and its twins in Python."""

from __future__ import annotations

import os
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from fastcrc import crc64
from hypothesis import example, given, settings
from hypothesis import strategies as st

from layerstore_core.tarsplit.codec import FileEntry, Piece, Segment, decode_line, encode_file, encode_segment
from tests.tarsplit.test_decode_blocks import NAMES, ODD_LINES

kernels = pytest.importorskip("layerstore_native._kernels", reason="the kernels are not built")

_DAMAGED: tuple[type[Exception], ...] = (ValueError, KeyError, TypeError, AttributeError, Base64Error)


def pieces_of(*pieces: Piece) -> Any:
    """Return pieces, by way of their lines."""
    lines = [
        encode_segment(piece[0], 0) + encode_file(*piece[1:], 1) if piece[1] else encode_segment(piece[0], 0)
        for piece in pieces
    ]
    found = kernels.Pieces(b"".join(lines))
    assert list(found) == list(pieces)
    return found


def decoded(line: bytes) -> list[Segment | FileEntry] | None:
    """Return what the twin finds in a line, or `None` if it is damaged."""
    try:
        return [decode_line(line)]
    except _DAMAGED:
        return None


lines = st.one_of(
    st.builds(encode_segment, st.binary(max_size=200), st.integers(0, 1 << 40)),
    st.builds(lambda name, size, crc: encode_file(name, size, crc, 1), NAMES,
              st.integers(0, 1 << 62), st.integers(0, (1 << 64) - 1)),
    st.sampled_from(ODD_LINES),
)  # fmt: skip


@settings(max_examples=400)
@given(lines, st.integers(0, 100), st.integers(0, 20), st.binary(max_size=20))
def test_a_damaged_line_is_declined_or_decoded_as_the_twin_does(
    line: bytes, at: int, length: int, noise: bytes
) -> None:
    damaged = (line[:at] + noise + line[at + length :]).replace(b"\n", b"") + b"\n"
    found = kernels.Pieces(damaged)
    assert found.next == len(damaged)
    assert (found.lines, found.end) == ((1, len(damaged)) if len(found) else (0, 0))
    if len(found):
        ((segment, name, size, crc),) = found
        assert decoded(damaged) == [FileEntry(name, size, crc) if name else Segment(segment)]
        assert found.size == len(segment) + size


@settings(max_examples=400)
@given(
    st.one_of(
        st.binary(max_size=200),
        st.lists(st.sampled_from(list(b'AB/+z9=-_\r \x80"')), max_size=12).map(bytes),
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
def test_base64_is_decoded_as_the_twin_does(text: bytes) -> None:
    """The kernel may decline more: bits that no encoder sets."""
    try:
        plain = a2b_base64(text, strict_mode=True)
    except Base64Error:
        plain = None
    found = kernels.Pieces(b'{"type":2,"payload":"%b","position":1}\n' % text)
    if len(found):
        assert found[0] == (plain, b"", 0, 0)
    else:
        assert plain is None or b2a_base64(plain, newline=False) != text


@given(st.binary(max_size=400))
def test_base64_of_any_bytes_is_decoded(data: bytes) -> None:
    assert list(pieces_of((data, b"", 0, 0))) == [(data, b"", 0, 0)]


@given(st.text(max_size=20).map(lambda text: text.encode(errors="ignore")))
@example("\u0080\u07ff\u0800\ud7ff\ue000\uffff\U00010000\U0010ffff".encode())
def test_all_names_of_utf8_are_decoded(name: bytes) -> None:
    if name:
        assert list(pieces_of((b"", name, 0, 0))) == [(b"", name, 0, 0)]


def test_decoding_goes_on_from_a_position() -> None:
    block = encode_segment(b"a", 0) + b"{}\n" + encode_segment(b"b", 1)
    found = kernels.Pieces(block)
    assert (list(found), found.end) == ([(b"a", b"", 0, 0)], block.index(b"{}"))
    assert list(kernels.Pieces(block, found.next)) == [(b"b", b"", 0, 0)]
    assert kernels.Pieces(block, found.end).next == found.next
    assert list(kernels.Pieces(block, len(block))) == []


def test_a_line_without_its_end_is_declined() -> None:
    block = encode_segment(b"a", 0) + encode_segment(b"b", 1)[:-1]
    found = kernels.Pieces(block)
    assert (list(found), found.end, found.next) == ([(b"a", b"", 0, 0)], block.index(b"\n") + 1, len(block))


@pytest.mark.parametrize("position", [-1, 5])
def test_a_position_outside_of_the_block_is_refused(position: int) -> None:
    with pytest.raises(ValueError, match="not in the block"):
        kernels.Pieces(b"{}\n\n", position)


def test_arguments_are_checked() -> None:
    pieces = pieces_of((b"a", b"", 0, 0))
    memory = bytearray(9)
    for first, last in [(-1, 1), (0, 2), (1, 0)]:
        with pytest.raises(IndexError):
            pieces.fill(first, last, 0, memory)
    for index in (-2, 1):
        with pytest.raises(IndexError):
            pieces[index]
    with pytest.raises(IndexError):
        pieces.plan(2, 9)
    with pytest.raises(ValueError, match="negative"):
        pieces.plan(0, -1)
    with pytest.raises((BufferError, TypeError)):
        pieces.fill(0, 1, 0, b"read-only")


def test_a_plan_has_as_many_pieces_as_fit() -> None:
    pieces = pieces_of((b"ab", b"f", 3, 1), (b"c", b"", 0, 0), (b"", b"g", 1 << 40, 1))
    assert [pieces.plan(0, room) for room in (4, 5, 6, 1 << 39, 1 << 41)] == [
        (0, 0),
        (1, 5),
        (2, 6),
        (2, 6),
        (3, 6 + (1 << 40)),
    ]
    assert pieces.plan(3, 9) == (3, 0)
    assert pieces.size == 6 + (1 << 40)


@pytest.fixture
def root(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A tree with one file, and its descriptor."""
    tree = tmp_path / "root"
    (tree / "a/b").mkdir(parents=True)
    (tree / "a/b/f").write_bytes(b"content")
    (tmp_path / "outside").write_bytes(b"content")
    fd = os.open(tree, os.O_RDONLY)
    yield tree, fd
    os.close(fd)


CRC = int(crc64.go_iso(b"content"))


def filled(fd: int, name: bytes, size: int = 7, crc: int = CRC, room: int = 99) -> bytes | None:
    """Return what the kernel writes for a file between two segments; `None` if it declines the file."""
    pieces = pieces_of((b"head", name, size, crc), (b"tail", b"", 0, 0))
    memory = bytearray(room)
    done, end = pieces.fill(0, 2, fd, memory)
    if done == 0:
        assert end == 0
        return None
    assert done == 2
    return bytes(memory[:end])


@pytest.mark.parametrize("name", [b"a/b/f", b"./a/b/f"])
def test_a_file_is_read_to_its_place(root: tuple[Path, int], name: bytes) -> None:
    assert filled(root[1], name) == b"headcontenttail"
    assert filled(root[1], name, room=10) is None


@pytest.mark.parametrize(
    "name",
    [
        b"/a/b/f", b"a/b/f/", b"a//b/f", b"a/./b/f", b"a/../a/b/f", b"../outside", b"a/b/../../../outside", b"f",
        b"a/b", b"a/b/f/g", b"././a/b/f", b".", b"..", b"./", b"/", b"a/b/f\0", b"a\0/b/f", b"x" * 300,
        b"x/" * 40 + b"f", b"a/" * 600 + b"f",
    ],
)  # fmt: skip
def test_names_that_are_not_plain_are_declined(root: tuple[Path, int], name: bytes) -> None:
    assert filled(root[1], name) is None


@pytest.mark.parametrize("change", ["link", "link out", "directory", "fifo", "grown", "cut", "other", "gone", "parent"])
def test_another_file_than_the_registered_one_is_declined(root: tuple[Path, int], change: str) -> None:
    tree, fd = root
    file = tree / "a/b/f"
    file.rename(tree / "a/b/g")
    if change == "link":
        file.symlink_to("g")
    elif change == "link out":
        file.symlink_to("../../../outside")
    elif change == "directory":
        file.mkdir()
    elif change == "fifo":
        os.mkfifo(file)
    elif change == "parent":
        (tree / "a/b").rename(tree / "c")
        (tree / "a/b").symlink_to("../c")
    elif change != "gone":
        file.write_bytes({"grown": b"content!", "cut": b"content"[:-1], "other": b"Content"}[change])
    assert filled(fd, b"a/b/f") is None


def test_a_fifo_is_not_opened(root: tuple[Path, int]) -> None:
    tree, fd = root
    os.mkfifo(tree / "fifo")
    writer = Thread(target=lambda: os.close(os.open(tree / "fifo", os.O_WRONLY)), daemon=True)
    writer.start()
    assert filled(fd, b"fifo") is None
    assert writer.is_alive()
    reader = os.open(tree / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    writer.join()
    os.close(reader)


def test_what_comes_before_and_after_a_declined_piece_is_filled(root: tuple[Path, int]) -> None:
    pieces = pieces_of(*[(b"%d" % number, b"a/b/f" if number != 3 else b"x", 7, CRC) for number in range(6)])
    memory = bytearray(99)
    assert pieces.fill(0, 6, root[1], memory) == (3, 24)
    assert pieces.fill(4, 6, root[1], memoryview(memory)[32:]) == (6, 16)
    assert memory[:48] == b"0content1content2content3" + bytes(7) + b"4content5content"


def test_files_of_many_directories(root: tuple[Path, int]) -> None:
    """The kernel keeps the directories of the last file open: as many as are on the path of the next."""
    tree, fd = root
    names = ["a/b/c/d/e/f", "a/b/c/x", "a/bc/x", "a/b/c/d/y", "top", "a/b/f", "ab/f", "a/b/c/d/e/g", "deep/" * 31 + "f"]
    for name in names:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(name.encode())
    pieces = pieces_of(*[(b"", name.encode(), len(name), int(crc64.go_iso(name.encode()))) for name in names])
    memory, before = bytearray(1000), os.listdir("/proc/self/fd")
    assert pieces.fill(0, len(names), fd, memory) == (len(names), sum(map(len, names)))
    assert memory.startswith("".join(names).encode())
    assert os.listdir("/proc/self/fd") == before
