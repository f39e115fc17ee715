"""Names: cleaned as Go's `path.Clean` does, and what they stand for."""

from __future__ import annotations

import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerstore_core.base.paths import clean_name, leaves_root
from layerstore_core.errors import InvalidLayer
from layerstore_core.tar.whiteouts import NameKind, classify, whiteout_name, whiteout_target


@pytest.mark.parametrize(
    ("name", "clean"),
    [  # the cases of Go's own tests of `path.Clean`, with the root as the empty name and nothing absolute
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
def test_cleaning(name: bytes, clean: bytes) -> None:
    assert clean_name(name) == clean


@given(st.lists(st.sampled_from([b"", b".", b"..", b"...", b"a", b".a", b"b.", b"\xff"]), max_size=8))
def test_cleaning_is_the_standard_librarys_where_both_have_the_same_rules(parts: list[bytes]) -> None:
    name = b"/".join(parts)
    expected = posixpath.normpath(b"/" + name.lstrip(b"/"))[1:] if name.startswith(b"/") else posixpath.normpath(name)
    clean = clean_name(name)
    assert clean == (b"" if expected == b"." else expected)
    assert clean_name(clean) == clean
    assert leaves_root(clean) == (clean.split(b"/")[0] == b"..")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (b"", NameKind.PLAIN),
        (b"a/b", NameKind.PLAIN),
        (b"a.wh.b", NameKind.PLAIN),
        (b".wh", NameKind.PLAIN),
        (b".wh.d/f", NameKind.PLAIN),
        (b".wh.f", NameKind.WHITEOUT),
        (b"a/.wh.f", NameKind.WHITEOUT),
        (b".wh.", NameKind.WHITEOUT),
        (b".wh..f", NameKind.WHITEOUT),
        (b"a/.wh..wh.plnk", NameKind.WHITEOUT),
        (b".wh..wh..opq", NameKind.OPAQUE),
        (b"a/.wh..wh..opq", NameKind.OPAQUE),
        (b".wh..wh..opq/f", NameKind.AUFS),
        (b".wh..wh.aufs", NameKind.AUFS),
        (b".wh..wh.plnk", NameKind.AUFS),
        (b".wh..wh.plnk/1.2", NameKind.AUFS_LINK),
        (b".wh..wh.plnkx", NameKind.AUFS),
        (b".wh..wh.orph/f", NameKind.AUFS),
    ],
)
def test_kinds(name: bytes, kind: NameKind) -> None:
    assert classify(name) is kind


@pytest.mark.parametrize(
    ("name", "target"), [(b".wh.f", b"f"), (b"a/b/.wh.f", b"a/b/f"), (b".wh..f", b".f"), (b".wh....", b"...")]
)
def test_targets(name: bytes, target: bytes) -> None:
    assert whiteout_target(name) == target
    assert whiteout_name(target) == name


@pytest.mark.parametrize("name", [b".wh.", b".wh..", b".wh...", b"a/.wh."])
def test_targets_that_are_no_file(name: bytes) -> None:
    with pytest.raises(InvalidLayer, match="names no file") as caught:
        whiteout_target(name)
    assert caught.value.entry == name
