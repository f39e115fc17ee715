"""Comparison of trees: the changes that are reported, with and without stamps."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given

from layerstore_core.diff import compare as compare_module
from layerstore_core.diff import compare_trees as compare_trees_module
from layerstore_core.diff.change import ChangeKind
from layerstore_core.diff.compare_trees import compare_trees
from layerstore_core.diff.stamps import Stamps, change_clock, take_stamps
from layerstore_core.tree import share
from layerstore_core.tree.copy_tree import copy_tree
from layerstore_core.tree.walk import TreeWalk
from tests.trees import TIMES, Tree, build, change, pairs, snapshot, steps, trees
from tests.without_kernels import plain_way


def changes(upper: Path, lower: Path | None, stamps: Stamps | None = None) -> list[str]:
    return [str(one) for one in compare_trees(upper, lower, stamps=stamps)]


def stamps_of(root: Path) -> Stamps:
    return Stamps(take_stamps(root, change_clock(root.parent)))


def wait_for_a_tick(root: Path) -> None:
    """Wait until everything touched in a tree so far will get a stamp."""
    while change_clock(root.parent) <= max(path.lstat().st_ctime_ns for path in (root, *root.rglob("*"))):
        pass


@pytest.fixture
def lower(tmp_path: Path) -> Path:
    root = tmp_path / "lower"
    for name in ("one", "two"):
        (root / "top" / name).mkdir(parents=True)
        (root / "top" / name / "file").write_bytes(name.encode())
        os.utime(root / "top" / name / "file", ns=(0, TIMES[1]))
    (root / "plain").write_bytes(b"plain")
    os.link(root / "plain", root / "second")
    (root / "link").symlink_to("plain")
    os.utime(root / "link", ns=(0, TIMES[1]), follow_symlinks=False)
    return root


@pytest.fixture
def upper(lower: Path, tmp_path: Path) -> Path:
    root = tmp_path / "upper"
    root.mkdir()
    copy_tree(lower, root)
    return root


@pytest.fixture(params=["stamps", "stamps of a tick ago", "nothing known"])
def since(request: pytest.FixtureRequest, upper: Path, each_engine: str) -> Stamps | None:
    if request.param == "nothing known":
        return None
    if request.param == "stamps of a tick ago":
        wait_for_a_tick(upper)
    return stamps_of(upper)


def rewrite(path: Path, content: bytes) -> None:
    """Change the content, and restore the time."""
    status = path.stat()
    with open(path, "r+b") as file:
        file.write(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_copy_has_no_changes(upper: Path, lower: Path, since: Stamps | None, nothing_left_open: None) -> None:
    assert changes(upper, lower, since) == []


def test_against_no_lower_tree_everything_is_added(lower: Path) -> None:
    assert changes(lower, None) == [
        "A /link",
        "A /plain",
        "A /second",
        "A /top",
        "A /top/one",
        "A /top/one/file",
        "A /top/two",
        "A /top/two/file",
    ]


def test_a_directory_that_vanishes_after_its_listing_is_reported_as_deleted(
    upper: Path, lower: Path, since: Stamps | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The kernel goes into no directory by itself.
    monkeypatch.setattr(share, "_FIRST_NAMES", 1)
    monkeypatch.setattr(share, "_NAMES", 1)
    (upper / "new").mkdir()
    real = TreeWalk.enter

    def enter(self: TreeWalk, path: bytes) -> int:
        if self.root == os.fsencode(upper) and path in (b"top", b"new"):
            shutil.rmtree(upper / path.decode(), ignore_errors=True)
        return real(self, path)

    monkeypatch.setattr(TreeWalk, "enter", enter)
    assert changes(upper, lower, since) == ["D /top"]


def test_changed_content_of_equal_size_and_time_is_reported(upper: Path, lower: Path, since: Stamps | None) -> None:
    rewrite(upper / "top/one/file", b"ONE")
    assert changes(upper, lower, since) == ["C /top", "C /top/one", "C /top/one/file"]


def test_swapped_directories_are_reported(upper: Path, lower: Path, since: Stamps | None) -> None:
    os.rename(upper / "top/one", upper / "top/aside")
    os.rename(upper / "top/two", upper / "top/one")
    os.rename(upper / "top/aside", upper / "top/two")
    assert changes(upper, lower, since) == [
        "C /top",
        "C /top/one",
        "C /top/one/file",
        "C /top/two",
        "C /top/two/file",
    ]


def test_a_changed_link_target_of_equal_length_is_reported(upper: Path, lower: Path, since: Stamps | None) -> None:
    (upper / "link").unlink()
    (upper / "link").symlink_to("PLAIN")
    os.utime(upper / "link", ns=(0, TIMES[1]), follow_symlinks=False)
    assert changes(upper, lower, since) == ["C /link"]


def test_changed_extended_attributes_are_reported(upper: Path, lower: Path, since: Stamps | None) -> None:
    os.setxattr(upper / "top/one/file", "user.new", b"1")
    os.setxattr(upper / "top/two", "user.new", b"1")
    assert changes(upper, lower, since) == ["C /top", "C /top/one", "C /top/one/file", "C /top/two"]


def test_attributes_of_overlayfs_are_ignored(upper: Path, lower: Path, since: Stamps | None) -> None:
    os.setxattr(upper / "top/one/file", "user.overlay.origin", b"1")
    assert changes(upper, lower, since) == []


def test_a_directory_with_a_file_created_and_removed_is_unchanged(
    upper: Path, lower: Path, since: Stamps | None
) -> None:
    (upper / "top/one/passing").touch()
    (upper / "top/one/passing").unlink()
    assert changes(upper, lower, since) == []


def test_the_root_is_reported_only_for_its_own_metadata(upper: Path, lower: Path, since: Stamps | None) -> None:
    (upper / "new").touch()
    assert changes(upper, lower, since) == ["A /new"]
    upper.chmod(0o711)
    assert changes(upper, lower, since) == ["C /", "A /new"]


def test_a_file_replaced_by_another_type_is_a_modification(upper: Path, lower: Path, since: Stamps | None) -> None:
    (upper / "link").unlink()
    (upper / "link").mkdir()
    (upper / "link/inner").touch()
    assert changes(upper, lower, since) == ["C /link", "A /link/inner"]


def test_a_deleted_directory_is_reported_without_its_content(upper: Path, lower: Path, since: Stamps | None) -> None:
    (upper / "top/one/file").unlink()
    (upper / "top/one").rmdir()
    assert changes(upper, lower, since) == ["C /top", "D /top/one"]


def test_a_new_hard_link_reports_all_names_of_the_file(upper: Path, lower: Path, since: Stamps | None) -> None:
    os.link(upper / "plain", upper / "third")
    assert changes(upper, lower, since) == ["C /plain", "C /second", "A /third"]


def test_a_hard_link_replaced_by_an_equal_file_is_reported(upper: Path, lower: Path, since: Stamps | None) -> None:
    (upper / "second").unlink()
    (upper / "second").write_bytes(b"plain")
    status = (upper / "plain").stat()
    os.utime(upper / "second", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert changes(upper, lower, since) == ["C /second"]


def test_a_removed_hard_link_is_one_deletion(upper: Path, lower: Path, since: Stamps | None) -> None:
    (upper / "second").unlink()
    assert changes(upper, lower, since) == ["D /second"]


def test_content_with_its_stamp_is_not_read(upper: Path, lower: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wait_for_a_tick(upper)
    since = stamps_of(upper)
    opened: list[str] = []
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, *rest, **more: opened.append(str(path)) or real(path, *rest, **more))
    rewrite(upper / "top/one/file", b"ONE")
    opened.clear()
    with plain_way():
        found = changes(upper, lower, since)
    assert found == ["C /top", "C /top/one", "C /top/one/file"]
    assert [name for name in opened if "file" in name or "plain" in name] == ["file", "file"]
    assert not [name for name in opened if "two" in name][1:]  # entered in only one of the trees


def test_content_with_its_stamp_is_trusted(upper: Path, lower: Path, each_engine: str) -> None:
    """The lower tree never changes. If it does, that shows which files are read."""
    wait_for_a_tick(upper)
    since = stamps_of(upper)
    rewrite(lower / "top/one/file", b"ONE")
    (lower / "top/two/file").unlink()
    assert changes(upper, lower, since) == []
    assert changes(upper, lower) == ["C /top", "C /top/one", "C /top/one/file", "C /top/two", "A /top/two/file"]
    (upper / "top/two/passing").touch()
    (upper / "top/two/passing").unlink()
    assert changes(upper, lower, since) == ["C /top", "C /top/two", "A /top/two/file"]


@pytest.mark.parametrize("step", [-3600, -1, 1, 3600])
def test_a_clock_that_was_set_meanwhile_hides_no_change(upper: Path, lower: Path, step: int, each_engine: str) -> None:
    """A change is found even if its ctime is in the past or in the future."""
    second = 1_000_000_000
    wait_for_a_tick(upper)
    # As if the clock had another time when the stamps were taken.
    since = Stamps(take_stamps(upper, change_clock(upper.parent) - step * second))
    rewrite(upper / "top/one/file", b"ONE")
    os.rename(upper / "plain", upper / "top/two/plain")
    assert changes(upper, lower, since) == changes(upper, lower)
    assert "C /top/one/file" in changes(upper, lower, since)


def test_a_part_of_the_stamps_gives_the_same_changes(upper: Path, lower: Path, each_engine: str) -> None:
    wait_for_a_tick(upper)
    data = take_stamps(upper, change_clock(upper.parent))
    rewrite(upper / "top/one/file", b"ONE")
    for length in range(0, len(data), 5):
        assert changes(upper, lower, Stamps(data[:length])) == ["C /top", "C /top/one", "C /top/one/file"]


@pytest.fixture
def two_devices() -> Iterator[tuple[Path, Path]]:
    """Two file systems whose inode numbers begin with the same values."""
    if os.geteuid() != 0:
        pytest.skip("mounting file systems needs root")
    with tempfile.TemporaryDirectory() as name, ExitStack() as mounted:
        roots = Path(name, "upper"), Path(name, "lower")
        for root in roots:
            root.mkdir()
            subprocess.run(["mount", "-t", "tmpfs", "tmpfs", root], check=True)
            mounted.callback(subprocess.run, ["umount", root], check=True)
            root.chmod(0o755)
        yield roots


def test_the_same_inode_number_and_ctime_on_another_device_prove_nothing(
    two_devices: tuple[Path, Path], each_engine: str
) -> None:
    """A snapshot may be changed in the tick of the clock in which it was taken."""
    for number in range(10_000):
        paths = [root / str(number) for root in two_devices]
        for path, content in zip(paths, (b"one", b"two"), strict=True):
            # Not by `open`, which reads the status: the next change of such a file gets a finer ctime.
            file = os.open(path, os.O_WRONLY | os.O_CREAT)
            os.write(file, content)
            os.close(file)
            os.utime(path, ns=(TIMES[1], TIMES[1]))
        one, other = (path.stat() for path in paths)
        if (one.st_ino, one.st_ctime_ns) == (other.st_ino, other.st_ctime_ns):
            break
    else:
        pytest.fail("no two files of one tick")
    assert f"C /{number}" in changes(*two_devices)


def test_stamps_do_not_count_on_another_file_system_in_the_tree(
    upper: Path, lower: Path, two_devices: tuple[Path, Path], each_engine: str
) -> None:
    """A stamp does not contain the device number, which may change."""
    mounted, _ = two_devices
    copy_tree(upper / "top/one", mounted)
    rewrite(mounted / "file", b"ONE")
    subprocess.run(["mount", "--bind", mounted, upper / "top/one"], check=True)
    wait_for_a_tick(upper)
    since = stamps_of(upper)
    try:
        assert changes(upper, lower, since) == ["C /top", "C /top/one", "C /top/one/file"]
    finally:
        subprocess.run(["umount", upper / "top/one"], check=True)


def test_an_error_names_the_path(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no-such"):
        compare_trees(tmp_path / "no-such", None)


@given(pair=pairs())
def test_no_change_is_reported_exactly_if_two_trees_are_equal(pair: tuple[Tree, Tree]) -> None:
    with tempfile.TemporaryDirectory() as name:
        lower, upper = build(Path(name, "lower"), pair[0]), build(Path(name, "upper"), pair[1])
        same = snapshot(lower, directory_times=False) == snapshot(upper, directory_times=False)
        assert same == (compare_trees(upper, lower) == [])


@given(pair=pairs())
def test_kinds_of_changes_match_the_trees_that_have_the_path(pair: tuple[Tree, Tree]) -> None:
    with tempfile.TemporaryDirectory() as name:
        lower, upper = build(Path(name, "lower"), pair[0]), build(Path(name, "upper"), pair[1])
        reported = compare_trees(upper, lower)
        assert [one.path for one in reported] == sorted({one.path for one in reported})
        # Not with `lexists`, which follows links to directories.
        inside = [snapshot(root).keys() for root in (upper, lower)]
        places = {ChangeKind.ADD: [True, False], ChangeKind.MODIFY: [True, True], ChangeKind.DELETE: [False, True]}
        for one in reported:
            assert [one.path.lstrip(b"/") in names for names in inside] == places[one.kind]


@given(tree=trees(), todo=steps())
def test_stamps_do_not_change_the_result(tree: Tree, todo: list[tuple[str, int, int]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        lower, upper = build(Path(name, "lower"), tree), Path(name, "upper")
        upper.mkdir()
        copy_tree(lower, upper)
        since = stamps_of(upper)
        change(upper, todo)
        assert changes(upper, lower, since) == changes(upper, lower)


def test_comparing_keeps_access_times(tmp_path: Path, each_engine: str) -> None:
    paths = [tmp_path / name / below for name in ("upper", "lower") for below in ("d/f", "d", "")]
    for name in ("upper", "lower"):
        (tmp_path / name / "d").mkdir(parents=True)
        (tmp_path / name / "d/f").write_text("same")
    for path in paths:
        os.utime(path, (1, 1))
    assert changes(tmp_path / "upper", tmp_path / "lower") == []
    assert {path: path.stat().st_atime for path in paths} == dict.fromkeys(paths, 1)


@pytest.fixture
def two_trees(tmp_path: Path) -> tuple[Path, Path]:
    """Make two trees of some hundred files, with a change of every kind in every top directory."""
    lower, upper = tmp_path / "one", tmp_path / "other"
    for top in range(6):
        for below in range(6):
            directory = lower / f"d{top}" / f"\udcff{below}"
            directory.mkdir(parents=True)
            for number in range(15):
                (directory / f"f{number}").write_bytes(b"%d" % number)
            os.link(directory / "f0", directory / "again")
            (directory / "link").symlink_to("f1")
    upper.mkdir()
    copy_tree(lower, upper)
    for top in range(6):
        directory = upper / f"d{top}"
        rewrite(directory / "\udcff1" / "f7", b"8")
        (directory / "\udcff2" / "f0").chmod(0o600)
        (directory / "\udcff3" / "new" / "deep").mkdir(parents=True)
        shutil.rmtree(directory / "\udcff4")
        os.setxattr(directory / "\udcff5", "user.new", b"1")
    return upper, lower


@pytest.mark.parametrize("names", [1, 20])
def test_the_same_changes_are_found_in_many_parts(
    two_trees: tuple[Path, Path], names: int, monkeypatch: pytest.MonkeyPatch, nothing_left_open: None
) -> None:
    with plain_way():
        expected = compare_trees(*two_trees)
    assert len(expected) == 6 * (1 + 2 + 3 + 3 + 1 + 1)
    monkeypatch.setattr(share, "_FIRST_NAMES", names)
    monkeypatch.setattr(share, "_NAMES", names)
    assert compare_trees(*two_trees) == expected


def test_an_error_in_a_thread_is_raised_with_the_path(
    two_trees: tuple[Path, Path], each_engine: str, monkeypatch: pytest.MonkeyPatch, nothing_left_open: None
) -> None:
    """What the kernel cannot compare, Python compares, and says what is wrong."""

    roots = iter([True])

    def refuse(*_: object) -> bool:
        if next(roots, False):
            return True
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(share, "_FIRST_NAMES", 1)
    monkeypatch.setattr(compare_module, "same_xattrs", refuse)
    monkeypatch.setattr(compare_trees_module, "same_xattrs", refuse)
    with pytest.raises(PermissionError, match=f"'{two_trees[0]}/d\\d"):
        compare_trees(*two_trees)
