"""The changes in a snapshot from btrfs's records: the same as those of comparing all files, without reading all."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from layerstore_btrfs import ioctl, subvolumes
from layerstore_btrfs.changes import changes_since_snapshot, touched_since_snapshot

from layerstore_core import compare_trees

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_kernel]


class Pair:
    """A subvolume, and the snapshot of it that is edited."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.lower = home / "lower"
        self.upper = home / "upper"
        with subvolumes.opened(home) as directory:
            ioctl.subvol_create(directory, b"lower")

    def snapshot(self) -> None:
        with subvolumes.opened(self.home) as directory:
            subvolumes.snapshot(self.lower, directory, b"upper")

    def changes(self):
        """Return the changes from btrfs's records, after checking that comparing all files finds the same."""
        found = changes_since_snapshot(self.upper, self.lower)
        assert found == compare_trees(self.upper, self.lower)
        return [str(change) for change in found]

    def touched(self):
        return touched_since_snapshot(self.upper, self.lower)

    def remove(self) -> None:
        with subvolumes.opened(self.home) as directory:
            for name in (b"upper", b"lower"):
                subvolumes.delete(directory, name)


@pytest.fixture
def pair(home):
    pair = Pair(home)
    yield pair
    pair.remove()


def fill(root: Path) -> None:
    for name in ("a", "a/b", "a/b/c", "d", "empty"):
        (root / name).mkdir()
    for name in ("f", "a/f", "a/b/f", "a/b/c/f", "d/f"):
        (root / name).write_text(name * 10)
        os.link(root / name, root / (name + "-linked"))
    (root / "big").write_bytes(bytes(range(256)) * 1024)
    (root / "a/link").symlink_to("f")
    os.mkfifo(root / "d/fifo")
    os.setxattr(root / "a/f", "user.one", b"1")
    os.mkdir(os.fsencode(root) + b"/\xff\xfe")
    Path(os.fsdecode(os.fsencode(root) + b"/\xff\xfe/\xfd")).write_text("not UTF-8")


def edit(name, change):
    def run(root: Path) -> None:
        change(root / name if name else root)

    return run


EDITS = {
    "nothing": (lambda root: None, []),
    "content": (lambda root: (root / "big").write_text("x"), ["C /big"]),
    "content in place": (
        lambda root: pwrite_keeping_times(root / "big", b"y", 70_000),
        ["C /big"],
    ),
    "mode": (lambda root: (root / "a/b/c/f").chmod(0o600),
             [*map("C /".__add__, ("a", "a/b", "a/b/c", "a/b/c/f", "a/b/c/f-linked"))]),
    "xattr": (lambda root: os.setxattr(root / "a/f", "user.one", b"2"), ["C /a", "C /a/f", "C /a/f-linked"]),
    "xattr removed": (lambda root: os.removexattr(root / "a/f", "user.one"), ["C /a", "C /a/f", "C /a/f-linked"]),
    "xattr of the root": (lambda root: os.setxattr(root, "user.x", b"2"), ["C /"]),
    "deletion": (lambda root: (root / "big").unlink(), ["D /big"]),
    "deletion of a tree": (lambda root: shutil.rmtree(root / "a"), ["D /a"]),
    "one name less": (lambda root: (root / "d/f-linked").unlink(), ["C /d", "D /d/f-linked"]),
    "one name more": (lambda root: os.link(root / "big", root / "big2"), ["C /big", "A /big2"]),
    "added directory": (lambda root: (root / "n/m").mkdir(parents=True), ["A /n", "A /n/m"]),
    "file becomes directory": (lambda root: ((root / "big").unlink(), (root / "big").mkdir()), ["C /big"]),
    "a temporary file": (lambda root: ((root / "d/t").touch(), (root / "d/t").unlink()), []),
    "renamed file": (lambda root: (root / "big").rename(root / "large"), ["D /big", "A /large"]),
    "renamed directory": (
        lambda root: (root / "a/b").rename(root / "moved"),
        ["C /a", "D /a/b", *map("A /moved".__add__, ("", "/c", "/c/f", "/c/f-linked", "/f", "/f-linked"))],
    ),
    "directory moved over another": (
        lambda root: (shutil.rmtree(root / "d"), (root / "a/b").rename(root / "d")),
        ["C /a", "D /a/b", "C /d", "A /d/c", "A /d/c/f", "A /d/c/f-linked", "C /d/f", "C /d/f-linked", "D /d/fifo"],
    ),
    "names that are not UTF-8": (
        lambda root: Path(os.fsdecode(os.fsencode(root) + b"/\xff\xfe/\xfd")).write_text("changed"),
        ["C /\udcff\udcfe", "C /\udcff\udcfe/\udcfd"],
    ),
    "replaced by the same": (
        lambda root: replace_by_copy(root / "big"),
        [],
    ),
}  # fmt: skip


