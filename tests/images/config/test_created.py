"""The time of a new image."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerstore_core.errors import LayerStoreError
from layerstore_core.images.config.created import creation_time


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("2024-05-06T07:08:09Z", "2024-05-06T07:08:09Z"),
        ("2024-05-06t07:08:09.100000z", "2024-05-06T07:08:09.1Z"),
        ("2024-05-06T07:08:09.123456789+02:30", "2024-05-06T04:38:09.123456789Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ("0", "1970-01-01T00:00:00Z"),
        ("1700000000", "2023-11-14T22:13:20Z"),
        (datetime(2024, 5, 6, 7, 8, 9, tzinfo=timezone(timedelta(hours=2))), "2024-05-06T05:08:09Z"),
    ],
)
def test_a_time_is_in_utc(given: str | datetime, expected: str) -> None:
    assert creation_time(given) == expected


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_datetime_and_its_text_are_the_same_time(time: datetime) -> None:
    assert creation_time(time) == creation_time(time.isoformat())
    assert datetime.fromisoformat(creation_time(time)) == time


@pytest.mark.parametrize(
    "given",
    ["", "now", "2024-05-06", "2024-05-06T07:08:09", "2024-13-06T07:08:09Z", "2024-05-06T07:08:60Z", "-1",
     "999999999999", "0001-01-01T00:00:00+02:00", "2024-05-06T07:08:09.Z", "١٧"],
)  # fmt: skip
def test_what_is_no_time_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match="time"):
        creation_time(given)


def test_a_datetime_needs_a_time_zone() -> None:
    with pytest.raises(ValueError, match="time zone"):
        creation_time(datetime(2024, 5, 6))


def test_the_environment_has_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert creation_time() == creation_time("SOURCE_DATE_EPOCH") == "2023-11-14T22:13:20Z"
    assert creation_time("0") == "1970-01-01T00:00:00Z"
    for bad in ("", "x", "-1", "999999999999"):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", bad)
        with pytest.raises(LayerStoreError, match="SOURCE_DATE_EPOCH is"):
            creation_time()
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    with pytest.raises(LayerStoreError, match="is not set"):
        creation_time("SOURCE_DATE_EPOCH")
    before = datetime.now(UTC)
    assert before <= datetime.fromisoformat(creation_time()) <= datetime.now(UTC)
