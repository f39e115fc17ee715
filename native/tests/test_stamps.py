"""The kernel that takes stamps, and its BLAKE2b, against their twins."""

from __future__ import annotations

import os
import tempfile
from hashlib import blake2b
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerstore_core.diff.compare_trees import compare_trees
from layerstore_core.diff.stamps import Stamps, take_stamps
from layerstore_core.tree import share
from layerstore_core.tree.copy_tree import copy_tree
from tests.trees import Tree, build, change, steps, trees
from tests.without_kernels import plain_way

kernels = pytest.importorskip("layerstore_native._kernels", reason="the kernels are not built")

NEVER = (1 << 63) - 1
MANY = 1 << 40


def each(stamps: bytes) -> list[bytes]:
    """Return the single stamps, sorted."""
    assert len(stamps) % 16 == 0
    return sorted(stamps[start : start + 16] for start in range(0, len(stamps), 16))


@given(trees(), st.sampled_from([1, 3, 2000]), st.integers(-1, 1))
def test_the_stamps_of_a_tree_are_those_of_the_twin(tree: Tree, names: int, near: int) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(share, "_NAMES", names)
        patch.setattr(share, "_FIRST_NAMES", names)
        root = build(Path(name, "root"), tree)
        before = root.stat().st_ctime_ns + near
        with plain_way():
            expected = take_stamps(root, before), take_stamps(root, NEVER)
        assert each(take_stamps(root, before)) == each(expected[0])
        assert each(take_stamps(root, NEVER)) == each(expected[1])
        assert len(expected[1]) >= 16


@given(trees(), steps(), st.sampled_from([1, 3, 2000]))
def test_the_changes_with_stamps_are_those_of_the_twin(
    tree: Tree, todo: list[tuple[str, int, int]], names: int
) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(share, "_NAMES", names)
        patch.setattr(share, "_FIRST_NAMES", names)
        lower, upper = build(Path(name, "lower"), tree), Path(name, "upper")
        upper.mkdir()
        copy_tree(lower, upper)
        stamps = take_stamps(upper, NEVER)
        change(upper, todo)
        with plain_way():
            expected = compare_trees(upper, lower, stamps=Stamps(stamps))
        assert compare_trees(upper, lower, stamps=Stamps(stamps)) == expected


@pytest.mark.parametrize("length", [*range(1, 70), 100, 127, 128, 129, 180, 200, 229, 230, 231, 255])
def test_a_stamp_is_the_digest_of_a_path_of_any_length(tmp_path: Path, length: int) -> None:
    """The length of the text goes over the blocks of BLAKE2b."""
    (tmp_path / ("x" * length)).write_bytes(b"content")
    with plain_way():
        expected = take_stamps(tmp_path, NEVER)
    assert each(take_stamps(tmp_path, NEVER)) == each(expected)
    status = (tmp_path / ("x" * length)).stat()
    text = f"{status.st_ino} {status.st_ctime_ns} 7 {status.st_mtime_ns} {'x' * length}"
    assert blake2b(text.encode(), digest_size=16).digest() in each(expected)


def test_stamps_are_sorted_without_a_part_of_one_at_the_end() -> None:
    stamps = os.urandom(16 * 100)
    assert kernels.sort_stamps(stamps) == b"".join(each(stamps))
    assert kernels.sort_stamps(stamps[: 16 * 3 + 5]) == b"".join(each(stamps[: 16 * 3]))
    assert kernels.sort_stamps(b"short") == b""
    assert kernels.sort_stamps(b"") == b""


def test_a_time_beyond_64_bits_of_nanoseconds_has_no_stamp(tmp_path: Path) -> None:
    """Then the file is compared."""
    (tmp_path / "file").touch()
    try:
        os.utime(tmp_path / "file", (0, 10_000_000_000))
    except OSError:
        pytest.skip("the file system of the temporary directory has no such times")
    if (tmp_path / "file").stat().st_mtime < 10_000_000_000:
        pytest.skip("the file system of the temporary directory has no such times")
    root = os.open(tmp_path, os.O_RDONLY)
    (notes, _), stamps = kernels.take_stamps(root, MANY, b"\0", b"", NEVER)
    os.close(root)
    assert (notes, len(stamps)) == ([], 16)


def test_a_directory_that_is_left_is_noted_with_its_whole_path(tmp_path: Path) -> None:
    (tmp_path / "d/e").mkdir(parents=True)
    root = os.open(tmp_path, os.O_RDONLY)
    (notes, left), stamps = kernels.take_stamps(root, 1, b"\0", b"above", NEVER)
    assert ([path for _, path, _ in notes], left, len(stamps)) == ([b"above/d"], 0, 16)
    assert kernels.take_stamps(root, MANY, b"\0", b"", 0) == (([], MANY - 2), None)
    os.close(root)
    with pytest.raises(ValueError, match="is empty"):
        kernels.take_stamps(0, 1, b"", b"", 0)
    with pytest.raises(OSError, match="Bad file descriptor"):
        kernels.take_stamps(-1, 1, b"\0", b"", 0)
