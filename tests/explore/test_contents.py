"""The content of a file as lines: nothing is lost in hex digits, and nothing in text can change the terminal."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerstore_core.explore.contents import MOST_BYTES, MOST_CHARACTERS, FileContent
from layerstore_core.explore.lines import plain


@given(data=st.binary(max_size=200))
def test_hex_lines_have_all_bytes(data: bytes) -> None:
    lines = FileContent(data, len(data)).hex_lines()
    assert b"".join(bytes.fromhex(line[1].text) for line in lines) == data
    assert [int(line[0].text, 16) for line in lines] == list(range(0, len(data), 16))
    assert all(plain(line).isprintable() for line in lines)
    assert lines[0:2] == [lines[number] for number in range(min(2, len(lines)))]
    with pytest.raises(IndexError):
        lines[len(lines)]


@given(data=st.one_of(st.binary(max_size=300), st.text(max_size=300).map(lambda text: text.encode("utf-8", "ignore"))))
def test_text_lines_are_printable_and_as_many_as_there_are(data: bytes) -> None:
    lines = FileContent(data, len(data)).text_lines()
    assert all(plain(line).isprintable() for line in lines)
    assert len(lines) == data.count(b"\n") + (not data.endswith(b"\n") and bool(data))


def test_a_long_line_is_continued() -> None:
    text = "x" * (2 * MOST_CHARACTERS + 1)
    lines = FileContent(text.encode(), len(text)).text_lines()
    assert [len(plain(line)) for line in lines] == [MOST_CHARACTERS, MOST_CHARACTERS, 1]


@pytest.mark.parametrize(
    ("data", "is_text"),
    [(b"", True), (b"hello\n", True), ("é".encode() * 9000, True), (b"a\0b", False), (b"\xff\xfe" * 9, False)],
)
def test_text_is_told_from_other_bytes(data: bytes, is_text: bool) -> None:
    assert FileContent(data, len(data)).is_text is is_text
    # The sample of a long text may end within a character.
    assert FileContent(b"x" + data, len(data) + 1).is_text is is_text


def test_of_a_large_file_only_the_beginning_is_read() -> None:
    content = FileContent.read(io.BytesIO(bytes(MOST_BYTES + 5)), MOST_BYTES + 5)
    assert (len(content.data), content.is_whole) == (MOST_BYTES, False)
    assert FileContent.read(io.BytesIO(b"abc"), 3).is_whole
