"""PAX records: their syntax, and how each changes an entry."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerstore_core.tar.entry import EntryType, TarEntry
from layerstore_core.tar.header import HeaderError
from layerstore_core.tar.pax import apply_records, parse_decimal, parse_records, parse_time
from tests import tars

# The pairs of GNU's sparse format 0.0 are joined, so they are not read back.
keys = st.binary(min_size=1, max_size=20).filter(
    lambda key: b"=" not in key and b"\0" not in key and not key.startswith(b"GNU.sparse.")
)


@given(st.lists(st.tuples(keys, st.binary(max_size=200)), max_size=8, unique_by=lambda item: item[0]))
def test_records_of_any_length_are_read_back(records: list[tuple[bytes, bytes]]) -> None:
    assert parse_records(b"".join(tars.record(*item) for item in records)) == dict(records)


@pytest.mark.parametrize("length", [*range(88, 100), *range(985, 1000)])
def test_the_length_of_a_record_counts_its_own_digits(length: int) -> None:
    data = tars.record(b"path", b"x" * length)
    assert parse_records(data) == {b"path": b"x" * length}
    assert int(data.split()[0]) == len(data)


def test_the_last_of_several_records_with_one_key_counts() -> None:
    assert parse_records(tars.record(b"a", b"1") + tars.record(b"a", b"2")) == {b"a": b"2"}


def test_the_value_of_a_record_may_be_any_bytes() -> None:
    value = b"a=b\n\0\xff 12 path=x\n"
    assert parse_records(tars.record(b"k", value)) == {b"k": value}


def test_zeros_after_the_records_are_padding() -> None:
    assert parse_records(tars.record(b"a", b"1") + bytes(20)) == {b"a": b"1"}


@pytest.mark.parametrize(
    "data",
    [
        b"path=x\n",
        b"9999999999999999999999 path=x\n",
        b"10 path=xyz",
        b"11 path=xyz",
        b"13 path=xyz\n",
        b"5 x\n",
        b"5 =x\n",
        b"0 \n",
        b"3 \n",
        b"-5 a=b\n",
        b"+6 a=b\n",
        b" 6 a=b\n",
        b"7 a\0=b\n",
        b"6 a=b\n junk",
        b"6 a=b\n\0junk",
        b"\n",
    ],
)
def test_malformed_records_are_refused(data: bytes) -> None:
    with pytest.raises(HeaderError):
        parse_records(data)


def test_pairs_of_sparse_format_0_0_are_joined_to_a_map() -> None:
    pairs = [(b"GNU.sparse.offset", b"0"), (b"GNU.sparse.numbytes", b"5")] * 2
    assert parse_records(b"".join(tars.record(*item) for item in pairs)) == {b"GNU.sparse.map": b"0,5,0,5"}
    for bad in (pairs[::-1], [pairs[0], pairs[0]], [(b"GNU.sparse.offset", b"1,2")]):
        with pytest.raises(HeaderError, match="out of order"):
            parse_records(b"".join(tars.record(*item) for item in bad))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"0", 0),
        (b"1.5", 1_500_000_000),
        (b"-1.5", -1_500_000_000),
        (b"1.123456789999", 1_123_456_789),
        (b"-0.000000001", -1),
        (b"5.", 5_000_000_000),
        (b"1453146164.953123768", 1_453_146_164_953_123_768),
        (b"", None),
        (b"-", None),
        (b"1e5", None),
        (b"1.x", None),
        (b"1.-5", None),
        (b"--1", None),
        (b"9" * 20, None),
        (b" 1", None),
    ],
)
def test_times_are_read_in_nanoseconds(text: bytes, value: int | None) -> None:
    assert parse_time(text) == value


@pytest.mark.parametrize(
    ("text", "value"), [(b"0", 0), (b"-5", -5), (b"+5", 5), (b"00012", 12), (b"9223372036854775807", (1 << 63) - 1)]
)
def test_decimal_numbers_are_read(text: bytes, value: int) -> None:
    assert parse_decimal(text, "number") == value


@pytest.mark.parametrize("text", [b"", b"-", b"1_0", b" 1", b"1 ", b"0x1", b"1.0", b"9223372036854775808", b"9" * 5000])
def test_a_text_that_is_not_a_decimal_number_is_refused(text: bytes) -> None:
    with pytest.raises(HeaderError, match="the number in the extended header"):
        parse_decimal(text, "number")


def test_records_override_the_values_of_the_header() -> None:
    entry = TarEntry(b"old", EntryType.FILE, uid=1, gid=1, size=1, stored_size=1, mtime_ns=1, linkname=b"old")
    apply_records(
        entry,
        {
            b"path": b"new",
            b"linkpath": b"target",
            b"size": b"7",
            b"mtime": b"2.5",
            b"uid": b"3000000000",
            b"gid": b"4",
            b"SCHILY.xattr.user.a": b"\0v",
            b"SCHILY.xattr.user.empty": b"",
            b"comment": b"nothing",
            b"uname": b"nobody",
        },
    )
    assert entry == TarEntry(
        b"new",
        EntryType.FILE,
        uid=3_000_000_000,
        gid=4,
        size=7,
        stored_size=7,
        mtime_ns=2_500_000_000,
        linkname=b"target",
        xattrs={b"user.a": b"\0v", b"user.empty": b""},
    )


def test_empty_values_and_malformed_times_do_not_override_the_header() -> None:
    entry = TarEntry(b"old", EntryType.FILE, uid=1, mtime_ns=1, size=1)
    apply_records(entry, {b"path": b"", b"uid": b"", b"size": b"", b"mtime": b"yesterday"})
    assert entry == TarEntry(b"old", EntryType.FILE, uid=1, mtime_ns=1, size=1)


@pytest.mark.parametrize("record", [(b"size", b"-1"), (b"size", b"x"), (b"uid", b"root"), (b"gid", b"1.5")])
def test_records_with_malformed_numbers_are_refused(record: tuple[bytes, bytes]) -> None:
    with pytest.raises(HeaderError):
        apply_records(TarEntry(b"a", EntryType.FILE), dict([record]))
