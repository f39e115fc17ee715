"""Untrusted text is escaped for terminals, logs and lines of output."""

from __future__ import annotations

import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerstore_core import InvalidImage
from layerstore_core.text import printable

_ESCAPE = re.compile(r"\\(?:([\\nrt])|x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8}))")


def unescape(shown: str) -> str:
    def one(match: re.Match[str]) -> str:
        if match[1]:
            return {"n": "\n", "r": "\r", "t": "\t", "\\": "\\"}[match[1]]
        return chr(int(match[2] or match[3] or match[4], 16))

    return _ESCAPE.sub(one, shown)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("etc/hosts", "etc/hosts"),
        ("two\nlines", "two\\nlines"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("back\\slash", "back\\\\slash"),
        ("c1\x9bcontrol", "c1\\x9bcontrol"),
        ("grün 日本", "grün 日本"),
        ("a\u202eb\u2066c", "a\\u202eb\\u2066c"),
        ("\u2028\u2029\x85", "\\u2028\\u2029\\x85"),
        ("\u200b\ufeff\u2060\u034f\u3164", "\\u200b\\ufeff\\u2060\\u034f\\u3164"),
        ("\u00a0\u00ad\ue000\U000e0041", "\\xa0\\xad\\ue000\\U000e0041"),
        ("\ud800", "\\ud800"),
        ("\udcc2\udc9b31m", "\\udcc2\\udc9b31m"),
        (os.fsdecode(b"\xff"), "\\udcff"),
    ],
)
def test_characters_that_mislead_a_terminal_are_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.one_of(st.binary().map(os.fsdecode), st.text(st.characters(exclude_categories=())), st.text("\\nxu0d8\n")))
def test_escaped_text_is_one_line_and_can_be_unescaped(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert len(shown.splitlines()) <= 1
    assert shown.encode().decode() == shown
    assert unescape(shown) == text
    assert printable(text, backslash=False).isprintable()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (os.fsdecode(b"e\xff"), "e\udcff"),
        (os.fsdecode(b"e\x9b31m"), "e\\udc9b31m"),
        ("\udcc2\udc9b31m", "\\udcc2\\udc9b31m"),
        ("\ud800\udcff", "\\ud800\\udcff"),
    ],
)
def test_a_file_name_keeps_its_harmless_bytes(name: str, shown: str) -> None:
    assert printable(name, path=True) == shown


@given(st.text(st.characters(min_codepoint=0xDC80, max_codepoint=0xDD00)))
def test_a_file_name_has_no_control_characters_when_written_as_bytes(name: str) -> None:
    written = printable(name, path=True).encode("utf-8", "surrogateescape")
    assert printable(os.fsdecode(written), path=True, backslash=False) == os.fsdecode(written)


def test_a_sentence_keeps_its_backslashes() -> None:
    assert printable(r"'\x1b'", backslash=False) == r"'\x1b'"
    assert str(InvalidImage("a\u202e\ud800\\")) == r"a\u202e\ud800" + "\\"
