"""Access to directories and files below a root, through descriptors."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from layerstore_core.tree.root import Root
from tests.conftest import needs_root

pytestmark = pytest.mark.usefixtures("nothing_left_open")


def test_directories_are_kept_open_by_their_real_path(root: Path) -> None:
    (root / "a/b").mkdir(parents=True)
    (root / "link").symlink_to("a")
    with Root(str(root)) as tree:
        direct = tree.enter(b"a/b")
        assert direct.path == b"a/b"
        assert tree.enter(b"link/b") is direct
        assert tree.enter(b"a/b") is direct
        assert tree.child(tree.enter(b"a"), b"b") is direct
        assert tree.enter(b"").path == b""


def test_missing_directories_are_made_only_with_a_mode(root: Path) -> None:
    (root / "dangling").symlink_to("made/by/link")
    with Root(os.fsencode(root)) as tree:
        with pytest.raises(FileNotFoundError) as caught:
            tree.enter(b"a/b")
        assert caught.value.filename == str(root / "a/b")
        old = os.umask(0o077)
        try:
            tree.enter(b"a/b", create_mode=0o751)
            tree.enter(b"dangling/c", create_mode=0o751)
        finally:
            os.umask(old)
        assert list(tree.made()) == [b"a", b"a/b", b"made", b"made/by", b"made/by/link", b"made/by/link/c"]
    assert stat.S_IMODE((root / "a/b").stat().st_mode) == 0o751
    assert stat.S_IMODE((root / "made/by/link/c").stat().st_mode) == 0o751


@needs_root
def test_made_directories_belong_to_owner_of_made(root: Path) -> None:
    with Root(str(root), owner_of_made=(5, 6)) as tree:
        tree.enter(b"a/b", create_mode=0o755)
    assert [(path.stat().st_uid, path.stat().st_gid) for path in (root / "a", root / "a/b")] == [(5, 6), (5, 6)]


@pytest.mark.parametrize(
    ("name", "code"),
    [
        (b"f", errno.ENOTDIR),
        (b"f/x", errno.ENOTDIR),
        (b"fifo/x", errno.ENOTDIR),
        (b"loop/x", errno.ELOOP),
        (b"to-f/x", errno.ENOTDIR),
        (b"n" * 256, errno.ENAMETOOLONG),
    ],
)
def test_an_obstacle_on_the_path_raises_its_error(name: bytes, code: int, root: Path) -> None:
    (root / "f").touch()
    os.mkfifo(root / "fifo")
    (root / "loop").symlink_to("loop")
    (root / "to-f").symlink_to("f")
    with Root(str(root)) as tree, pytest.raises(OSError, match=os.strerror(code)) as caught:
        tree.enter(name, create_mode=0o755)
    assert caught.value.errno == code
    assert str(caught.value.filename).startswith(str(root))


def test_dots_stop_at_the_root(root: Path) -> None:
    (root / "a/b").mkdir(parents=True)
    with Root(str(root)) as tree:
        for _ in range(2):
            assert tree.enter(b"..").path == b""
            assert tree.enter(b"a/b/../..").path == b""
            assert tree.enter(b"a/../../..").path == b""
            assert tree.enter(b"a/../../a/./b/.").path == b"a/b"
            assert os.path.samestat(os.fstat(tree.enter(b"a/../..").fd), root.stat())


def test_times_are_restored_with_keep_times(root: Path) -> None:
    (root / "d").mkdir()
    os.utime(root / "d", ns=(1, 5))
    os.utime(root, ns=(1, 7))
    for keep, expected in ((True, (7, 5)), (False, None)):
        with Root(str(root), keep_times=keep) as tree:
            for number in range(100):  # so many that the first is closed, and read_or_errno again
                os.mkdir(b"%d-%d" % (keep, number), dir_fd=tree.enter(b"d").fd)
                tree.enter(b"d/%d-%d" % (keep, number))
            os.mkdir(b"%d" % keep, dir_fd=tree.enter(b"").fd)
        found = root.stat().st_mtime_ns, (root / "d").stat().st_mtime_ns
        assert found == expected if keep else found[0] > 7 and found[1] > 5


def test_few_directories_are_open_at_a_time_and_pinned_ones_stay_open(root: Path) -> None:
    names = [b"%d" % number for number in range(300)]
    for name in names:
        os.mkdir(os.path.join(os.fsencode(root), name))
    with Root(str(root)) as tree:
        first = tree.enter(names[0])
        with tree.pinned(first):
            for name in names[1:]:
                tree.enter(name)
            assert len(os.listdir("/proc/self/fd")) < 150
            assert os.path.samestat(os.fstat(first.fd), (root / "0").stat())
            assert tree.enter(names[0]) is first


def test_forget_closes_everything_below_and_sets_no_times(root: Path) -> None:
    (root / "a/b").mkdir(parents=True)
    (root / "ab").mkdir()
    with Root(str(root), keep_times=True) as tree:
        a, ab = tree.enter(b"a"), tree.enter(b"ab")
        tree.enter(b"a/b")
        tree.forget(b"a")
        (root / "a/b").rmdir()
        (root / "a").rmdir()
        (root / "a").symlink_to("ab")
        assert tree.enter(b"a") is ab
        assert a.restore is None


def test_all_directories_are_closed_even_if_times_cannot_be_set(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        (root / name).mkdir()
    tree = Root(str(root), keep_times=True)
    for name in (b"a", b"b", b"c"):
        tree.enter(name)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "read-only")

    monkeypatch.setattr(os, "utime", refuse)
    with pytest.raises(OSError, match="read-only"):
        tree.close()
    tree.close()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (b"d/f", b"content"),
        (b"./d//f", b"content"),
        (b"/d/f", b"content"),
        (b"absent/../d/f", b"content"),
        (b"link", b"content"),
        (b"absolute", b"content"),
        (b"dirlink/f", b"content"),
        (b"dirlink/up", b"top"),
        (b"chain", b"content"),
    ],
)
def test_files_are_opened_by_their_names_in_a_tar(name: bytes, content: bytes, root: Path) -> None:
    (root / "d").mkdir()
    (root / "d/f").write_bytes(b"content")
    (root / "top").write_bytes(b"top")
    (root / "link").symlink_to("d/f")
    (root / "absolute").symlink_to("/d/f")
    (root / "dirlink").symlink_to("d")
    (root / "d/up").symlink_to("../top")
    (root / "chain").symlink_to("dirlink/../link")
    with Root(str(root)) as tree, os.fdopen(tree.open_file(name), "rb") as file:
        assert file.read() == content


@pytest.mark.parametrize("name", [b"absent", b"d", b"fifo", b"dangling", b"", b".", b"..", b"../x", b"to-dir"])
def test_opening_anything_but_a_regular_file_raises_file_not_found(name: bytes, root: Path) -> None:
    (root / "d").mkdir()
    os.mkfifo(root / "fifo")
    (root / "dangling").symlink_to("absent")
    (root / "to-dir").symlink_to("d/..")
    (root.parent / "x").write_bytes(b"outside")
    with Root(str(root)) as tree, pytest.raises(FileNotFoundError):
        tree.open_file(name)


def test_other_errors_of_opening_a_file_are_raised(root: Path) -> None:
    (root / "f").touch()
    (root / "loop").symlink_to("loop")
    with Root(str(root)) as tree:
        with pytest.raises(NotADirectoryError):
            tree.open_file(b"f/x")
        with pytest.raises(OSError, match="symbolic links") as caught:
            tree.open_file(b"loop")
    assert caught.value.errno == errno.ELOOP


@pytest.mark.parametrize("kind", ["absent", "file"])
def test_a_root_that_is_missing_or_a_file_is_an_error(kind: str, tmp_path: Path) -> None:
    if kind == "file":
        (tmp_path / kind).touch()
    with pytest.raises((FileNotFoundError, NotADirectoryError), match=kind):
        Root(str(tmp_path / kind))


def read_or_errno(tree: Root, name: bytes) -> bytes | int:
    """Return the content of a file, or the errno of the error."""
    try:
        fd = tree.open_file(name)
    except OSError as error:
        return error.errno or 0
    try:
        return os.read(fd, 100)
    finally:
        os.close(fd)


NAMES = [
    *(b"a/b/f", b"a/b/g", b"./a/b/f", b"./a/b/g", b"/a/b/f", b"/a/b/g", b"a/b/../f", b"a/b/f/", b"a/b/.", b"a/b/.."),
    *(b"a//b/f", b"a//b/g", b"a/./b/f", b"a/./b/g", b"a/link/f", b"a/link/g", b"a/b/link", b"a/b/out", b"a/b/none"),
    *(
        b"a/b/fifo",
        b"a/b/d",
        b"f",
        b"./f",
        b"/f",
        b"a/f",
        b"",
        b".",
        b"/",
        b"../f",
        b"a/../../f",
        b"x/y",
        b"f/x",
        b"f/y",
    ),
]


@pytest.mark.parametrize("first", NAMES)
def test_opening_a_file_does_not_depend_on_the_file_opened_before(first: bytes, root: Path) -> None:
    """`Root` remembers the directory of the last file."""
    (root / "a/b/d").mkdir(parents=True)
    for path in ("a/b/f", "a/b/g", "f", "a/f"):
        (root / path).write_bytes(path.encode())
    (root / "a/link").symlink_to("b")
    (root / "a/b/link").symlink_to("../f")
    (root / "a/b/out").symlink_to("../../../f")
    os.mkfifo(root / "a/b/fifo")
    for name in NAMES:
        with Root(str(root)) as fresh:
            alone = read_or_errno(fresh, name)
        with Root(str(root)) as tree:
            read_or_errno(tree, first)
            read_or_errno(tree, first)
            assert read_or_errno(tree, name) == alone, name


def test_open_file_reopens_a_directory_that_was_closed(root: Path) -> None:
    for number in range(100):
        (root / f"d{number}").mkdir()
        (root / f"d{number}/f").write_bytes(b"%d" % number)
    with Root(str(root)) as tree:
        for number in [0, 0, *range(1, 100), 0, 0]:
            assert read_or_errno(tree, b"d%d/f" % number) == b"%d" % number
        assert read_or_errno(tree, b"d5/f") == b"5"
        for number in range(6, 90):
            tree.enter(b"d%d" % number)  # which closes d5
        assert read_or_errno(tree, b"d5/f") == b"5"
        tree.forget(b"d5")
        (root / "d5/f").unlink()
        (root / "d5").rmdir()
        assert read_or_errno(tree, b"d5/f") == errno.ENOENT
