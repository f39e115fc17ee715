"""Times of RFC 3339, and in nanoseconds since 1970."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerstore_core.base.times import datetime_of, format_rfc3339, nanoseconds_of, parse_rfc3339

#: The nanoseconds of the first and the last moment that there is a text for.
FIRST = nanoseconds_of(datetime.min.replace(tzinfo=UTC))
LAST = nanoseconds_of(datetime.max.replace(tzinfo=UTC)) + 999


@given(st.integers(FIRST, LAST))
def test_each_nanosecond_has_a_text_of_its_own(time: int) -> None:
    text = format_rfc3339(time)
    assert parse_rfc3339(text) == parse_rfc3339(text, lenient=True) == time
    assert nanoseconds_of(datetime_of(time)) == time // 1000 * 1000


@pytest.mark.parametrize(
    ("text", "strict", "lenient"),
    [
        ("1970-01-01T00:00:01.000000005Z", 1_000_000_005, 1_000_000_005),
        ("1970-01-01t02:00:00+02:00", 0, 0),
        ("1970-01-01T00:00:00.0000000019Z", None, 1),
        ("1970-01-01 00:00:01", None, 1_000_000_000),
        ("1970-01-01T00:00:01", None, 1_000_000_000),
        ("1969-12-31T23:59:59.5Z", -500_000_000, -500_000_000),
        ("1970-01-01T00:00:00.Z", None, None),
        ("1970-01-01T00:00:60Z", None, None),
        ("0001-01-01T00:00:00+10:00", None, None),
        ("9999-12-31T23:59:59-01:00", None, None),
        ("1970-01-01", None, None),
        ("", None, None),
        ("١٩٧٠-01-01T00:00:00Z", None, None),
    ],
)
def test_texts_are_read(text: str, strict: int | None, lenient: int | None) -> None:
    assert parse_rfc3339(text) == strict
    assert parse_rfc3339(text, lenient=True) == lenient


@pytest.mark.parametrize("time", [FIRST - 1, LAST + 1, 10**30])
def test_a_time_that_no_calendar_has_is_an_error(time: int) -> None:
    with pytest.raises(OverflowError):
        format_rfc3339(time)
