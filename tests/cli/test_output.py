"""Sizes, columns, and the text of an error of the operating system."""

from __future__ import annotations

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
def test_sizes_are_printed_in_binary_units(size: int, text: str) -> None:
    assert output.human_size(size) == text


@given(st.integers(min_value=0, max_value=1 << 60))
def test_no_size_is_printed_as_1024_of_a_unit(size: int) -> None:
    number, unit = output.human_size(size).split()
    assert float(number) < 1024 or unit == "PiB"


def test_columns_are_aligned() -> None:
    assert output.columns([("a", "b", ""), ("long", "c", "d")]) == ["a     b", "long  c  d"]
    assert output.columns([]) == []


def test_an_os_error_has_path_reason_and_operation() -> None:
    error = FileNotFoundError(2, "No such file or directory", b"/x/\xff")
    error.add_note("while opening the tar")
    assert output.describe_os_error(error) == "/x/\udcff: No such file or directory (while opening the tar)"


def test_an_os_error_with_two_paths_names_both() -> None:
    error = OSError(18, "Invalid cross-device link", "/a", None, "/b")
    assert output.describe_os_error(error) == "/a -> /b: Invalid cross-device link"


def test_an_os_error_without_details_has_a_text() -> None:
    assert output.describe_os_error(OSError()) == "OSError"
    assert output.describe_os_error(OSError("odd")) == "odd"