def pwrite_keeping_times(path: Path, data: bytes, offset: int) -> None:
    before = path.stat()
    with open(path, "r+b") as file:
        os.pwrite(file.fileno(), data, offset)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace_by_copy(path: Path) -> None:
    copy = path.with_name("copy")
    shutil.copy2(path, copy)
    copy.rename(path)


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_is_found_as_by_comparing_all_files(pair, name):
    change, expected = EDITS[name]
    fill(pair.lower)
    pair.snapshot()
    change(pair.upper)
    assert pair.changes() == expected


def test_hard_links_of_moved_files_are_reported_with_the_names_that_stayed(pair):
    for name in ("a", "d"):
        (pair.lower / name).mkdir()
    (pair.lower / "a/f").write_text("one file")
    os.link(pair.lower / "a/f", pair.lower / "stayed")
    (pair.lower / "d/f").write_text("one file")
    pair.snapshot()
    # The hard-linked file is moved with its directory, so the file itself is not touched.
    (pair.upper / "a").rename(pair.upper / "z")
    (pair.upper / "d").rename(pair.upper / "a")
    assert "C /stayed" in pair.changes()


def test_a_deleted_file_that_is_still_open_is_ignored(pair):
    fill(pair.lower)
    pair.snapshot()
    (pair.upper / "a/open").mkdir()
    fd = os.open(pair.upper / "a/open", os.O_RDONLY)
    try:
        with open(pair.upper / "d/open", "w") as file:
            os.unlink(pair.upper / "d/open")
            os.rmdir(pair.upper / "a/open")
            file.write("still here")
            file.flush()
            assert pair.changes() == []
    finally:
        os.close(fd)


def test_a_parent_that_was_changed_after_the_snapshot_is_compared_as_it_is(pair):
    fill(pair.lower)
    pair.snapshot()
    (pair.upper / "big").unlink()
    (pair.lower / "later").write_text("only in the parent")
    (pair.lower / "a/b/f").chmod(0o600)
    shutil.rmtree(pair.lower / "d")
    found = pair.changes()
    assert {"D /big", "D /later", "C /a/b/f", "A /d/f"} <= set(found)


def test_a_file_that_was_replaced_in_the_parent_is_compared(pair):
    fill(pair.lower)
    pair.snapshot()
    (pair.lower / "big").unlink()
    (pair.lower / "big").write_text("another")
    assert pair.changes() == ["C /big"]


def test_reading_a_layer_or_its_parent_is_no_change(pair):
    fill(pair.lower)
    os.utime(pair.lower / "big", (1, 1))
    pair.snapshot()
    for root in (pair.lower, pair.upper):
        (root / "big").read_bytes()
        list(root.iterdir())
    assert (pair.upper / "big").stat().st_atime > 1, "times of access are not kept: this test shows nothing"
    assert pair.touched() == set()


@pytest.mark.parametrize("name", ["", "file"])
def test_a_change_in_the_same_clock_tick_as_the_last_one_is_found(pair, name):
    (pair.lower / "file").write_text("1")
    os.setxattr(pair.lower, "user.one", b"1")
    for _ in range(20):
        pair.snapshot()
        os.setxattr(pair.upper / name, "user.one", b"2")
        assert [change.path.decode() for change in changes_since_snapshot(pair.upper, pair.lower)] == [f"/{name}"]
        with subvolumes.opened(pair.home) as directory:
            subvolumes.delete(directory, b"upper")
        os.setxattr(pair.lower / name, "user.one", b"1")


def test_changes_at_paths_longer_than_path_max_are_found(pair):
    names = [str(depth) + "x" * 200 for depth in range(30)]
    fd = os.open(pair.lower, os.O_RDONLY)
    for name in names:
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    pair.snapshot()
    with subvolumes.opened(pair.upper) as here:
        top = os.dup(here)
    os.close(fd)
    for name in names:
        fd = os.open(name, os.O_RDONLY, dir_fd=top)
        os.close(top)
        top = fd
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=top))
    os.close(top)
    assert pair.changes()[-1] == "A /" + "/".join([*names, "file"])


