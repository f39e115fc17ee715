"""No link below a guarded root is followed, whatever is replaced by one, and at any moment."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from layerstore_core.base import inside
from layerstore_core.base.atomic import exchange_names, make_directory
from layerstore_core.errors import BadRecord
from layerstore_core.tree.copy_tree import copy_tree
from layerstore_core.tree.remove import remove_tree
from layerstore_core.tree.root import Root
from layerstore_core.tree.walk import TreeWalk


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    path = tmp_path / "victim"
    (path / "b").mkdir(parents=True)
    (path / "b" / "file").write_text("precious")
    return path


@pytest.fixture
def root(tmp_path: Path, victim: Path) -> Path:
    path = tmp_path / "root"
    (path / "a" / "b").mkdir(parents=True)
    (path / "a" / "b" / "file").write_text("ours")
    inside.guard(path)
    return path


OPERATIONS: dict[str, Callable[[Path], object]] = {
    "read": lambda path: inside.read(path / "file", 100),
    "write": lambda path: inside.write(path / "file", b"new", 0o777),
    "make a file": lambda path: inside.write(path / "new", b"new", 0o777, new=True),
    "open a file": lambda path: open(path / "file", "r+b", opener=inside.opener).close(),
    "status": lambda path: inside.status(path / "file"),
    "names": inside.names,
    "directories": inside.directory_names,
    "has entries": inside.has_entries,
    "make a directory": lambda path: inside.mkdir(path / "new", 0o777),
    "make directories": lambda path: make_directory(path / "new" / "other", 0o777),
    "unlink": lambda path: inside.unlink(path / "file"),
    "rmdir": lambda path: inside.rmdir(path / "file"),
    "rename away": lambda path: inside.rename(path / "file", path.parent.parent / "moved"),
    "rename to": lambda path: inside.rename(path.parent.parent / "spare", path / "file"),
    "exchange": lambda path: exchange_names(path.parent.parent / "spare", path / "file"),
    "flush": lambda path: inside.flush(path / "file"),
    "temporary file": lambda path: inside.temporary_file(path).close(),
    "remove": lambda path: remove_tree(str(path / "file")),
    "unpack": lambda path: Root(str(path)).close(),
    "walk": lambda path: TreeWalk(path).close(),
    "copy": lambda path: copy_tree(path, path.parent.parent / "copy"),
}


def in_directory(root: Path, name: str, call: Callable[[inside.Directory, str], object]) -> object:
    with inside.Directory(root) as directory:
        return call(directory, name)


OPERATIONS |= {
    "open, then read": lambda path: in_directory(path, "file", lambda opened, name: opened.read(name, 100)),
    "read below": lambda path: in_directory(path.parents[1], "a/b/file", lambda opened, name: opened.read(name, 100)),
    "status below": lambda path: in_directory(path.parents[1], "a/b/file", inside.Directory.status),
}


def state(path: Path) -> list[tuple[str, int, str]]:
    return [
        (str(one), stat.S_IMODE(one.lstat().st_mode), one.read_text() if one.is_file() else "")
        for one in sorted([path, *path.rglob("*")])
    ]


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("planted", ["a", "a/b"])
def test_no_link_among_the_parents_of_a_path_is_followed(
    root: Path, victim: Path, planted: str, operation: str
) -> None:
    (root / "spare").write_text("spare")
    (root / "copy").mkdir()
    (root / planted).rename(root / "aside")
    (root / planted).symlink_to(victim if planted == "a" else victim / "b")
    before = state(victim)
    with pytest.raises(BadRecord, match=f"{root / planted}: it is a symbolic link, not a directory"):
        OPERATIONS[operation](root / "a" / "b")
    assert state(victim) == before


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("wrong", ["missing directory", "a file for a directory", "a directory for a file"])
def test_a_referenced_error_keeps_no_descriptor_open(root: Path, operation: str, wrong: str) -> None:
    """Otherwise a file system could not be unmounted while a program has the error."""
    (root / "spare").write_text("spare")
    (root / "copy").mkdir()
    (root / "a" / "b" / "file").unlink()
    match wrong:
        case "missing directory":
            (root / "a" / "b").rmdir()
        case "a file for a directory":
            (root / "a" / "b").rmdir()
            (root / "a" / "b").write_text("in the way")
        case _:
            (root / "a" / "b" / "file").mkdir()
    open_before = os.listdir("/proc/self/fd")
    kept = []
    try:
        OPERATIONS[operation](root / "a" / "b")
    except (BadRecord, OSError) as error:
        kept.append(error)
    assert os.listdir("/proc/self/fd") == open_before


@pytest.mark.parametrize("operation", [name for name in OPERATIONS if name != "rmdir"])
def test_no_link_is_followed_that_replaces_a_directory_between_two_steps(
    root: Path, victim: Path, operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directory is replaced by a link just before one `open` of a component: before each of them in turn."""
    real = os.open
    (root / "spare").write_text("spare")
    before = state(victim)
    for step in range(8):
        calls = 0

        def swap(path, *args, step=step, **kwargs):
            nonlocal calls
            calls += 1
            if calls == step + 1 and (root / "a" / "b").is_dir() and not (root / "a" / "b").is_symlink():
                os.rename(root / "a" / "b", root / "aside")
                os.symlink(victim / "b", root / "a" / "b")
            return real(path, *args, **kwargs)

        (root / "copy").mkdir(exist_ok=True)
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", swap)
            try:
                OPERATIONS[operation](root / "a" / "b")
            except (BadRecord, OSError):
                pass
        assert state(victim) == before
        if (root / "aside").is_dir():
            (root / "a" / "b").unlink()
            (root / "aside").rename(root / "a" / "b")
        for name in ("file", "new"):
            remove_tree(str(root / "a" / "b" / name))
        (root / "a" / "b" / "file").write_text("ours")
        (root / "spare").write_text("spare")
        remove_tree(str(root / "copy"))


