"""The lines of subuid(5) and subgid(5), and the mapping made of them."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerstore_core.rootless import subordinate
from layerstore_core.rootless.subordinate import SubordinateIDs, mapping, subordinate_ids

ROOT = 0


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Return the two files, which do not exist yet."""
    paths = tmp_path / "subuid", tmp_path / "subgid"
    monkeypatch.setattr(subordinate, "USERS", str(paths[0]))
    monkeypatch.setattr(subordinate, "GROUPS", str(paths[1]))
    return paths


def test_lines_of_a_user_are_found_by_name_and_by_number(files: tuple[Path, Path]) -> None:
    files[0].write_text("other:1:2\nroot:100000:65536\n0:300000:5\nrooty:7:7\n")
    files[1].write_text("root:200000:10\n")
    assert subordinate_ids(ROOT) == SubordinateIDs(((100_000, 65_536), (300_000, 5)), ((200_000, 10),))


@pytest.mark.parametrize(
    "line",
    ["root", "root:1", "root:1:2:3", "root::5", "root:-1:5", "root:1:0", "root:a:5", "root:٣:5", "# root:1:2", "\xff"],
)
def test_malformed_lines_are_passed_over(files: tuple[Path, Path], line: str) -> None:
    for file in files:
        file.write_bytes(line.encode("latin-1", "replace") + b"\nroot:100:5\n")
    assert subordinate_ids(ROOT).users == ((100, 5),)


def test_a_range_beyond_all_ids_is_passed_over(files: tuple[Path, Path]) -> None:
    for file in files:
        file.write_text("root:4294967290:10\n")
    assert not subordinate_ids(ROOT)


def test_a_user_without_groups_has_no_ids(files: tuple[Path, Path]) -> None:
    files[0].write_text("root:100000:65536\n")
    assert not subordinate_ids(ROOT)


def test_a_user_without_a_name_is_found_by_number(files: tuple[Path, Path]) -> None:
    for file in files:
        file.write_text(f"{os.getpid() + 3_000_000}:100:5\n")
    assert subordinate_ids(os.getpid() + 3_000_000).groups == ((100, 5),)


@given(st.lists(st.tuples(st.integers(1, 1 << 31), st.integers(1, 1 << 16)), max_size=20))
def test_mapping_has_each_id_once_and_no_gap(ranges: list[tuple[int, int]]) -> None:
    lines = mapping(1000, tuple(ranges))
    assert lines[0] == (0, 1000, 1)
    assert [line[1:] for line in lines[1:]] == ranges
    for (inside, _, count), (following, *_) in itertools.pairwise(lines):
        assert inside + count == following
