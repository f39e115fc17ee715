"""Sizes with units."""

from __future__ import annotations

import pytest

from layerstore_core.base.units import parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1048576", 1048576),
        ("512m", 512 * 1024**2),
        ("10G", 10 * 1024**3),
        ("10GB", 10 * 1024**3),
        ("10GiB", 10 * 1024**3),
        ("10 gib", 10 * 1024**3),
        ("1.5k", 1536),
        ("1.0001k", 1024),
        (" 3t ", 3 * 1024**4),
        ("2P", 2 * 1024**5),
        ("7b", 7),
    ],
)
def test_a_size_is_a_number_of_bytes_with_binary_units(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "-1", "1.G", ".5g", "10X", "10 G B", "1e3", "10,5G", "٣", "0x10"])
def test_the_error_for_a_text_that_is_not_a_size_quotes_it_and_says_how_to_write_one(text):
    with pytest.raises(ValueError, match="is not a size: write a number of bytes") as caught:
        parse_size(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7d", 604_800), ("12h", 43_200), ("1d12h", 129_600), ("90m", 5400), ("1.5h", 5400), ("2w", 1_209_600), ("0s", 0)],
)
def test_a_duration_is_read_in_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "7", "d", "-7d", "7 d", "7D", "1h1d", "1h1h", "7days", "1e3s", "٧d", "1..5h", "7d\n"]
)
def test_a_text_that_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="such as 7d, 12h or 1d12h"):
        parse_duration(text)
