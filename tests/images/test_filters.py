"""Patterns of names and times in conditions on images; `tests/cli/test_listing.py` has the conditions themselves."""

from __future__ import annotations

import warnings

import pytest

from layerstore_core.images.filters import pattern_of


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
