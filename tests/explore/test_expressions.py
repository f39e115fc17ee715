"""Regular expressions: the same answers as Python's, and time that no expression makes long."""

from __future__ import annotations

import re
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerstore_core.explore.expressions import Expression

CHARS = "ab/._- 1A\u0663\udcff"
ATOMS = st.sampled_from(
    ["a", "b", "/", "1", ".", r"\.", r"\d", r"\w", r"\s", r"\S", r"\W", r"\D", "^", "$", r"\b", r"\B", r"\A", r"\Z"]
    + ["[ab]", "[^a]", "[a-]", "[]a]", r"[\d_]", "[^/.]", r"[\W]", "[a-b1-9]", "(a|/)", "(?:ab)", "()", "(a|)"]
)
TIMES = st.sampled_from(["", "", "", "*", "+", "?", "{2}", "{1,2}", "{,2}", "{1,}", "*?", "+?", "??"])


def _repeated(parts: list[tuple[str, str]]) -> str:
    anchors = ("^", "$", r"\b", r"\B", r"\A", r"\Z")
    return "".join(atom + ("" if atom in anchors else times) for atom, times in parts)


SEQUENCES = st.lists(st.tuples(ATOMS, TIMES), max_size=5).map(_repeated)
EXPRESSIONS = st.recursive(
    SEQUENCES,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("|".join),
        st.tuples(inner, TIMES, inner).map(lambda parts: f"({parts[0]}){parts[1]}{parts[2]}"),
    ),
    max_leaves=6,
)
TEXTS = st.text(CHARS, max_size=12)


def _found_by_python(expression: str, text: str) -> bool:
    if not text:  # `\\B` fits in it since Python 3.14 only
        expression = expression.replace(r"\B", "")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return re.search(expression, text) is not None


@given(EXPRESSIONS, st.lists(TEXTS, min_size=1, max_size=5))
def test_the_answers_are_those_of_python(expression: str, texts: list[str]) -> None:
    ours = Expression(expression)
    for text in texts:
        assert ours.found_in(text) is _found_by_python(expression, text), text


@given(st.text("ab[](){}|*+?^$.-\\dwb1,:", max_size=12), TEXTS)
def test_what_is_read_means_the_same_to_python(expression: str, text: str) -> None:
    try:
        ours = Expression(expression)
    except ValueError:
        return
    assert ours.found_in(text) is _found_by_python(expression, text)


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("(a*)*b", "a" * 4096),
        ("(a|a)*b", "a" * 4096),
        ("(a|aa)+$", "a" * 4096 + "b"),
        ("(.*)*(.*)*(.*)*x", "a/" * 2048),
        (r"^(\w+\s?)*$", "a" * 4096 + "!"),
        ("a?" * 60 + "a" * 60, "a" * 59),
    ],
    ids=range(6),
)
def test_no_expression_takes_for_ever(expression: str, text: str) -> None:
    # Python's engine would take longer than anybody waits. The time limit of the suite would say so.
    ours = Expression(expression)
    assert ours.found_in(text) is False
    assert ours.found_in(text + text) is (expression[:2] == "a?")


def test_a_text_of_any_characters_takes_bounded_memory() -> None:
    ours = Expression("(.a|b.){3}z")
    text = "".join(map(chr, range(0x4E00, 0x4E00 + 60_000)))
    assert not ours.found_in(text)
    assert sum(len(state.steps) for state in (ours._first, *ours._states.values())) < 50_000
    assert ours.found_in(text + "bab\u4e00baz")


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("(", "unterminated group at position 0"),
        ("a)", "unbalanced parenthesis at position 1"),
        ("[a", "unterminated brackets at position"),
        ("*a", "nothing to repeat at position 0"),
        ("^*", "nothing to repeat"),
        ("a**", "repeated twice"),
        ("[b-a]", "bad range"),
        ("a{3,2}", "the least is more"),
        ("a{1001}", "more than 1000 times"),
        ("(a{1000}){3}", "repeats too much"),
        ("((){1000}){1000}", "repeats too much"),
        ("(" * 51 + ")" * 51, "more than 50 groups"),
        (r"(a)\1", r"\1 is not known"),
        ("(?=a)", "groups are"),
        ("\\", "missing character after the backslash"),
    ],
)
def test_what_is_not_known_is_explained(expression: str, why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        Expression(expression)
