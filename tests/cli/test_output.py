from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerstore_core.cli import output


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (102400, "100 KiB"),
        ((1 << 20) - 1, "1.0 MiB"),
        (1 << 20, "1.0 MiB"),
        (5 << 40, "5.0 TiB"),
        (3000 << 50, "3000 PiB"),
    ],
)
def test_sizes_are_told_in_binary_units(size: int, text: str) -> None:
    assert output.human_size(size) == text


@given(st.integers(min_value=0, max_value=1 << 60))
def test_no_size_is_told_as_1024_of_a_unit(size: int) -> None:
    number, unit = output.human_size(size).split()
    assert float(number) < 1024 or unit == "PiB"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("etc/hosts", "etc/hosts"),
        ("two\nlines", "two\\nlines"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("back\\slash", "back\\\\slash"),
        ("c1\x9bcontrol", "c1\\x9bcontrol"),
        ("grün", "grün"),
    ],
)
def test_a_name_cannot_mislead_a_terminal(name: str, shown: str) -> None:
    assert output.printable(name) == shown


@given(st.binary())
def test_printable_names_are_one_line_and_differ_where_the_names_do(raw: bytes) -> None:
    shown = output.printable(os.fsdecode(raw))
    assert len(shown.splitlines()) <= 1 or any(c in shown for c in "\u2028\u2029")
    assert not any(ord(c) < 0x20 for c in shown)
    back = shown.encode("utf-8", "surrogateescape").decode("latin-1")
    # Undoing what was escaped gives the bytes back; C1 controls are escaped by code point.
    assert ("\\" in shown) == any(c == "\\" or ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 for c in os.fsdecode(raw))
    assert back.count("\\\\") >= raw.count(b"\\")


def test_columns_are_aligned() -> None:
    assert output.columns([("a", "b", ""), ("long", "c", "d")]) == ["a     b", "long  c  d"]
    assert output.columns([]) == []


def test_an_os_error_tells_path_reason_and_what_was_being_done() -> None:
    error = FileNotFoundError(2, "No such file or directory", b"/x/\xff")
    error.add_note("while opening the tar")
    assert output.describe_os_error(error) == "/x/\udcff: No such file or directory (while opening the tar)"


def test_an_os_error_with_two_paths_tells_both() -> None:
    error = OSError(18, "Invalid cross-device link", "/a", None, "/b")
    assert output.describe_os_error(error) == "/a -> /b: Invalid cross-device link"


def test_an_os_error_without_any_of_it_still_says_something() -> None:
    assert output.describe_os_error(OSError()) == "OSError"
    assert output.describe_os_error(OSError("odd")) == "odd"
