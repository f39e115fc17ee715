"""`ViewPath` does what `pathlib.Path` does on a mounted tree, and never leaves the view."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from layerstore_core.view.tree import TreeView
from tests.across.chains import d, f, link, node, sym
from tests.view.conftest import view_of

LAYERS = (
    [
        d(b"etc", mode=0o755),
        f(b"etc/os-release", b"NAME=x\n", mode=0o644, uid=3, gid=4),
        sym(b"etc/release", b"os-release"),
        sym(b"etc/abs", b"/usr/lib/a.so"),
        sym(b"etc/up", b"../../../../etc/os-release"),
        d(b"usr"),
        d(b"usr/lib"),
        f(b"usr/lib/a.so", b"a"),
        f(b"usr/lib/b.so.1", b"b"),
        link(b"usr/lib/hard", b"usr/lib/a.so"),
        sym(b"lib", b"usr/lib"),
        sym(b"loop-1", b"loop-2"),
        sym(b"loop-2", b"loop-1"),
        sym(b"dangling", b"nowhere"),
        sym(b"through-file", b"etc/os-release/x"),
        node(b"null", b"3", (1, 3)),
        node(b"fifo", b"6"),
        f(b"\xff raw", b"r"),
    ],
    [f(b"usr/lib/c.so", b"c"), f(b"usr/lib/.wh.b.so.1"), f(b"usr/lib/.hidden.so")],
)


@pytest.fixture
def view() -> TreeView:
    return view_of(*LAYERS)


def unpacked(view: TreeView, top: Path) -> Path:
    """Make the directories, files and links of a view below a directory of the host."""
    for path, one in view.walk():
        target = os.path.join(os.fsencode(top), path)
        if stat.S_ISDIR(one.st_mode):
            os.makedirs(target, exist_ok=True)
        elif stat.S_ISLNK(one.st_mode):
            os.symlink(one.linkname, target)
        elif stat.S_ISREG(one.st_mode):
            Path(os.fsdecode(target)).write_bytes(view.open_node(one).read())
    return top


@pytest.mark.parametrize(
    "pattern",
    [
        "*",
        "usr/lib/*.so",
        "**",
        "**/*.so",
        "*/lib/*",
        "lib/*.so",
        "etc/os-release",
        "nowhere",
        "[el]*",
        "**/lib/**/?.so",
    ],
)
def test_glob_finds_what_pathlib_finds(view: TreeView, tmp_path: Path, pattern: str) -> None:
    top = unpacked(view, tmp_path / "top")
    wanted = {str(path.relative_to(top)) for path in top.glob(pattern)} - {"null", "fifo"}
    found = {str(path)[1:] or "." for path in (view / "/").glob(pattern)} - {"null", "fifo"}
    assert found == wanted


def test_rglob_and_walk_find_what_pathlib_and_os_find(view: TreeView, tmp_path: Path) -> None:
    top = unpacked(view, tmp_path / "top")
    assert {str(path)[1:] for path in (view / "usr").rglob("*.so")} == {
        str(path.relative_to(top)) for path in (top / "usr").rglob("*.so")
    }
    walked = {str(here): (set(dirs), set(files) - {"null", "fifo"}) for here, dirs, files in (view / "/").walk()}
    for where, dirs, files in os.walk(top):
        links = {name for name in dirs if os.path.islink(os.path.join(where, name))}
        here = "/" + os.path.relpath(where, top).removeprefix(".")
        assert walked.pop(here) == (set(dirs) - links, set(files) | links)
    assert walked == {}


def test_walk_leaves_out_directories_that_the_caller_removes(view: TreeView) -> None:
    seen = []
    for here, directories, _ in (view / "/").walk():
        seen.append(str(here))
        if "usr" in directories:
            directories.remove("usr")
    assert seen == ["/", "/etc"]


def test_links_are_followed_inside_the_view(view: TreeView) -> None:
    assert (view / "etc" / "release").read_text() == "NAME=x\n"
    assert (view / "etc/abs").read_bytes() == b"a"
    assert (view / "etc/up").read_text() == "NAME=x\n"
    assert (view / "lib/a.so").resolve() == view / "usr/lib/a.so"
    assert (view / "lib/../lib/c.so").resolve() == view / "usr/lib/c.so"
    assert str((view / "../../etc").resolve()) == "/etc"
    assert (view / "etc/release").readlink() == "os-release"


@pytest.mark.parametrize(
    ("path", "number"),
    [
        ("loop-1", errno.ELOOP),
        ("loop-1/x", errno.ELOOP),
        ("dangling", errno.ENOENT),
        ("nowhere/x", errno.ENOENT),
        ("etc/os-release/x", errno.ENOTDIR),
        ("through-file", errno.ENOTDIR),
        ("etc", errno.EISDIR),
        ("null", errno.EINVAL),
        ("usr/lib/b.so.1", errno.ENOENT),
    ],
)
def test_what_cannot_be_read_has_the_error_of_the_kernel_and_the_path(view: TreeView, path: str, number: int) -> None:
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        (view / path).read_bytes()
    assert (caught.value.errno, caught.value.filename) == (number, f"/{path}")


def test_type_tests_follow_links_and_answer_no_for_what_is_not_there(view: TreeView) -> None:
    assert (view / "lib").is_dir()
    assert (view / "lib").is_symlink()
    assert (view / "etc/release").is_file()
    assert not (view / "usr").is_symlink()
    assert not (view / "loop-1").exists()
    assert (view / "loop-1").exists(follow_symlinks=False)
    assert not (view / "nowhere").is_file()


def test_status_has_all_metadata(view: TreeView) -> None:
    status = (view / "etc/release").stat()
    assert stat.S_ISREG(status.st_mode)
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, status.st_size) == (0o644, 3, 4, 7)
    assert status.st_mtime_ns == 1_600_000_000 * 10**9 == status.st_mtime * 10**9
    assert stat.S_ISLNK((view / "etc/release").lstat().st_mode)
    one, other = (view / "usr/lib/a.so").stat(), (view / "usr/lib/hard").stat()
    assert (one.st_ino, one.st_nlink) == (other.st_ino, 2)
    assert (view / "usr/lib/c.so").stat().st_ino != one.st_ino
    assert os.major((view / "null").stat().st_rdev) == 1
    assert (view / "usr").stat().st_nlink == 3


def test_parts_of_a_path(view: TreeView) -> None:
    path = view / "usr//lib/./a.tar.gz"
    assert (str(path), path.name, path.stem, path.suffix) == ("/usr/lib/a.tar.gz", "a.tar.gz", "a.tar", ".gz")
    assert path.parts == ("/", "usr", "lib", "a.tar.gz")
    assert path.parent == view / "usr" / "lib"
    assert (view / "/").parent == view / "/"
    assert path / "/etc" == view / "etc"
    assert (view / ".bashrc").suffix == ""
    assert len({path, view / "usr/lib/a.tar.gz"}) == 1


def test_names_that_are_not_utf_8_are_kept(view: TreeView) -> None:
    (path,) = (view / "/").glob("*raw")
    assert bytes(path) == b"/\xff raw"
    assert path.read_bytes() == b"r"
    assert view / str(path) == path


def test_directory_lists_its_files_sorted(view: TreeView) -> None:
    assert [path.name for path in (view / "lib").iterdir()] == [".hidden.so", "a.so", "c.so", "hard"]
    with pytest.raises(NotADirectoryError):
        list((view / "etc/os-release").iterdir())


def test_only_reading_is_possible(view: TreeView) -> None:
    with pytest.raises(ValueError, match="for reading"):
        (view / "etc/os-release").open("w")  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="relative"):
        list((view / "etc").glob("/x"))
