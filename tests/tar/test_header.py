"""Parsing one header block: checksums, numbers, strings, and writers that break the format."""

from __future__ import annotations

import pytest

from layerstore_core.tar.header import HeaderError, is_header, is_known_type, parse_header, parse_number, parse_string
from tests import tars


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (b"0000644\0", 0o644),
        (b"   644 \0", 0o644),
        (b"644\0\0\0\0\0", 0o644),
        (b"\0\0000644 ", 0o644),
        (b"00000644", 0o644),
        (b"        ", 0),
        (b"\0" * 8, 0),
        (b"644\0junk", 0o644),
        (b"644 junk", 0o644),
        (b"\x80" + bytes(6) + b"\x07", 7),
        (b"\xff" * 12, -1),
        (b"\xff" * 8, -1),
        (tars.base256((1 << 63) - 1, 12), (1 << 63) - 1),
        (tars.base256(-(1 << 63), 12), -(1 << 63)),
        (tars.base256(1 << 40, 8), 1 << 40),
        (tars.base256(-300, 8), -300),
    ],
)
def test_numeric_fields_in_octal_and_base_256(field: bytes, value: int) -> None:
    assert parse_number(field) == value


@pytest.mark.parametrize(
    "field",
    [b"0000008\0", b"-000644\0", b"+644\0\0\0\0", b"0x1f\0\0\0\0", b"0o17\0\0\0\0", b"6_4\0\0\0\0\0", b"644junk\0"],
)
def test_a_field_that_is_not_a_number_is_refused(field: bytes) -> None:
    with pytest.raises(HeaderError, match="octal"):
        parse_number(field)


@pytest.mark.parametrize("value", [1 << 63, -(1 << 63) - 1, 1 << 80])
def test_a_number_of_more_than_64_bits_is_refused(value: int) -> None:
    with pytest.raises(HeaderError, match="64 bits"):
        parse_number(tars.base256(value, 12))


def test_a_text_field_ends_at_its_first_nul() -> None:
    assert parse_string(b"abc\0def") == b"abc"
    assert parse_string(b"abc") == b"abc"
    assert parse_string(b"\0abc") == b""


def test_a_block_with_a_right_checksum_is_a_header() -> None:
    good = tars.header(b"name")
    assert is_header(good)
    assert not is_header(bytes(512))
    assert not is_header(b"x" * 512)
    assert not is_header(good[:10] + b"!" + good[11:])


@pytest.mark.parametrize("form", [b"%06o\0 ", b"%06o \0", b" %06o\0", b"%07o\0", b"%o\0", b"%08o", b"%6o\0 "])
def test_checksums_in_all_forms_that_writers_use_are_accepted(form: bytes) -> None:
    block = tars.header(b"name")
    total = sum(block[:148]) + 8 * 32 + sum(block[156:])
    assert is_header(block[:148] + (form % total).ljust(8, b"\0") + block[156:])


def test_a_checksum_of_signed_characters_is_accepted() -> None:
    block = tars.with_checksum(tars.header(b"\xe4\xf6\xfc" * 20), signed=True)
    assert is_header(block)
    assert parse_header(block, 0).name == b"\xe4\xf6\xfc" * 20


def test_a_mode_keeps_twelve_bits() -> None:
    """Some writers put the file type into the mode, too."""
    assert parse_header(tars.header(b"a", mode=0o104755), 0).mode == 0o4755


def test_an_entry_has_the_offset_of_its_header() -> None:
    assert parse_header(tars.header(b"a"), 5120).offset == 5120


def test_a_header_with_a_wrong_checksum_is_refused() -> None:
    with pytest.raises(HeaderError, match="checksum"):
        parse_header(b"x" * 512, 0)


@pytest.mark.parametrize(
    ("field", "name"),
    [
        (b"prefix/dir", b"prefix/dir/n"),
        (b"\xff\xfeprefix", b"n"),  # not ASCII text, as Go writes
        (tars.number(1, 12) + tars.number(2, 12), b"n"),  # the two times of a GNU header
        (b"", b"n"),
    ],
)
def test_name_prefixes_in_gnu_headers_of_old_go_programs(field: bytes, name: bytes) -> None:
    assert parse_header(tars.header(b"n", form="gnu", prefix=field), 0).name == name


def test_type_flags_of_all_dialects_are_known() -> None:
    assert all(is_known_type(flag) for flag in (b"0", b"\0", b"1", b"5", b"7", b"S", b"D", b"g", b"V"))
    assert not is_known_type(b"Z")
