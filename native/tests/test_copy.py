"""The kernel that copies directories: what it copies, what it leaves, and the whole copy, against its twin."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerstore_core.tree import share
from layerstore_core.tree.copy_tree import copy_tree
from tests.conftest import needs_root
from tests.trees import TIMES, Tree, build, snapshot, trees
from tests.without_kernels import plain_way

kernels = pytest.importorskip("layerstore_native._kernels", reason="the kernels are not built")

MIB = 1 << 20
ALL_WAYS = 3
MANY = 1 << 40
OWNER = os.geteuid(), os.getegid()

Notes = dict[bytes, str]


def copy(root: Path, target: Path, *, ways: int = ALL_WAYS, names: int = MANY, stop: bytes = b"\0") -> Notes:
    """Copy a directory by the kernel; return the kinds of its notes by path."""
    source, into = os.open(root, os.O_RDONLY), os.open(target, os.O_RDONLY)
    before = os.umask(0)
    try:
        (notes, left), _ = kernels.copy_directory(source, into, 0o7000, *OWNER, ways, names, stop)
    finally:
        os.umask(before)
        os.close(source)
        os.close(into)
    assert left <= names
    assert all(more == b"" for _, _, more in notes)
    return {path: chr(kind) for kind, path, _ in notes}


@given(trees(), st.sampled_from([1, 2, 4, 2000]))
def test_the_copy_is_that_of_the_twin(tree: Tree, names: int) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(share, "_NAMES", names)
        patch.setattr(share, "_FIRST_NAMES", names)
        root, plain, target = build(Path(name, "root"), tree), Path(name, "plain"), Path(name, "target")
        plain.mkdir()
        target.mkdir()
        copy_tree(root, target)
        with plain_way():
            copy_tree(root, plain)
        assert snapshot(target) == snapshot(plain) == snapshot(root)


def test_plain_entries_are_copied_and_others_noted(root: Path, target: Path) -> None:
    (root / "d/e").mkdir(parents=True)
    (root / "d/f").write_bytes(b"content")
    (root / "d/l").symlink_to("f")
    os.setxattr(root / "d/f", "user.one", bytes(1000))
    os.utime(root / "d/l", ns=(TIMES[3], TIMES[2]), follow_symlinks=False)
    os.mkfifo(root / "d/e/fifo")
    (root / "a").write_bytes(b"a")
    os.link(root / "a", root / "b")
    (root / "shut").mkdir()
    (root / "shut").chmod(0o055)
    notes = copy(root, target)
    assert notes == {b"a": "o", b"b": "o", b"": "m", b"d/e/fifo": "o", b"d/e": "m", b"shut": "i"}
    found, wanted = snapshot(target), snapshot(root)
    for path in (b"a", b"b", b"d/e/fifo"):
        assert path not in found
        del wanted[path]
    for path in (b"d/e", b"shut"):
        del wanted[path], found[path]
    assert found == wanted


@pytest.mark.parametrize("ways", range(4))
@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 3 * MIB + 1, 40 * MIB])
def test_content_is_copied_in_each_way(root: Path, target: Path, size: int, ways: int) -> None:
    (root / "file").write_bytes(os.urandom(size))
    assert copy(root, target, ways=ways) == {}
    assert (target / "file").read_bytes() == (root / "file").read_bytes()


@pytest.mark.parametrize("ways", range(4))
@pytest.mark.parametrize("end", [b"", b"end"])
def test_holes_stay_holes(root: Path, target: Path, end: bytes, ways: int) -> None:
    with open(root / "sparse", "wb") as file:
        for offset in (0, 5 * MIB, 20 * MIB):
            file.seek(offset)
            file.write(b"data")
        file.truncate(64 * MIB)
        file.seek(64 * MIB)
        file.write(end)
    assert copy(root, target, ways=ways) == {}
    assert (target / "sparse").stat().st_blocks <= (root / "sparse").stat().st_blocks
    assert (target / "sparse").read_bytes() == (root / "sparse").read_bytes()


def test_a_name_that_is_taken_is_left_and_nothing_is_overwritten(root: Path, target: Path) -> None:
    for name in ("file", "dir", "link"):
        (target / name).write_bytes(b"there")
    (root / "file").write_bytes(b"new")
    (root / "dir").mkdir()
    (root / "link").symlink_to("file")
    assert copy(root, target) == {b"file": "o", b"dir": "o", b"link": "o", b"": "m"}
    assert {path.read_bytes() for path in target.iterdir()} == {b"there"}


def test_a_link_in_the_place_of_a_new_file_is_not_followed(root: Path, target: Path, tmp_path: Path) -> None:
    (target / "file").symlink_to(tmp_path / "outside")
    (target / "dir").symlink_to(tmp_path)
    (root / "file").write_bytes(b"new")
    (root / "dir").mkdir()
    (root / "dir/outside").write_bytes(b"new")
    assert copy(root, target) == {b"file": "o", b"dir": "o", b"": "m"}
    assert not (tmp_path / "outside").exists()


@needs_root
def test_a_file_for_which_there_is_no_room_leaves_nothing(root: Path, target: Path) -> None:
    (root / "large").write_bytes(os.urandom(MIB))
    (root / "small").write_bytes(b"small")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", target], check=True)
    try:
        assert copy(root, target) == {b"large": "o", b"": "m"}
        assert os.listdir(target) == ["small"]
    finally:
        subprocess.run(["umount", target], check=True)


def test_the_rest_is_left_after_as_many_names_as_are_allowed(root: Path, target: Path) -> None:
    for name in ("d/one/two", "e/one"):
        (root / name).mkdir(parents=True)
    assert copy(root, target, names=2) == {b"d": "l", b"e": "l"}
    assert sorted(path.name for path in target.rglob("*")) == ["d", "e"]


def test_directories_deeper_than_descriptors_are_kept_are_left(root: Path, target: Path) -> None:
    deep = root / Path(*["d"] * 60)
    deep.mkdir(parents=True)
    [(path, kind)] = copy(root, target).items()
    assert kind == "l"
    assert (target / os.fsdecode(path)).is_dir()
    assert 10 < path.count(b"/") < 40


def test_nothing_is_copied_once_it_is_told_to_stop(root: Path, target: Path) -> None:
    (root / "file").touch()
    assert copy(root, target, stop=b"\1") == {}
    assert os.listdir(target) == []


def test_wrong_arguments_are_refused(root: Path, target: Path) -> None:
    with pytest.raises(ValueError, match="is empty"):
        copy(root, target, stop=b"")
    with pytest.raises(OSError, match="Bad file descriptor"):
        kernels.copy_directory(-1, -1, 0, 0, 0, 0, 1, b"\0")
    file = os.open(root / "file", os.O_CREAT | os.O_WRONLY)
    with pytest.raises(NotADirectoryError):
        kernels.copy_directory(file, file, 0, 0, 0, 0, 1, b"\0")
    os.close(file)


def access_list(named: int) -> bytes:
    """Return an access list: owner, a named user, group, mask, others (`linux/posix_acl_xattr.h`)."""
    no_id = 0xFFFFFFFF
    entries = [(1, 7, no_id), (2, 6, named), (4, 5, no_id), (16, 7, no_id), (32, 4, no_id)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def test_access_lists_and_sockets_are_those_of_the_twin(root: Path, target: Path, tmp_path: Path) -> None:
    """A directory's default access list is not inherited by what is copied into it."""
    try:
        os.setxattr(root, "system.posix_acl_default", access_list(12345))
    except OSError:
        pytest.skip("the file system of the temporary directory has no access lists")
    for name in ("d", "d/e"):
        (root / name).mkdir()
    (root / "d/file").write_bytes(b"content")
    (root / "d/plain").write_bytes(b"content")
    for attribute in ("system.posix_acl_access", "system.posix_acl_default"):
        os.removexattr(root / "d/e", attribute)
    os.removexattr(root / "d/plain", "system.posix_acl_access")
    os.setxattr(root / "d/file", "system.posix_acl_access", access_list(54321))
    (root / "d/file").chmod(0o640)
    descriptor = os.open(root, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(f"/proc/self/fd/{descriptor}/socket")
    os.close(descriptor)
    plain = tmp_path / "plain"
    plain.mkdir()
    copy_tree(root, target)
    with plain_way():
        copy_tree(root, plain)
    assert snapshot(target) == snapshot(plain) == snapshot(root)
    assert os.getxattr(target, "system.posix_acl_default") == access_list(12345)
