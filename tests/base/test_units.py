"""Sizes with units."""

from __future__ import annotations

import pytest

from layerstore_core.base.units import parse_size


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