@pytest.mark.parametrize("kind", ["symbolic link", "FIFO", "directory", "socket"])
def test_only_regular_files_are_read_and_written(root: Path, victim: Path, kind: str) -> None:
    path = root / "a" / "b" / "file"
    path.unlink()
    if kind == "symbolic link":
        path.symlink_to(victim / "b" / "file")
    elif kind == "FIFO":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        os.mknod(path, stat.S_IFSOCK | 0o600)
    for operation in ("read", "write", "open a file"):
        with pytest.raises(BadRecord, match=f"{path}: it is a {kind}, not a regular file"):
            OPERATIONS[operation](root / "a" / "b")
    assert (victim / "b" / "file").read_text() == "precious"


def test_a_file_with_another_hard_link_is_not_written_in_place(root: Path, victim: Path) -> None:
    path = root / "a" / "b" / "file"
    path.unlink()
    path.hardlink_to(victim / "b" / "file")
    assert inside.read(path, 100) == b"precious"
    with pytest.raises(BadRecord, match="it has another hard link"):
        inside.write(path, b"new", 0o777)
    assert (victim / "b" / "file").read_text() == "precious"


def test_a_link_itself_can_be_removed_and_replaced(root: Path, victim: Path) -> None:
    for path in (root / "one", root / "two"):
        path.symlink_to(victim)
    inside.unlink(root / "one")
    remove_tree(str(root / "two"))
    assert not (root / "one").is_symlink()
    assert not (root / "two").is_symlink()
    assert (victim / "b" / "file").read_text() == "precious"


def test_the_path_of_the_root_itself_may_go_through_links(tmp_path: Path, root: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    inside.guard(tmp_path / "link")
    assert inside.read(tmp_path / "link" / "a" / "b" / "file", 100) == b"ours"
    (root / "b").symlink_to("a/b")
    for path in (tmp_path / "link" / "b" / "file", root / "b" / "file"):
        with pytest.raises(BadRecord, match="symbolic link"):
            inside.read(path, 100)


def test_a_path_with_two_dots_is_refused(root: Path) -> None:
    for path in (root / "a" / ".." / ".." / "victim" / "b" / "file", root / ".." / "victim" / "b" / "file"):
        with pytest.raises(BadRecord, match=r"must not have .\.\.. in it"):
            inside.read(path, 100)


def test_files_of_an_open_directory_are_read_as_by_their_paths(root: Path) -> None:
    with inside.Directory(root / "a") as directory, inside.Directory(root / "none") as missing:
        assert (directory.names(), missing.names()) == (["b"], [])
        assert directory.read("b/file", 4) == b"ours"
        assert directory.status("b").st_ino == inside.status(root / "a" / "b").st_ino
        with pytest.raises(BadRecord, match="longer than 3 bytes"):
            directory.read("b/file", 3)
        with pytest.raises(BadRecord, match=r"must not have .\.\.. in it"):
            directory.read("../../victim/b/file", 100)
        for name in ("none", "b/none", "none/file"):
            with pytest.raises(FileNotFoundError) as caught:
                directory.read(name, 1)
            assert caught.value.filename == str(root / "a" / name.removesuffix("/file"))
        with pytest.raises(FileNotFoundError) as caught:
            missing.status("file")
        assert caught.value.filename == str(root / "none" / "file")


def test_links_are_followed_outside_of_guarded_roots(tmp_path: Path, victim: Path) -> None:
    (tmp_path / "link").symlink_to(victim)
    assert inside.read(tmp_path / "link" / "b" / "file", 100) == b"precious"
    inside.open_directory(tmp_path / "link").close()


def test_a_file_that_is_longer_than_the_limit_is_refused(root: Path) -> None:
    assert inside.read(root / "a" / "b" / "file", 4) == b"ours"
    with pytest.raises(BadRecord, match="longer than 3 bytes"):
        inside.read(root / "a" / "b" / "file", 3)


def test_errors_have_the_whole_path(root: Path) -> None:
    for call in (
        lambda: inside.read(root / "a" / "none", 1),
        lambda: inside.status(root / "a" / "none"),
        lambda: inside.unlink(root / "a" / "none"),
        lambda: inside.open_directory(root / "a" / "none"),
        lambda: inside.rename(root / "a" / "none", root / "b"),
    ):
        with pytest.raises(FileNotFoundError) as caught:
            call()
        assert caught.value.filename == str(root / "a" / "none")
