"""Sharing by reflinks, on btrfs: content is shared whatever the metadata; and where there are no reflinks."""

from __future__ import annotations

import os
from contextlib import ExitStack

import pytest
from layerstore_pool.extents import can_clone, shares_extents

from layerstore_core import Capabilities, DriverNotSupported
from layerstore_core.sdk import open_fd

from .conftest import Bench

CONTENT = os.urandom(1 << 16)  # a small file would be in btrfs's tree, where nothing is shared


def is_shared(path):
    os.sync()
    fd = open_fd(path, os.O_RDONLY)
    try:
        return shares_extents(fd)
    finally:
        os.close(fd)


@pytest.fixture
def bench(make_bench, btrfs, tmp_path):
    bench = make_bench(btrfs / tmp_path.name, sharing="reflinks")
    assert can_clone(btrfs)
    yield bench
    for layer_id in sorted(bench.driver.layer_ids(), reverse=True):
        bench.driver.remove(layer_id)


def test_content_is_shared_and_metadata_is_not(bench):
    one = bench.add("1", ("a", CONTENT))
    alone = is_shared(one / "a")
    other = bench.add(
        "2", ("b", CONTENT, {"mode": 0o4711, "mtime": 5, "uid": 7, "pax_headers": {"SCHILY.xattr.user.a": "b"}})
    )
    assert (alone, is_shared(one / "a"), is_shared(other / "b")) == (False, True, True)
    status = (other / "b").stat()
    assert (status.st_mode & 0o7777, status.st_mtime, status.st_uid) == (0o4711, 5, 7)
    assert os.getxattr(other / "b", "user.a") == b"b"
    assert (one / "a").stat().st_mtime == 10**9
    assert (other / "b").read_bytes() == CONTENT
    assert len(bench.pool()) == 1
    assert bench.driver.capabilities == Capabilities()
    assert bench.driver.status()[0] == ("Sharing", "reflinks")


def test_files_of_one_tree_stay_several(bench):
    tree = bench.add("1", ("a", CONTENT), ("b", CONTENT), ("c", b"", {"linkname": "b"}))
    assert (tree / "a").stat().st_ino != (tree / "b").stat().st_ino == (tree / "c").stat().st_ino
    copy = bench.writable("2", "1")
    (copy / "a").write_bytes(b"new")
    assert (copy / "b").read_bytes() == (tree / "a").read_bytes() == CONTENT
    child = bench.add("3", ("d", b"", {"linkname": "a", "mode": 0o600}), parent="1")
    assert (child / "a").stat().st_mode & 0o777 == 0o600
    assert (tree / "a").stat().st_mode & 0o777 == 0o644
    assert bench.driver.check_home(full=True) == []


def test_a_pool_file_is_garbage_when_no_layer_shares_its_extents(bench):
    bench.add("1", ("a", CONTENT), ("small", b"x"))
    bench.add("2", ("b", CONTENT, {"mtime": 5}))
    assert len(bench.pool()) == 2
    bench.driver.remove("1")  # its file had another name in the pool; from now on there are only clones of it
    os.sync()
    bench.driver.cleanup()
    assert len(bench.pool()) == 1
    third = bench.add("3", ("c", CONTENT, {"mtime": 6}))
    assert is_shared(third / "c")
    for layer_id in ("2", "3"):
        bench.driver.remove(layer_id)
    os.sync()
    bench.driver.cleanup()
    assert bench.pool() == []


def test_a_damaged_file_is_not_shared_again(bench):
    one = bench.add("1", ("a", CONTENT))
    (one / "a").write_bytes(b"x" + CONTENT[1:])
    other = bench.add("2", ("b", CONTENT))
    assert (other / "b").read_bytes() == CONTENT
    (problem,) = bench.driver.check_home(full=True)
    assert "it is in layer 1 as a" in problem
    assert bench.driver.repair_home() == []  # which metadata each layer has, no name in the pool tells
    assert [name[-2:] for name in bench.pool()] == [".0", ".1"]


def test_what_an_interrupted_clone_has_left_is_no_obstacle(bench):
    bench.add("1", ("a", CONTENT))
    bench.driver.create("2", "", {})
    (bench.home / "layers/2/clone").write_bytes(b"half")
    tree = bench.apply("2", ("b", CONTENT, {"mtime": 5}))
    assert is_shared(tree / "b")
    assert sorted(os.listdir(bench.home / "layers/2")) == ["tree"]


def test_auto_means_links_on_btrfs_too(make_bench, btrfs, tmp_path):
    bench = make_bench(btrfs / tmp_path.name)
    one, other = bench.add("1", ("a", CONTENT)), bench.add("2", ("a", CONTENT))
    assert (one / "a").stat().st_ino == (other / "a").stat().st_ino


def test_the_option_may_change(btrfs, tmp_path):
    root, trees = btrfs / tmp_path.name, []
    for number, sharing in enumerate(("links", "reflinks", "links")):
        with ExitStack() as opened:
            bench = Bench(root, opened, {"sharing": sharing})
            parent = str(number - 1) if number else ""
            trees.append(bench.add(str(number), (f"f{number}", CONTENT), parent=parent))
            assert bench.driver.check_home(full=True) == []
    assert len(bench.pool()) == 2
    assert [sorted(os.listdir(tree)) for tree in trees] == [["f0"], ["f0", "f1"], ["f0", "f1", "f2"]]
    assert {path.read_bytes() for tree in trees for path in tree.iterdir()} == {CONTENT}
    assert len({path.stat().st_ino for path in trees[2].iterdir()}) == 3
    with ExitStack() as opened:
        bench = Bench(root, opened, {})
        for number in (2, 1, 0):
            bench.driver.remove(str(number))
        os.sync()
        bench.driver.cleanup()
        assert bench.pool() == []


def test_reflinks_where_there_are_none(make_bench, tmp_path):
    if can_clone(tmp_path):
        pytest.skip(f"the file system of {tmp_path} has reflinks")
    with pytest.raises(DriverNotSupported, match=r"has no reflinks.* use btrfs or XFS, or sharing = links"):
        make_bench(tmp_path / "root", sharing="reflinks")
    assert not (tmp_path / "root/pool").exists()


def test_a_file_system_that_does_not_tell_extents_has_no_shared_ones():
    ends = os.pipe()
    try:
        assert not shares_extents(ends[0])
    finally:
        for end in ends:
            os.close(end)
