"""Copies of trees, with the kernel and without: content, holes, hard links, metadata, deep trees, errors."""

from __future__ import annotations

import os
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given

from layerstore_core.base.threads import rest
from layerstore_core.diff.compare_trees import compare_trees
from layerstore_core.tree import copy, share
from layerstore_core.tree.copy_tree import copy_tree
from tests.conftest import needs_root
from tests.trees import TIMES, Tree, build, snapshot, trees

MIB = 1 << 20

pytestmark = pytest.mark.usefixtures("each_engine")


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
def test_content_is_copied_by_the_file_system_or_by_reading_and_writing(
    root: Path, target: Path, size: int, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel has the same test in `native/tests/test_copy.py`."""
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


@pytest.fixture
def large(root: Path) -> Path:
    """Make a tree of some hundred files, with every kind in every directory, and hard links across directories."""
    for top in range(6):
        for below in range(6):
            directory = root / f"d{top}" / f"\udcff{below}"
            directory.mkdir(parents=True)
            for number in range(15):
                (directory / f"f{number}").write_bytes(b"%d" % number * number)
            (directory / "f3").chmod(0o4755)
            os.setxattr(directory / "f4", "user.one", b"1")
            os.link(directory / "f0", directory / "again")
            os.link(root / "d0" / "\udcff0" / "f1", directory / "everywhere")
            (directory / "link").symlink_to("f1")
            os.mkfifo(directory / "fifo")
            (directory / "empty").mkdir(mode=0o1755)
            os.setxattr(directory / "empty", "user.two", b"2")
            if os.geteuid() == 0:
                (directory / "shut" / "below").mkdir(parents=True)
                (directory / "shut").chmod(0o055)
            for name in ("f5", "empty", "."):
                os.utime(directory / name, ns=(TIMES[3], TIMES[2] + top))
        os.utime(root / f"d{top}", ns=(TIMES[3], TIMES[2] + top))
    return root


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a kernel leave the rest after a few names, so that threads share small trees too."""
    monkeypatch.setattr(share, "_NAMES", 3)
    monkeypatch.setattr(share, "_FIRST_NAMES", 1)


def test_a_copy_in_many_parts_equals_its_source(
    large: Path, target: Path, small_parts: None, nothing_left_open: None
) -> None:
    copy_tree(large, target)
    assert snapshot(target) == snapshot(large)
    assert target.stat().st_mtime_ns == large.stat().st_mtime_ns


AS_A_USER = """
import sys
from layerstore_core.tree import share
from layerstore_core.tree.copy_tree import copy_tree
share._NAMES = 3
copy_tree(sys.argv[1], sys.argv[2])
"""


@needs_root
def test_directories_whose_mode_denies_access_are_copied_by_an_ordinary_user(large: Path, target: Path) -> None:
    """An ordinary user copies files of others that he may read, and owns the copies."""
    deep = large / "d0" / Path(*("deep" for _ in range(60)))
    (deep / "bottom").mkdir(parents=True)
    (deep.parent / "sibling").mkdir()
    for directory, _, _ in os.walk(large):
        if Path(directory) != large:
            os.chmod(directory, 0o055)
    for above in large.parents:
        if above.stat().st_uid == os.geteuid() and not above.stat().st_mode & 1 and above != Path("/"):
            above.chmod(0o711)
    os.chown(target, 65534, 65534)
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable, "-c", AS_A_USER]
    checkout = Path(__file__).resolve().parents[2]
    done = subprocess.run([*command, large, target], capture_output=True, text=True, check=False, cwd=checkout)
    assert (done.returncode, done.stderr) == (0, "")
    for directory, below, _ in os.walk(target):
        assert {stat.S_IMODE(Path(directory, name).stat().st_mode) for name in below} <= {0o055}
    times = {
        path.relative_to(top): path.stat().st_mtime_ns
        for top in (large, target)
        for path in top.rglob("*")
        if path.is_dir()
    }
    assert len(times) == 6 + 4 * 36 + 60 + 2
    for path, mtime in times.items():
        assert (large / path).stat().st_mtime_ns == mtime
    assert sorted(os.listdir(target / "d5" / "\udcff5")) == sorted(os.listdir(large / "d5" / "\udcff5"))


@needs_root
def test_a_full_file_system_is_an_error_that_names_a_file(large: Path, target: Path, nothing_left_open: None) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nr_inodes=300", "tmpfs", target], check=True)
    try:
        with pytest.raises(OSError, match=rf"No space left on device: '{large}/d\d/") as caught:
            copy_tree(large, target)
        assert any(str(target) in note for note in caught.value.__notes__)
        del caught
    finally:
        subprocess.run(["umount", target], check=True)


def test_an_error_with_a_directorys_metadata_is_raised(
    large: Path, target: Path, monkeypatch: pytest.MonkeyPatch, nothing_left_open: None
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    (large / "d0" / "own").mkdir()
    os.link(large / "d1" / "\udcff1" / "f1", large / "d0" / "own" / "linked")  # the kernel leaves this directory
    os.setxattr(large / "d0" / "own", "user.one", b"1")
    monkeypatch.setattr(copy, "set_xattr", refuse)
    for path in large.rglob("f4"):
        path.unlink()
    with pytest.raises(OSError, match=rf"No space left on device: '{large}/d\d/.*(empty|own)'") as caught:
        copy_tree(large, target)
    assert any(str(target) in note for note in caught.value.__notes__)


def test_after_an_interrupt_no_thread_is_at_work(
    large: Path, target: Path, small_parts: None, monkeypatch: pytest.MonkeyPatch, nothing_left_open: None
) -> None:
    """The target is removed after an interrupt, so nothing may be made in it."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(copy.Copier, "_link", interrupt)
    with pytest.raises(KeyboardInterrupt):
        copy_tree(large, target)
    before = snapshot(target)
    rest()
    assert not [thread for thread in threading.enumerate() if thread.name == "layerstore-pool"]
    assert snapshot(target) == before
