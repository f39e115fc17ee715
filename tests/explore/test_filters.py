"""The filter of a tree: its words, and which files fit."""

from __future__ import annotations

import os
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerstore_core.explore.file_tree import FileTree
from layerstore_core.explore.filters import parse_filter
from layerstore_core.explore.marks import Mark
from tests.across.chains import d, f
from tests.explore.conftest import tree_of

LAYERS = (
    [d(b"usr"), d(b"usr/lib"), f(b"usr/lib/A.so", b"a" * 3000), f(b"usr/lib/b.SO"), f(b"usr/x.py", b"x"), f(b"gone")],
    [f(b"usr/x.py", b"xyz"), f(b"new.py", b"n" * 100), f(b".wh.gone"), f(b"caf\xe9")],
)


def fitting(text: str) -> list[str]:
    chosen = parse_filter(text)
    return [file.path.decode("latin-1") for file in FileTree(*tree_of(*LAYERS)).walk() if chosen.fits(file)]


def found(expression: str, path: bytes) -> bool:
    """Return whether a regular expression is found in a path."""
    ((found_in, whole),) = parse_filter("~" + expression).names
    assert whole
    return bool(found_in(os.fsdecode(path)))


@pytest.mark.parametrize(
    ("text", "files"),
    [
        (":added", ["café", "new.py"]),
        (":a,d", ["café", "gone", "new.py"]),
        (":changed", ["usr/x.py"]),
        (">2k", ["usr/lib/A.so"]),
        (">0 <1k", ["new.py", "usr/x.py"]),
        ("*.so", ["usr/lib/A.so", "usr/lib/b.SO"]),
        ("*.SO", ["usr/lib/b.SO"]),
        ("usr/*.py", ["usr/x.py"]),
        ("/usr/*.py", ["usr/x.py"]),
        ("lib/", ["usr/lib/A.so", "usr/lib/b.SO"]),
        ("x.PY", []),
        ("x.py", ["usr/x.py"]),
        (r"~\.py$", ["new.py", "usr/x.py"]),
        ("usr ~^usr/x", ["usr/x.py"]),
        (r":added ~ne|no", ["new.py"]),
        ("? ", []),
    ],
)
def test_files_fit_all_words(text: str, files: list[str]) -> None:
    assert fitting(text) == files


def test_an_empty_filter_is_false_and_fits_all() -> None:
    assert not parse_filter("  ")
    assert parse_filter(">0") and parse_filter("x") and parse_filter(":same")
    assert len(fitting("")) == 8


@pytest.mark.parametrize(
    ("text", "said"),
    [(":blue", "is no kind"), (":", "a kind is missing"), (">big", "is not a size"), ("~[", "no regular expression")],
)
def test_a_word_that_is_wrong_is_explained(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_filter(text)


@pytest.mark.parametrize(
    ("expression", "path"),
    [
        ("(a*)*b", b"a" * 4096),
        ("(a|aa)+$", b"a" * 4096 + b"b"),
        ("(.*)*(.*)*(.*)*x", b"a/" * 2048),
        ("a?" * 60 + "a" * 60, b"a" * 59),
    ],
    ids=range(4),
)
def test_no_expression_takes_for_ever(expression: str, path: bytes) -> None:
    # Python's engine would take longer than anybody waits. The time limit of the suite would say so.
    assert not found(expression, path)


def test_bytes_that_are_not_utf_8_are_question_marks_to_an_expression() -> None:
    assert found(r"^a\?b$", b"a\xffb")
    assert found("^a.é$", b"a\xff\xc3\xa9")


@pytest.mark.parametrize(
    ("expression", "why"),
    [("(", r"missing \)"), (r"(a)\1", "invalid escape sequence"), ("(?=a)", "invalid perl"), ("\udcff", "not UTF-8")],
)
def test_what_is_wrong_with_an_expression_is_said(expression: str, why: str) -> None:
    with pytest.raises(ValueError, match=f"is no regular expression: .*{why}"):
        parse_filter("~" + expression)


def test_an_expression_without_the_extra_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "re2", None)
    with pytest.raises(ValueError, match=r"needs the package google-re2: pip install 'layerstore-core\[explore\]'"):
        parse_filter("~a")


@given(text=st.text(max_size=30))
def test_any_text_is_a_filter_or_an_error_that_says_why(text: str) -> None:
    try:
        chosen = parse_filter(text)
    except ValueError:
        return
    for file in FileTree(*tree_of(*LAYERS)).walk():
        assert chosen.fits(file) in (True, False)


@given(marks=st.sets(st.sampled_from(Mark), min_size=1))
def test_kinds_choose_exactly_the_files_with_these_marks(marks: set[Mark]) -> None:
    chosen = parse_filter(":" + ",".join(mark.value for mark in marks))
    for file in FileTree(*tree_of(*LAYERS)).walk():
        assert chosen.fits(file) == (file.mark in marks)