def test_hard_links_that_need_several_items_are_found(pair):
    (pair.lower / "f").touch()
    for number in range(400):
        os.link(pair.lower / "f", pair.lower / f"{number:03}{'x' * 100}")
    pair.snapshot()
    os.utime(pair.upper / "f", (1, 1))
    assert len(pair.changes()) == 401


@pytest.mark.parametrize("where", ["lower", "upper"])
def test_there_is_no_answer_if_a_subvolume_is_inside(pair, where):
    fill(pair.lower)
    if where == "lower":
        add_subvolume(pair.lower)
    pair.snapshot()
    if where == "upper":
        add_subvolume(pair.upper)
    assert changes_since_snapshot(pair.upper, pair.lower) is None


def add_subvolume(path: Path) -> None:
    with subvolumes.opened(path) as directory:
        ioctl.subvol_create(directory, b"inner")


def test_there_is_no_answer_for_a_subvolume_that_is_no_snapshot(pair):
    with subvolumes.opened(pair.home) as directory:
        ioctl.subvol_create(directory, b"upper")
    assert changes_since_snapshot(pair.upper, pair.lower) is None
    assert changes_since_snapshot(pair.lower, pair.upper) is None


def test_there_is_no_answer_for_an_ordinary_user(pair, ordinary_user):
    pair.snapshot()
    with ordinary_user():
        assert changes_since_snapshot(pair.upper, pair.lower) is None


def test_only_changed_parts_of_the_tree_are_read(pair, monkeypatch):
    for directory in range(100):
        (pair.lower / str(directory)).mkdir()
        for number in range(200):
            (pair.lower / str(directory) / str(number)).touch()
    pair.snapshot()
    for directory in range(0, 100, 10):
        (pair.upper / str(directory) / "17").write_text("changed")
    looked_at = []
    for name in ("stat", "lstat", "open", "listdir", "scandir"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, real=real, **k: looked_at.append(a[0]) or real(*a, **k))
    found = changes_since_snapshot(pair.upper, pair.lower)
    monkeypatch.undo()
    assert len(found) == 20
    # For each change: the file and its directory, in both trees.
    assert len(looked_at) < 10 * 10, looked_at
    assert found == compare_trees(pair.upper, pair.lower)


# Random edits

NAMES = ["p", "q", "r"]
PATHS = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map("/".join)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["write", "append", "mkdir", "delete", "rename", "link", "symlink", "chmod", "xattr",
                         "truncate", "read"]),
        PATHS,
        PATHS,
        st.integers(0, 3),
    ),
    max_size=25,
)  # fmt: skip


def apply_step(root: Path, step) -> None:
    """Do one step, if it is possible in the present tree."""
    verb, first, second, number = step
    path, other = root / first, root / second
    try:
        if verb == "write":
            path.write_bytes(bytes([number]) * (10 ** (number + 1)))
        elif verb == "append":
            with open(path, "ab") as file:
                file.write(b"more")
        elif verb == "mkdir":
            path.mkdir(parents=True)
        elif verb == "delete":
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        elif verb == "rename":
            path.rename(other)
        elif verb == "link":
            os.link(path, other, follow_symlinks=False)
        elif verb == "symlink":
            path.symlink_to(second)
        elif verb == "chmod":
            path.chmod(0o700 + number)
        elif verb == "xattr":
            os.setxattr(path, f"user.{number}", bytes([number]))
        elif verb == "truncate":
            os.truncate(path, number * 5000)
        elif verb == "read":
            path.read_bytes()
    except OSError:
        pass


@given(before=STEPS, between=STEPS, after=STEPS, seed=st.integers(0, 1000))
def test_random_edits_are_found_as_by_comparing_all_files(filesystem, before, between, after, seed):
    home = filesystem / "random"
    home.mkdir()
    pair = Pair(home)
    try:
        fill(pair.lower)
        for step in before:
            apply_step(pair.lower, step)
        pair.snapshot()
        order = random.Random(seed)
        steps = [(pair.upper, step) for step in after] + [(pair.lower, step) for step in between if seed % 3 == 0]
        order.shuffle(steps)
        for root, step in steps:
            apply_step(root, step)
        pair.changes()
    finally:
        pair.remove()
        home.rmdir()
