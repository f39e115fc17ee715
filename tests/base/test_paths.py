"""Names of entries are cleaned as Go's `path.Clean` does, and names that leave the root are recognised."""

from __future__ import annotations

import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerstore_core.base.paths import clean_name, leaves_root


@pytest.mark.parametrize(
    ("name", "clean"),
    [  # the cases of Go's own tests of `path.Clean`, but the root is the empty name and no result is absolute
        (b"", b""),
        (b"abc", b"abc"),
        (b"abc/def", b"abc/def"),
        (b"a/b/c", b"a/b/c"),
        (b".", b""),
        (b"..", b".."),
        (b"../..", b"../.."),
        (b"../../abc", b"../../abc"),
        (b"/abc", b"abc"),
        (b"/", b""),
        (b"abc/", b"abc"),
        (b"abc/def/", b"abc/def"),
        (b"./", b""),
        (b"../", b".."),
        (b"../../", b"../.."),
        (b"/abc/", b"abc"),
        (b"abc//def//ghi", b"abc/def/ghi"),
        (b"//abc", b"abc"),
        (b"///abc", b"abc"),
        (b"//abc//", b"abc"),
        (b"abc//", b"abc"),
        (b"abc/./def", b"abc/def"),
        (b"/./abc/def", b"abc/def"),
        (b"abc/.", b"abc"),
        (b"abc/def/ghi/../jkl", b"abc/def/jkl"),
        (b"abc/def/../ghi/../jkl", b"abc/jkl"),
        (b"abc/def/..", b"abc"),
        (b"abc/def/../..", b""),
        (b"/abc/def/../..", b""),
        (b"abc/def/../../..", b".."),
        (b"/abc/def/../../..", b""),
        (b"abc/def/../../../ghi/jkl/../../../mno", b"../../mno"),
        (b"abc/./../def", b"def"),
        (b"abc//./../def", b"def"),
        (b"abc/../../././../def", b"../../def"),
        (b"/../x", b"x"),
        (b"...", b"..."),
        (b".../..", b""),
        (b"a./.b/..c", b"a./.b/..c"),
    ],
)
def test_names_are_cleaned_as_by_go(name: bytes, clean: bytes) -> None:
    assert clean_name(name) == clean


@given(st.lists(st.sampled_from([b"", b".", b"..", b"...", b"a", b".a", b"b.", b"\xff"]), max_size=8))
def test_cleaning_is_the_same_as_normpath_of_the_standard_library(parts: list[bytes]) -> None:
    name = b"/".join(parts)
    expected = posixpath.normpath(b"/" + name.lstrip(b"/"))[1:] if name.startswith(b"/") else posixpath.normpath(name)
    clean = clean_name(name)
    assert clean == (b"" if expected == b"." else expected)
    assert clean_name(clean) == clean
    assert leaves_root(clean) == (clean.split(b"/")[0] == b"..")
