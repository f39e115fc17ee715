"""Removal of trees of any shape, and of nothing outside them."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from layerstore_core.tree.remove import remove_tree
from tests.conftest import needs_root

pytestmark = pytest.mark.usefixtures("nothing_left_open")


def test_a_missing_name_is_no_error(tmp_path: Path) -> None:
    remove_tree(str(tmp_path / "absent"))
    remove_tree(b"absent/deeper", dir_fd=None)


def test_files_of_every_type_are_removed_and_no_link_is_followed(root: Path, canary: Path) -> None:
    (root / "d/e").mkdir(parents=True)
    (root / "d/f").write_text("x")
    (root / "d/link").symlink_to(canary)
    (root / "d/dangling").symlink_to("nowhere")
    os.mkfifo(root / "d/fifo")
    os.link(canary.parent / "root/d/f", root / "d/e/hard")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(os.path.relpath(root / "d/socket"))
    (root / os.fsdecode(b"d/\xff\n\t*")).write_text("x")
    (root / "kept").write_text("x")
    remove_tree(str(root / "d"))
    assert [path.name for path in root.iterdir()] == ["kept"]


@pytest.mark.parametrize("kind", ["file", "link", "directory", "link to directory"])
def test_the_name_itself_may_be_of_any_type(kind: str, root: Path, canary: Path) -> None:
    path = root / "x"
    {
        "file": lambda: path.write_text("x"),
        "link": lambda: path.symlink_to(canary / "file"),
        "directory": path.mkdir,
        "link to directory": lambda: path.symlink_to(canary),
    }[kind]()
    remove_tree(os.fsencode(path))
    assert not os.path.lexists(path)


def test_a_name_relative_to_a_descriptor(root: Path) -> None:
    (root / "a/b").mkdir(parents=True)
    fd = os.open(root, os.O_RDONLY)
    try:
        remove_tree(b"a", dir_fd=fd)
    finally:
        os.close(fd)
    assert list(root.iterdir()) == []


def test_a_tree_deeper_than_paths_descriptors_and_recursion_allow(root: Path) -> None:
    top = os.open(root, os.O_RDONLY)
    fd = os.dup(top)
    try:
        for _ in range(1200):
            os.mkdir(b"directory", dir_fd=fd)
            below = os.open(b"directory", os.O_RDONLY, dir_fd=fd)
            os.close(os.open(b"file", os.O_CREAT, dir_fd=fd))
            os.close(fd)
            fd = below
        remove_tree(b"directory", dir_fd=top)
    finally:
        os.close(fd)
        os.close(top)
    assert [path.name for path in root.iterdir()] == ["file"]


def test_a_directory_with_many_directories(root: Path) -> None:
    for number in range(500):
        (root / f"d/{number}").mkdir(parents=True)
        (root / f"d/{number}/f").touch()
    remove_tree(str(root / "d"))
    assert list(root.iterdir()) == []


REMOVE = "import sys; from layerstore_core.tree.remove import remove_tree; remove_tree(sys.argv[1])"


@needs_root
@pytest.mark.parametrize("mode", [0, 0o500, 0o300, 0o600])
def test_directories_without_permissions_as_an_ordinary_user(mode: int, root: Path) -> None:
    for path in (root / "d/e", root / "d"):
        path.mkdir(parents=True, exist_ok=True)
        (path / "f").touch()
    for path in (*sorted(root.rglob("*"), reverse=True), root):
        os.chown(path, 65534, 65534)
    for path in (root / "d/e", root / "d"):
        os.chmod(path, mode)
    for path in root.parents:
        if path.stat().st_uid == os.geteuid() and not path.stat().st_mode & 1 and path != Path("/"):
            os.chmod(path, 0o711)
    command = ["setpriv", "--reuid=65534", "--clear-groups", sys.executable, "-c", REMOVE, root / "d"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert list(root.iterdir()) == []


def test_an_error_names_the_file_that_could_not_be_removed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "d/e").mkdir(parents=True)
    (root / "d/e/f").touch()
    unlink = os.unlink

    def refuse(name: bytes, **options: int) -> None:
        if name == b"f":
            raise PermissionError(errno.EPERM, "immutable", name)
        unlink(name, **options)

    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(PermissionError) as caught:
        remove_tree(str(root / "d"))
    assert caught.value.filename == b"f"
    assert caught.value.__notes__ == [f"while removing {root / 'd'}"]


def test_the_way_up_from_a_directory_moved_meanwhile_is_not_followed(
    root: Path, canary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While `d/e` is being emptied it is moved elsewhere: its `..` is then no directory of the tree."""
    (root / "d/e/inner").mkdir(parents=True)
    (root / "elsewhere").mkdir()
    (root / "elsewhere/inner").mkdir()
    rmdir = os.rmdir

    def move_first(name: bytes, **options: int) -> None:
        rmdir(name, **options)
        if name == b"inner":
            os.rename(root / "d/e", root / "elsewhere/e")

    monkeypatch.setattr(os, "rmdir", move_first)
    with pytest.raises(OSError, match="moved") as caught:
        remove_tree(str(root / "d"))
    assert caught.value.errno == errno.ESTALE
    assert (root / "elsewhere/inner").is_dir()


@needs_root
@pytest.mark.parametrize("place", ["here", "a/b/here"])
def test_what_is_mounted_in_the_tree_is_not_deleted(place: str, root: Path, canary: Path) -> None:
    tree = root / "tree"
    (tree / place).mkdir(parents=True)
    # A bind mount of the same file system: the device numbers are the same.
    subprocess.run(["mount", "--bind", canary, tree / place], check=True)
    try:
        with pytest.raises(OSError, match="mounted there, and is not removed; unmount it") as caught:
            remove_tree(str(tree))
    finally:
        subprocess.run(["umount", tree / place], check=True)
    assert caught.value.errno == errno.EBUSY
    assert caught.value.filename == str(tree / place)
    remove_tree(str(tree))
    assert list(root.iterdir()) == []


@needs_root
def test_a_tree_that_is_a_mount_keeps_its_files(root: Path, canary: Path) -> None:
    (root / "tree").mkdir()
    subprocess.run(["mount", "--bind", canary, root / "tree"], check=True)
    try:
        with pytest.raises(OSError, match="mounted there") as caught:
            remove_tree(str(root / "tree"), called="the layer")
    finally:
        subprocess.run(["umount", root / "tree"], check=True)
    assert caught.value.filename == "the layer"


@needs_root
def test_a_file_that_is_a_mount_point_is_named(root: Path, canary: Path) -> None:
    (root / "tree/etc").mkdir(parents=True)
    (root / "tree/etc/hosts").touch()
    subprocess.run(["mount", "--bind", canary / "file", root / "tree/etc/hosts"], check=True)
    try:
        with pytest.raises(OSError, match="mounted there") as caught:
            remove_tree(str(root / "tree"))
    finally:
        subprocess.run(["umount", root / "tree/etc/hosts"], check=True)
    assert caught.value.filename == str(root / "tree/etc/hosts")
