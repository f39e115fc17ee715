"""Patterns are compiled when they are used, and are like those of `re`."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest

from layerstore_core.base.patterns import pattern


def test_a_pattern_is_compiled_once_at_its_first_use(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    real = re.compile

    def count(*arguments: Any) -> Any:
        compiled.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(re, "compile", count)
    digits = pattern("([0-9]+)x", re.ASCII)
    assert compiled == []
    match = digits.fullmatch("12x")
    assert match is not None
    assert match[1] == "12"
    assert digits.fullmatch("12") is None
    assert compiled == [("([0-9]+)x", re.ASCII)]


def test_a_pattern_has_what_one_of_re_has() -> None:
    mine, real = pattern(rb"a|b"), re.compile(rb"a|b")
    assert mine.pattern == real.pattern
    assert mine.findall(b"ab") == real.findall(b"ab")
    assert mine.sub(b"x", b"ab") == real.sub(b"x", b"ab")
    assert copy.copy(mine).search(b"b") is not None
    with pytest.raises(re.error):
        _ = pattern("(").pattern
