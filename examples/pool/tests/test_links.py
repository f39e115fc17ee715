"""Sharing by hard links: what is shared, what must not be, and what nobody may change."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from loguru import logger

import layerstore_core.log
from layerstore_core import Capabilities

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to others")


def inode(path: Path) -> int:
    return path.stat().st_ino


def status_of(path: Path) -> tuple[int, ...]:
    status = path.stat()
    return status.st_ino, status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, status.st_size


def test_a_file_is_kept_once_for_all_layers(bench):
    one = bench.add("one", ("usr/a", b"content"), ("empty", b""))
    other = bench.add("other", ("opt/b", b"content"), ("empty", b""))
    assert inode(one / "usr/a") == inode(other / "opt/b")
    assert len(bench.pool()) == 1
    assert bench.driver.capabilities == Capabilities(shares_inodes=True)
    child = bench.add("child", ("c", b"more"), parent="one")
    assert inode(child / "usr/a") == inode(one / "usr/a")
    assert (child / "c").read_bytes() == b"more"


@pytest.mark.parametrize(
    "other",
    [
        {"mode": 0o600},
        {"mtime": 10**9 + 1},
        {"pax_headers": {"SCHILY.xattr.user.a": "b"}},
        pytest.param({"uid": 4711}, marks=needs_root),
        pytest.param({"gid": 4711}, marks=needs_root),
    ],
)
def test_other_metadata_is_another_file(bench, other: dict[str, Any]):
    one = bench.add("one", ("a", b"content"))
    before = status_of(one / "a")
    again = bench.add("other", ("a", b"content", other))
    assert status_of(one / "a") == before
    assert status_of(again / "a")[1:] != before[1:] or os.listxattr(again / "a") == ["user.a"]
    assert os.listxattr(one / "a") == []
    assert len(bench.pool()) == 2


def test_two_files_of_one_tree_never_become_one(bench):
    """In a writable copy, a write to one of them would change both."""
    alike = [(name, b"same") for name in ("a", "b", "c")]
    base = bench.add("base", *alike)
    assert len({inode(base / name) for name, _ in alike}) == 3
    again = bench.add("again", *alike)
    assert [inode(again / name) for name, _ in alike] == [inode(base / name) for name, _ in alike]
    child = bench.add("child", ("d", b"same"), ("a", b"same"), parent="base")
    assert len({inode(child / name) for name in "abcd"}) == 4
    copy = bench.writable("copy", "child")
    (copy / "a").write_bytes(b"new")
    assert [(copy / name).read_bytes() for name in "abcd"] == [b"new", b"same", b"same", b"same"]
    assert {path.read_bytes() for path in (bench.home / "pool").iterdir()} == {b"same"}


def test_the_hard_links_of_a_layer_are_shared_together(bench):
    files = [("a", b"content"), ("b", b"", {"linkname": "a"}), ("d/c", b"", {"linkname": "a"})]
    one, other = bench.add("one", *files), bench.add("other", *files)
    assert len({inode(tree / name) for tree in (one, other) for name in ("a", "b", "d/c")}) == 1
    alone = bench.add("alone", ("x", b"content"))
    assert inode(alone / "x") == inode(one / "a")


def test_a_hard_link_entry_changes_no_file_of_another_layer(bench):
    base, sibling = bench.add("base", ("a", b"content")), bench.add("sibling", ("z", b"content"))
    before = status_of(base / "a")
    other = {"linkname": "a", "mode": 0o4755, "mtime": 5}
    child = bench.add("child", ("b", b"", other), parent="base")
    assert status_of(base / "a") == status_of(sibling / "z") == before
    assert inode(child / "a") == inode(child / "b") != inode(base / "a")
    assert stat.S_IMODE((child / "a").stat().st_mode) == 0o4755
    # A second tar for the same layer finds files that are links to the pool already.
    again = bench.apply("sibling", ("y", b"", {"linkname": "z", "mode": 0o600}))
    assert status_of(base / "a") == before
    assert stat.S_IMODE((again / "z").stat().st_mode) == 0o600
    assert bench.driver.check_home(full=True) == []


@pytest.mark.parametrize("name", ["n" * 255, "wh.layerstore-0123456789abcdef", "clone", "d" * 255 + "/" + "n" * 255])
def test_alike_files_of_siblings_under_odd_names(bench, name):
    bench.add("base", ("x", b"x"))
    trees = [bench.add(f"child{time}", (name, b"same", {"mtime": time}), parent="base") for time in (1, 2)]
    assert [(tree / name).stat().st_mtime for tree in trees] == [1, 2]
    assert [sorted(os.listdir(tree)) for tree in trees] == [sorted({"x", name.partition("/")[0]})] * 2
    third = bench.add("child3", (name, b"same", {"mtime": 2}), parent="base")
    assert inode(third / name) == inode(trees[1] / name) != inode(trees[0] / name)


def test_a_writable_layer_changes_neither_its_parent_nor_the_pool(bench):
    base = bench.add("base", ("a", b"content"), ("d/b", b"other", {"mode": 0o444}))
    before = {name: (status_of(base / name), (base / name).read_bytes()) for name in ("a", "d/b")}
    copy = bench.writable("copy", "base")
    bench.apply("copy", ("c", b"content"), ("e", b"", {"linkname": "a", "mode": 0o600}), parent="base")
    for path in [copy / "a", copy / "d/b", copy / "c"]:
        path.chmod(0o600)
        path.write_bytes(b"changed")
        os.utime(path, ns=(1, 1))
    assert {name: (status_of(base / name), (base / name).read_bytes()) for name in before} == before
    assert bench.driver.check_home(full=True) == []
    child = bench.add("child", ("f", b"x"), parent="copy")
    (copy / "a").write_bytes(b"changed again")
    assert (child / "a").read_bytes() == b"changed"


def test_a_pool_file_with_all_the_links_it_can_have_gets_a_second_one(bench, monkeypatch):
    link = os.link
    full = set()

    def limited(source, target, **named):
        status = os.stat(source, dir_fd=named.get("src_dir_fd"), follow_symlinks=False)
        if status.st_ino in full:
            raise OSError(errno.EMLINK, os.strerror(errno.EMLINK))
        link(source, target, **named)

    names = ("a", b"content"), ("b", b"", {"linkname": "a"})
    one = bench.add("one", *names)
    full.add(inode(one / "a"))
    monkeypatch.setattr(os, "link", limited)
    two, three = bench.add("two", *names), bench.add("three", *names)
    assert inode(two / "a") == inode(two / "b") == inode(three / "a") == inode(three / "b") != inode(one / "a")
    assert [name[-2:] for name in bench.pool()] == [".0", ".1"]
    child = bench.add("child", ("c", b"more"), parent="one")
    assert (child / "a").read_bytes() == b"content"
    assert inode(child / "a") != inode(one / "a")


def test_real_links_up_to_the_limit_of_the_file_system(bench, tmp_path):
    one = bench.add("one", ("a", b"content"))
    (tmp_path / "links").mkdir()
    with suppress(OSError):  # a file system that allows more names has nothing to show here but that it works
        for number in range(65_001):
            os.link(one / "a", tmp_path / f"links/{number}")
    two = bench.add("two", ("a", b"content"))
    assert status_of(two / "a")[1:] == status_of(one / "a")[1:]
    assert len(bench.pool()) == 1 + (inode(two / "a") != inode(one / "a"))


def test_the_last_layer_takes_a_file_with_it(bench):
    bench.add("one", ("a", b"content"), ("b", b"alone"))
    bench.add("other", ("c", b"content"))
    bench.add("child", ("d", b"more"), parent="one")
    assert len(bench.pool()) == 3
    bench.driver.remove("child")
    assert len(bench.pool()) == 2
    bench.driver.remove("one")
    assert len(bench.pool()) == 1
    bench.driver.remove("other")
    bench.driver.remove("other")
    assert bench.pool() == []


def test_cleanup_removes_what_no_layer_has(bench):
    tree = bench.add("one", ("a", b"content"), ("b", b"alone"))
    bench.add("other", ("a", b"content"))
    shutil.rmtree(tree)  # as when a removal was killed
    assert len(bench.pool()) == 2
    bench.driver.cleanup()
    bench.driver.cleanup()
    assert len(bench.pool()) == 1
    bench.driver.remove("one")
    bench.driver.remove("other")
    assert bench.pool() == []


def test_the_pool_shows_in_status_and_metadata(bench):
    bench.add("one", ("a", b"content"))
    bench.writable("copy", "one")
    assert bench.driver.status() == [("Sharing", "links"), ("Pool Files", "1")]
    assert bench.driver.metadata("one") == {"Directory": str(bench.tree("one")), "Files": "shared"}
    assert bench.driver.metadata("copy")["Files"] == "its own"


# Damage


@pytest.fixture
def warnings():
    layerstore_core.log.enable()
    logger.enable("layerstore_pool")
    found: list[str] = []
    sink = logger.add(lambda message: found.append(message.record["message"]), level="WARNING")
    yield found
    logger.remove(sink)
    logger.disable("layerstore_pool")
    logger.disable("layerstore_core")


def _cut_off(path: Path) -> None:
    os.truncate(path, 3)


def _rot(path: Path) -> None:
    status = path.stat()
    path.write_bytes(b"c0ntent")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _other_mode(path: Path) -> None:
    path.chmod(0o400)


@pytest.mark.parametrize("damage", [_cut_off, _rot, _other_mode])
def test_a_damaged_file_is_not_shared_again_and_is_found_and_repaired(bench, damage, warnings):
    one, other = bench.add("one", ("a", b"content")), bench.add("other", ("b", b"content"))
    before = status_of(one / "a")
    assert bench.driver.check_home(full=True) == []
    damage(one / "a")
    (problem,) = bench.driver.check_home(full=True)
    assert f"{bench.home}/pool/{bench.pool()[0]}: its " in problem
    assert problem.endswith("it is in layer one as a, other as b")
    assert bench.driver.repair_home() == []  # there is no whole file of this kind yet
    third = bench.add("third", ("c", b"content"))
    assert (third / "c").read_bytes() == b"content"
    assert status_of(third / "c")[1:] == before[1:]
    assert inode(third / "c") != inode(one / "a")
    assert f"{bench.pool()[0]} in the pool is damaged" in warnings[0]
    (done,) = bench.driver.repair_home()
    assert done == f"wrote {bench.home}/pool/{bench.pool()[0]} again, as {bench.pool()[1]} is"
    assert bench.driver.check_home(full=True) == []
    assert [(tree / name).read_bytes() for tree, name in ((one, "a"), (other, "b"))] == [b"content"] * 2
    assert status_of(one / "a") == before


def test_a_check_that_is_not_full_reads_no_content(bench):
    tree = bench.add("one", ("a", b"content"), ("b", b"other"))
    _rot(tree / "a")
    assert bench.driver.check_home(full=False) == []
    _other_mode(tree / "b")
    (problem,) = bench.driver.check_home(full=False)
    assert problem.endswith("its mode, owner, time or attributes have changed; it is in layer one as b")
    assert len(bench.driver.check_home(full=True)) == 2


def test_many_damaged_files_are_counted(bench):
    tree = bench.add("one", *[(f"f{number}", b"%d" % number) for number in range(120)])
    for path in tree.iterdir():
        path.write_bytes(b"x")
    problems = bench.driver.check_home(full=True)
    assert len(problems) == 91
    assert problems[-1] == f"30 more files in {bench.home}/pool are damaged"


def test_what_others_have_put_into_the_pool_goes_or_stays(bench):
    bench.add("one", ("a", b"content"))
    kept = bench.pool()
    for number, make in enumerate((os.mkfifo, lambda path: os.symlink("/etc/passwd", path), Path.touch)):
        make(bench.home / "pool" / f"{'0' * 64}.any.{number}")
    (bench.home / "pool/notes.txt").touch()
    bench.driver.cleanup()
    assert bench.pool() == [*kept, "notes.txt"]


def test_what_is_no_regular_file_is_passed_over(bench):
    bench.add("one", ("a", b"content"))
    (name,) = bench.pool()
    (bench.home / "pool" / name).unlink()
    os.mkfifo(bench.home / "pool" / name)
    tree = bench.add("other", ("a", b"content"))
    assert (tree / "a").read_bytes() == b"content"
    assert bench.driver.check_home(full=True) == [
        f"{bench.home}/pool/{name}: it is no regular file; no layer links to it"
    ]
    bench.driver.cleanup()
    assert bench.driver.check_home(full=True) == []
