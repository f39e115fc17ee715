"""Patterns of names and times in conditions on images; `tests/cli/test_listing.py` has the conditions themselves."""

from __future__ import annotations

import warnings
from datetime import UTC, datetime

import pytest

from layerstore_core.images.filters import parse_time, pattern_of


@pytest.mark.parametrize(
    ("pattern", "fitting", "others"),
    [
        ("[a-c]x", ["ax", "cx"], ["dx", "x"]),
        ("[^a-c]x", ["dx", "^x"], ["ax"]),
        (r"[\]a]", ["]", "a"], ["b", "\\"]),
        ("[a&&b]", ["&", "a", "b"], ["c"]),
        ("[a||[b]", ["[", "|"], ["c"]),
        (r"[\-a]", ["-", "a"], ["b"]),
        (r"a\*", ["a*"], ["ab"]),
        ("*", ["", "ab"], ["a/b"]),
        ("a?c", ["abc"], ["a/c", "ac"]),
        ("a.c", ["a.c"], ["abc"]),
    ],
)
def test_patterns_are_those_of_docker(pattern: str, fitting: list[str], others: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compiled = pattern_of(pattern)
    assert [name for name in fitting if not compiled.fullmatch(name)] == []
    assert [name for name in others if compiled.fullmatch(name)] == []


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2024-05-06T07:08:09.123456789Z", datetime(2024, 5, 6, 7, 8, 9, 123456, UTC)),
        ("2024-05-06T07:08:09.5Z", datetime(2024, 5, 6, 7, 8, 9, 500000, UTC)),
        ("2024-05-06 07:08:09", datetime(2024, 5, 6, 7, 8, 9, 0, UTC)),
        ("2024-05-06T07:08:09+02:00", datetime(2024, 5, 6, 5, 8, 9, 0, UTC)),
        ("0001-01-01T00:00:00+10:00", None),
        ("2024-13-06T07:08:09Z", None),
        ("2024-05-06", None),
        ("", None),
    ],
)
def test_times_are_those_of_configs(text: str, time: datetime | None) -> None:
    assert parse_time(text) == time
