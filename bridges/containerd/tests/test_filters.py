"""The language of filters, as containerd has it: what matches, what is refused, and rare cases of the grammar."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from layerstore_containerd.filters import MAX_LENGTH, InvalidFilter, parse_filters

LABELS = {
    "containerd.io/snapshot.ref": "sha256:1",
    "a.b": "joined",
    "empty": "",
    "with blanks": "x",
    "größe": "zwölf",
    "v": 'say "a\\b"',
}
SNAPSHOT = ("default/4/sha256:2", "default/3/sha256:1", "committed", LABELS)


def matches(*filters: str, snapshot: tuple = SNAPSHOT) -> bool:
    found = parse_filters(filters)
    return True if found is None else found(*snapshot)


@pytest.mark.parametrize(
    "text",
    [
        "name==default/4/sha256:2",
        'name=="default/4/sha256:2"',
        "name!=other",
        "name",
        "parent",
        "kind==committed",
        "kind!=active",
        'labels."containerd.io/snapshot.ref"==sha256:1',
        'labels."containerd.io/snapshot.ref"=="sha256:1",parent=="default/3/sha256:1"',
        "labels.a.b==joined",
        'labels."a.b"==joined',
        'labels.a."b"==joined',
        "labels.empty",
        'labels.empty==""',
        'labels."with blanks"==x',
        'labels."größe"==zwölf',
        r'labels."gr\u00f6\303\237\x65"==zwölf',
        r'labels.v=="say \"a\\b\""',
        "labels.absent!=x",
        "parent!=\"\"",
        "name~=sha256",
        "name~=^default/[0-9]+/",
        "name~=|^default/|",
        r"name~=/^default\/4/",
        'name~="^default/4"',
        r"labels.v~=/a\\\\b/",
        'labels.absent~="^$"',
        "name == default/4/sha256:2",
        "  name==default/4/sha256:2",
        "kind==committed,\t\n name",
        '"name"==default/4/sha256:2',
        '"kind"',
        "name~=(?i)SHA256",
        r"name~=\d",
        r'labels."größe"~=\pL{5}',
    ],
)  # fmt: skip
def test_filter_matches(text: str) -> None:
    assert matches(text)


@pytest.mark.parametrize(
    "text",
    [
        "name==default",
        "kind==active",
        "kind==Committed",
        'parent==""',
        "labels.absent",
        'labels.absent==""',
        'labels.absent!=""',
        "labels",
        "created",
        'created==""',
        "labels.a",
        "name==default/4/sha256:2,kind==view",
        "name~=^sha256",
        "name~=(",
        "name~=(?=d)",
        r"name~=(d)\1",
        r'labels.v~="\xff"',
        r'name=="\ud800"',
        "name==sha256:2",
    ],
)
def test_filter_does_not_match(text: str) -> None:
    assert not matches(text)


def test_several_filters_are_alternatives_and_none_or_an_empty_one_is_all() -> None:
    assert matches("kind==view", "kind==committed")
    assert not matches("kind==view", "kind==active")
    assert parse_filters([]) is None
    assert parse_filters([""]) is None
    assert matches("kind==view", "")


def test_snapshot_without_labels() -> None:
    bare = ("n", "", "active", {})
    assert matches('parent==""', snapshot=bare)
    assert matches("labels.x!=1", snapshot=bare)
    assert not matches("labels.x", snapshot=bare)


@pytest.mark.parametrize(
    ("text", "position", "words"),
    [
        ("name=", 5, "operator"),
        ("name===x", 5, "operator"),
        ("name=~x", 5, "operator"),
        ("name<x", 5, "operator"),
        ("name@=x", 5, "operator"),
        ("name x", 6, "operator"),
        ("name==", 7, "value"),
        ("name==,kind", 7, "value"),
        ("name==.x", 7, "value"),
        ("name~=.x", 7, "value"),
        ("name==a b", 8, "comma"),
        ("name==a ", 8, "comma"),
        ('name=="a"b', 10, "comma"),
        ("name,", 6, "field"),
        (",name", 1, "field"),
        (" ", 2, "field"),
        ("name.", 6, "field"),
        ("labels..a", 8, "field"),
        ("größe==1", 3, "operator"),
        ("=x", 1, "field"),
        ('name=="a', 7, "does not end"),
        ('name=="a\n"', 7, "does not end"),
        ("name==|a|", 7, "regular expressions"),
        ("name==/a/", 7, "regular expressions"),
        ("/name/==a", 1, "regular expressions"),
        (r'name=="\q"', 7, "escape"),
        (r'name=="\|"', 7, "escape"),
        (r'name=="\x4"', 7, "hexadecimal"),
        (r'name=="\u12"', 7, "hexadecimal"),
        (r'name=="\U00110000"', 7, "no character"),
        (r'name=="\400"', 7, "octal"),
        (r'name=="\08"', 7, "octal"),
        ("name==a\0", 8, "comma"),
        ("name\0", 5, "operator"),
        ("name==a\ufffd", 8, "comma"),
        ("\ufffd", 1, "field"),
        ("name==a\x01", 8, "comma"),
    ],
)
def test_wrong_filter_is_refused_with_its_place(text: str, position: int, words: str) -> None:
    with pytest.raises(InvalidFilter, match=words) as refused:
        parse_filters(["name", text])
    assert f"at character {position}:" in str(refused.value)


def test_message_about_a_long_filter_is_short_and_shows_the_place() -> None:
    with pytest.raises(InvalidFilter) as refused:
        parse_filters(["name," * 1000 + "here=" + ",name" * 1000])
    assert len(str(refused.value)) < 300
    assert "here=" in str(refused.value)


def test_length_of_all_filters_is_limited() -> None:
    assert not matches("name==" + "x" * (MAX_LENGTH - 6))
    with pytest.raises(InvalidFilter, match="more than"):
        parse_filters(["name==x" * 100] * (MAX_LENGTH // 100))


def test_expression_that_takes_python_for_ever_is_decided() -> None:
    # With Python's own expressions this would take longer than the limit of a test.
    assert not matches("name~=^(a+)+$", snapshot=("a" * 60 + "b", "", "active", {}))


QUOTED = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def quote(text: str) -> str:
    """Quote as Go's %q does, but with escapes for everything."""
    return '"' + "".join(f"\\U{ord(character):08x}" for character in text) + '"'


@given(QUOTED, QUOTED, QUOTED)
def test_quoted_names_and_labels_are_found_whatever_they_contain(name: str, key: str, value: str) -> None:
    snapshot = (name, "", "active", {key: value})
    assert matches(f"name=={quote(name)},labels.{quote(key)}=={quote(value)}", snapshot=snapshot)
    assert not matches(f"name!={quote(name)}", snapshot=snapshot)


@given(st.text(max_size=30))
def test_any_text_is_a_filter_or_is_refused(text: str) -> None:
    try:
        found = parse_filters([text])
    except InvalidFilter as error:
        message = str(error)
    else:
        assert found is None or found(*SNAPSHOT) in (True, False)
        return
    assert message.isprintable()


@given(st.lists(st.sampled_from([*'nameklbs.,=!~"|/\\x0 \t', "name", "labels", "==", "~="]), max_size=12).map("".join))
def test_any_words_of_the_language_are_a_filter_or_are_refused(text: str) -> None:
    test_any_text_is_a_filter_or_is_refused.hypothesis.inner_test(text)
