"""Problems of JSON: each is named without Python's own words for it."""

from __future__ import annotations

import json

import pytest

from layerstore_core.base.jsontext import json_problem


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"[" + b"9" * 5000 + b"]", "it has a number with thousands of digits"),
        (b"[" * 200_000, "it is nested too deep"),
        (b'["\xff"]', "it is not UTF-8, at byte 2"),
        (b"{", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
    ],
)
def test_the_problem_is_named(data: bytes, problem: str) -> None:
    with pytest.raises((ValueError, RecursionError)) as caught:
        json.loads(data)
    assert json_problem(caught.value) == problem


def test_other_errors_are_quoted_in_part() -> None:
    assert json_problem(ValueError("x" * 5000)) == "x" * 200
