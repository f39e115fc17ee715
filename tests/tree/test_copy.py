"""Copies of trees: content, holes, hard links, metadata, access lists, deep trees, errors."""

from __future__ import annotations

import os
import socket
import stat
import struct
import tempfile
from pathlib import Path

import pytest
from hypothesis import given

from layerstore_core.diff.compare_trees import compare_trees
from layerstore_core.tree import copy
from layerstore_core.tree.copy_tree import copy_tree
from tests.conftest import needs_root
from tests.trees import TIMES, Tree, build, snapshot, trees

MIB = 1 << 20


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "target"
    path.mkdir()
    return path


@given(tree=trees())
def test_a_copy_equals_its_source(tree: Tree) -> None:
    with tempfile.TemporaryDirectory() as name:
        root, target = build(Path(name, "root"), tree), Path(name, "target")
        target.mkdir()
        copy_tree(root, target)
        assert snapshot(target) == snapshot(root)


def test_the_roots_own_metadata_is_copied(root: Path, target: Path, nothing_left_open: None) -> None:
    (root / "file").touch()
    os.setxattr(root, "user.one", b"1")
    root.chmod(0o1751)
    os.utime(root, ns=(TIMES[3], TIMES[2]))
    copy_tree(root, target)
    assert stat.S_IMODE(target.stat().st_mode) == 0o1751
    assert target.stat().st_mtime_ns == TIMES[2]
    assert os.getxattr(target, "user.one") == b"1"


@pytest.mark.parametrize("way", ["the file system's", "by reading and writing"])
@pytest.mark.parametrize("size", [1, 70_000, 3 * MIB + 1])
def test_content_is_copied_by_the_kernel_or_by_reading_and_writing(
    root: Path, target: Path, size: int, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "by reading and writing":

        def refuse(*args: object) -> int:
            raise OSError(95, "not supported")

        monkeypatch.setattr(os, "copy_file_range", refuse)
        monkeypatch.setattr(copy.fcntl, "ioctl", refuse)
    (root / "file").write_bytes(os.urandom(size))
    copy_tree(root, target)
    assert (target / "file").read_bytes() == (root / "file").read_bytes()


def test_holes_stay_holes(root: Path, target: Path) -> None:
    with open(root / "sparse", "wb") as file:
        for offset in (5 * MIB, 20 * MIB):
            file.seek(offset)
            file.write(b"data")
        file.truncate(64 * MIB)
    copy_tree(root, target)
    assert (target / "sparse").stat().st_size == 64 * MIB
    assert (target / "sparse").stat().st_blocks <= (root / "sparse").stat().st_blocks
    assert (target / "sparse").read_bytes() == (root / "sparse").read_bytes()


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_the_umask_changes_no_mode(root: Path, target: Path, umask: int) -> None:
    for mode in (0o666, 0o777, 0o400, 0o6755):
        (root / f"{mode:o}").touch()
        (root / f"{mode:o}").chmod(mode)
    before = os.umask(umask)
    try:
        copy_tree(root, target)
    finally:
        os.umask(before)
    assert {name: stat.S_IMODE((target / name).stat().st_mode) for name in os.listdir(target)} == {
        f"{mode:o}": mode for mode in (0o666, 0o777, 0o400, 0o6755)
    }


def test_the_targets_default_access_list_is_not_inherited(root: Path, target: Path) -> None:
    # Version 2; entries of tag, permissions, ID: owner, user 12345, group, mask, others (`linux/posix_acl_xattr.h`).
    acl = struct.pack("<I", 2) + b"".join(
        struct.pack("<HHI", *entry)
        for entry in [(1, 7, 0xFFFFFFFF), (2, 7, 12345), (4, 5, 0xFFFFFFFF), (16, 7, 0xFFFFFFFF), (32, 5, 0xFFFFFFFF)]
    )
    try:
        os.setxattr(target, "system.posix_acl_default", acl)
    except OSError:
        pytest.skip("the file system of the temporary directory has no access lists")
    (root / "dir").mkdir()
    (root / "dir/file").touch()
    copy_tree(root, target)
    assert snapshot(target) == snapshot(root)
    assert os.listxattr(target) == []


def test_sockets_are_copied_as_sockets(root: Path, target: Path) -> None:
    descriptor = os.open(root, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(f"/proc/self/fd/{descriptor}/socket")
    os.close(descriptor)
    copy_tree(root, target)
    assert stat.S_ISSOCK((target / "socket").lstat().st_mode)


def test_an_error_names_the_file_and_its_copy(root: Path, target: Path, nothing_left_open: None) -> None:
    (root / "file").touch()
    (target / "file").touch()
    with pytest.raises(FileExistsError, match="root/file") as caught:
        copy_tree(root, target)
    assert any(str(target) in note for note in caught.value.__notes__)


@needs_root
def test_a_hard_linked_file_with_a_capability(root: Path, target: Path) -> None:
    from tests.trees import CAPABILITY

    (root / "a").write_bytes(b"program")
    os.chown(root / "a", 1000, 1000)
    for name, value in CAPABILITY.items():
        os.setxattr(root / "a", name, value)
    (root / "dir").mkdir()
    os.link(root / "a", root / "dir/b")
    copy_tree(root, target)
    assert snapshot(target) == snapshot(root)
    assert (target / "a").stat().st_nlink == 2


@needs_root
@pytest.mark.parametrize("owner", [(0, 0), (1000, 0), (5, 7)])
def test_the_root_gets_the_owner_of_the_sources_root(root: Path, target: Path, owner: tuple[int, int]) -> None:
    """The target may have another owner: a directory that is made in a setgid directory gets that directory's group."""
    (root / "file").touch()
    os.chown(root, *owner)
    os.chown(target, 1, 1000)
    target.chmod(0o2755)
    copy_tree(root, target)
    status = target.stat()
    assert (status.st_uid, status.st_gid) == owner
    assert snapshot(target) == snapshot(root)


def deep_with_siblings(root: Path) -> None:
    """Make two branches with more levels than directories are kept open, and sibling directories at every depth."""
    for branch in ("one", "two"):
        here = root / branch
        for depth in range(80):
            for name in ("before", "below", "then"):
                (here / name).mkdir(parents=True)
                (here / name / "file").write_text(f"{branch} {depth} {name}")
            here /= "below"


def test_a_deep_tree_with_siblings(root: Path, target: Path, nothing_left_open: None) -> None:
    deep_with_siblings(root)
    copy_tree(root, target)
    assert snapshot(target) == snapshot(root)
    assert compare_trees(target, root) == []
    assert len(compare_trees(target, None)) == 2 + 2 * 80 * 6
