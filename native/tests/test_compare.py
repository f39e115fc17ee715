"""The kernel that compares directories: what it finds, what it leaves, and the whole comparison, against its twin."""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerstore_core.diff.compare_trees import compare_trees
from layerstore_core.tree import share
from layerstore_core.tree.copy_tree import copy_tree
from tests.trees import TIMES, Tree, build, change, pairs, steps, trees
from tests.without_kernels import plain_way

kernels = pytest.importorskip("layerstore_native._kernels", reason="the kernels are not built")

MANY = 1 << 40


def compare(upper: Path, lower: Path, *, names: int = MANY, stop: bytes = b"\0") -> list[tuple[str, bytes]]:
    """Compare two directories by the kernel; return the kinds and paths of its notes, sorted by path."""
    one, other = os.open(upper, os.O_RDONLY), os.open(lower, os.O_RDONLY)
    try:
        notes, left = kernels.compare_directory(one, other, names, stop, b"", b"", 0, False)
    finally:
        os.close(one)
        os.close(other)
    assert left <= names
    return sorted(((chr(kind), path) for kind, path, _ in notes), key=lambda note: note[1])


def same_both_ways(upper: Path, lower: Path) -> None:
    with plain_way():
        expected = compare_trees(upper, lower)
    assert compare_trees(upper, lower) == expected


@given(pairs(), st.sampled_from([1, 2, 4, 2000]))
def test_the_changes_between_any_two_trees_are_those_of_the_twin(pair: tuple[Tree, Tree], names: int) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(share, "_NAMES", names)
        patch.setattr(share, "_FIRST_NAMES", names)
        same_both_ways(build(Path(name, "upper"), pair[1]), build(Path(name, "lower"), pair[0]))


@given(trees(), steps())
def test_the_changes_of_a_copy_are_those_of_the_twin(tree: Tree, todo: list[tuple[str, int, int]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        lower, upper = build(Path(name, "lower"), tree), Path(name, "upper")
        upper.mkdir()
        copy_tree(lower, upper)
        change(upper, todo)
        same_both_ways(upper, lower)


@pytest.mark.parametrize("size", [1, 65_535, 65_536, 65_537, 200_000])
@pytest.mark.parametrize("place", ["first", "last"])
def test_one_byte_of_content_makes_a_difference(upper: Path, lower: Path, size: int, place: str) -> None:
    content = bytearray(os.urandom(size))
    (upper / "file").write_bytes(content)
    (lower / "file").write_bytes(content)
    for path in (upper, lower):
        os.utime(path / "file", ns=(TIMES[1], TIMES[1]))
    assert compare(upper, lower) == []
    content[0 if place == "first" else -1] ^= 1
    (upper / "file").write_bytes(content)
    os.utime(upper / "file", ns=(TIMES[1], TIMES[1]))
    assert compare(upper, lower) == [("C", b"file")]


@pytest.mark.parametrize("content", [b"", b"x", b"\0"])
def test_content_is_compared_at_the_ends_of_holes(upper: Path, lower: Path, content: bytes) -> None:
    for path, data in ((upper, content), (lower, b"")):
        with open(path / "file", "wb") as file:
            file.seek(3 << 20)
            file.write(b"data")
            file.seek((9 << 20) - 1)
            file.write(data)
            file.truncate(9 << 20)
        os.utime(path / "file", ns=(TIMES[1], TIMES[1]))
    assert compare(upper, lower) == ([("C", b"file")] if content == b"x" else [])


def value(path: Path, content: bytes) -> None:
    os.setxattr(path, "user.one", content)


CHANGES: list[tuple[str, Callable[[Path], None], bool]] = [
    ("mode", lambda path: path.chmod(0o711), True),
    ("time", lambda path: os.utime(path, ns=(0, TIMES[1] + 1)), True),
    ("attribute", lambda path: value(path, b"1"), True),
    ("two attributes", lambda path: (value(path, b"0"), os.setxattr(path, "user.two", b""))[0], True),
    ("overlayfs's attribute", lambda path: os.setxattr(path, "user.overlay.origin", b"1"), False),
    ("nothing", lambda path: value(path, b"0"), False),
]


@pytest.mark.parametrize(("act", "counts"), [change[1:] for change in CHANGES], ids=[change[0] for change in CHANGES])
def test_metadata_of_a_file(upper: Path, lower: Path, act: Callable[[Path], None], counts: bool) -> None:
    for path in (upper / "file", lower / "file"):
        path.write_bytes(b"same")
        value(path, b"0")
        os.utime(path, ns=(TIMES[1], TIMES[1]))
    act(upper / "file")
    assert compare(upper, lower) == ([("C", b"file")] if counts else [])


def test_an_attribute_of_a_directory_makes_a_difference(upper: Path, lower: Path) -> None:
    for path in (upper, lower):
        (path / "d/e").mkdir(parents=True)
    value(upper / "d/e", b"1")
    assert compare(upper, lower) == [("C", b"d/e")]


def test_names_of_one_tree_are_added_or_deleted(upper: Path, lower: Path) -> None:
    (upper / "new/below").mkdir(parents=True)
    (upper / "file").touch()
    (lower / "old/below").mkdir(parents=True)
    (lower / "gone").symlink_to("nowhere")
    (upper / "other").mkdir()
    (lower / "other").touch()
    expected = [("A", b"file"), ("D", b"gone"), ("A", b"new"), ("u", b"new")]
    assert compare(upper, lower) == [*expected, ("D", b"old"), ("C", b"other"), ("u", b"other")]


def test_names_of_hard_linked_files_are_noted_with_their_inodes(upper: Path, lower: Path) -> None:
    (upper / "a").touch()
    os.link(upper / "a", upper / "b")
    os.link(upper / "a", lower / "b")
    one, other = os.open(upper, os.O_RDONLY), os.open(lower, os.O_RDONLY)
    notes, _ = kernels.compare_directory(one, other, MANY, b"\0", b"", b"", 0, False)
    os.close(one)
    os.close(other)
    inode = (upper / "a").stat().st_dev, (upper / "a").stat().st_ino
    found = {path: struct.unpack("=5Q", more) for kind, path, more in notes if kind == ord("n")}
    assert found == {b"a": (*inode, 0, 0, 0), b"b": (*inode, *inode, 1)}


def test_the_rest_is_left_after_as_many_names_as_are_allowed(upper: Path, lower: Path) -> None:
    for path in (upper, lower):
        (path / "d/below").mkdir(parents=True)
    (upper / "d/new").touch()
    assert compare(upper, lower, names=1) == [("l", b"d")]


def test_a_directory_compared_with_itself_has_no_changes(upper: Path) -> None:
    (upper / "d/e").mkdir(parents=True)
    assert compare(upper, upper) == []
    assert compare(upper, upper, names=1) == [("s", b"d")]


def test_wrong_arguments_are_refused(upper: Path, lower: Path) -> None:
    with pytest.raises(ValueError, match="is empty"):
        compare(upper, lower, stop=b"")
    with pytest.raises(OSError, match="Bad file descriptor"):
        kernels.compare_directory(-1, -1, 1, b"\0", b"", b"", 0, False)
