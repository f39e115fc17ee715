"""The kernel that makes files and links: what it takes, what it leaves, and what it refuses.

Its results are compared with those of its twin, the unpacker without kernels, in `tests/unpack/test_runs.py`.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import tars

kernels = pytest.importorskip("layerstore_native._kernels", reason="the kernels are not built")

SET_OWNER, SET_MODE, DROP_LISTS, NOT_PLAIN, REPLACE = 1, 2, 4, 8, 16
UNCHANGED = (1 << 32) - 1


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    """Return a descriptor of the directory `made`, next to which nothing may appear."""
    (tmp_path / "made").mkdir()
    descriptor = os.open(tmp_path / "made", os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)
    assert os.listdir(tmp_path) == ["made"]


def run_of(*parts: bytes):
    return kernels.scan(tars.tar(*parts), 0, 0, 0, 1000, 1 << 30)


def hows(run, flags: int = 0, mode: int = 0o644) -> bytes:
    return struct.pack("=IIII", mode, UNCHANGED, UNCHANGED, flags) * len(run.kinds)


def test_files_and_links_are_made(directory: int, tmp_path: Path) -> None:
    run = run_of(tars.entry(b"d/a", b"1", mtime=7), tars.symlink(b"d/l", b"a"), tars.hard_link(b"d/h", b"d/a", mtime=7))
    job = kernels.Job(run, kernels.Names())
    assert job.add(0, 2, directory, hows(run)) == 2
    assert job.add_link(2, directory, hows(run), directory, b"a")
    assert len(job) == 3
    assert os.listdir(directory) == []
    assert job.run() == -1
    assert job.run() == -1
    made = tmp_path / "made"
    assert (made / "a").read_bytes() == b"1"
    assert (made / "a").stat().st_mtime == 7
    assert os.readlink(made / "l") == "a"
    assert (made / "h").samefile(made / "a")


def test_what_fails_is_left_and_the_rest_goes_on_after_it(directory: int, tmp_path: Path) -> None:
    os.mkdir("b", dir_fd=directory)
    run = run_of(*[tars.entry(name, b"1") for name in (b"a", b"b", b"c")])
    job = kernels.Job(run, kernels.Names())
    assert job.add(0, 3, directory, hows(run, REPLACE)) == 3
    assert job.run() == 1
    assert sorted(os.listdir(directory)) == ["a", "b"]
    assert job.run() == -1
    assert (tmp_path / "made" / "c").read_bytes() == b"1"


@pytest.mark.parametrize("flags", [0, REPLACE])
def test_a_file_of_the_name_is_replaced_only_if_it_may_be(flags: int, directory: int, tmp_path: Path) -> None:
    for name, target in (("a", "outside"), ("l", "outside")):
        os.symlink(f"../{target}", name, dir_fd=directory)
    run = run_of(tars.entry(b"a", b"1"), tars.symlink(b"l", b"x"))
    job = kernels.Job(run, kernels.Names())
    job.add(0, 2, directory, hows(run, flags))
    assert job.run() == (-1 if flags else 0)
    made = tmp_path / "made"
    assert stat.S_ISREG((made / "a").lstat().st_mode) == bool(flags)
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize("touched", [b"d/b", b"d/b/", b"d/b\0"])
def test_a_touched_name_is_not_plain(touched: bytes, directory: int) -> None:
    run = run_of(*[tars.entry(name, b"1") for name in (b"d/a", b"d/b", b"d/c")])
    names = kernels.Names()
    names.add(touched)
    job = kernels.Job(run, names)
    assert job.add(0, 3, directory, hows(run)) == 1
    assert b"d/a" in names
    assert b"d/c" not in names
    assert job.add(2, 3, directory, hows(run)) == 3
    assert len(job) == 2


def test_a_name_that_occurs_twice_is_not_plain_the_second_time(directory: int) -> None:
    run = run_of(tars.entry(b"a", b"1"), tars.entry(b"a", b"2"))
    job = kernels.Job(run, kernels.Names())
    assert job.add(0, 2, directory, hows(run)) == 1


@pytest.mark.parametrize(
    "part",
    [
        tars.pax([(b"SCHILY.xattr.trusted.overlay.opaque", b"y")]) + tars.entry(b"a"),
        tars.pax([(b"SCHILY.xattr.user.overlay.x", b"y")]) + tars.entry(b"a"),
        tars.pax([(b"SCHILY.xattr.system.posix_acl_access", b"y")]) + tars.entry(b"a"),
        tars.pax([(b"SCHILY.xattr.user.x", b"y")]) + tars.symlink(b"a", b"b"),
        tars.entry(b"n" * 256, b"1"),
        tars.hard_link(b"a", b"b"),
        tars.directory(b"a"),
    ],
)
def test_what_needs_care_is_not_plain(part: bytes, directory: int) -> None:
    run = run_of(part)
    assert len(run) == 1
    job = kernels.Job(run, kernels.Names())
    assert job.add(0, 1, directory, hows(run)) == 0
    assert len(job) == 0


def test_a_kind_that_is_not_plain_is_left(directory: int) -> None:
    run = run_of(tars.entry(b"a", b"1"))
    job = kernels.Job(run, kernels.Names())
    assert job.add(0, 1, directory, hows(run, NOT_PLAIN)) == 0


@pytest.mark.parametrize("base", [b"", b"f", b"d/f", b"..", b"other", b"x" * 9000])
def test_a_name_of_a_source_that_is_not_the_end_of_the_target_is_not_plain(base: bytes, directory: int) -> None:
    run = run_of(tars.hard_link(b"a", b"d/.."))
    job = kernels.Job(run, kernels.Names())
    assert not job.add_link(0, directory, hows(run), directory, base)


@pytest.mark.parametrize("kind", ["directory", "fifo", "symbolic link", "missing"])
def test_hard_links_to_other_than_regular_files_are_left(kind: str, directory: int) -> None:
    if kind == "directory":
        os.mkdir("b", dir_fd=directory)
    elif kind == "fifo":
        os.mkfifo("b", dir_fd=directory)
    elif kind == "symbolic link":
        os.symlink("x", "b", dir_fd=directory)
    before = os.listdir(directory)
    run = run_of(tars.hard_link(b"a", b"b"))
    job = kernels.Job(run, kernels.Names())
    assert job.add_link(0, directory, hows(run), directory, b"b")
    assert job.run() == 0
    assert os.listdir(directory) == before


def test_a_closed_descriptor_leaves_all_entries(directory: int) -> None:
    run = run_of(tars.entry(b"a", b"1"), tars.symlink(b"b", b"x"))
    job = kernels.Job(run, kernels.Names())
    job.add(0, 2, -1, hows(run, REPLACE))
    assert [job.run(), job.run(), job.run()] == [0, 1, -1]


@pytest.mark.parametrize("arguments", [(1, 0), (0, 3), (3, 3)])
def test_entries_that_the_run_does_not_have_are_refused(arguments: tuple[int, int], directory: int) -> None:
    run = run_of(tars.entry(b"a", b"1"), tars.entry(b"b", b"1"))
    job = kernels.Job(run, kernels.Names())
    with pytest.raises(IndexError, match="no such entries"):
        job.add(*arguments, directory, hows(run))


def test_entries_only_go_forward(directory: int) -> None:
    run = run_of(tars.entry(b"a", b"1"), tars.entry(b"b", b"1"), tars.hard_link(b"c", b"a"))
    job = kernels.Job(run, kernels.Names())
    assert job.add(1, 2, directory, hows(run)) == 2
    with pytest.raises(IndexError):
        job.add(0, 1, directory, hows(run))
    for index in (0, 1, 3):
        with pytest.raises(IndexError, match="no such hard link"):
            job.add_link(index, directory, hows(run), directory, b"a")
    assert len(job) == 1


@pytest.mark.parametrize("length", [0, 15, 17, 1 << 16])
def test_a_length_of_the_hows_that_is_not_that_of_the_kinds_is_refused(length: int, directory: int) -> None:
    run = run_of(tars.entry(b"a", b"1"), tars.hard_link(b"b", b"a"))
    job = kernels.Job(run, kernels.Names())
    with pytest.raises(ValueError, match=r"2 kinds, and \d+ bytes"):
        job.add(0, 1, directory, bytes(length))
    with pytest.raises(ValueError, match="2 kinds"):
        job.add_link(1, directory, bytes(length), directory, b"a")


def test_other_arguments_are_refused() -> None:
    run = run_of(tars.entry(b"a", b"1"))
    for arguments in ((), (run,), (run, set()), (kernels.Names(), run)):
        with pytest.raises(TypeError):
            kernels.Job(*arguments)
    with pytest.raises(TypeError, match="keyword"):
        kernels.Job(run, kernels.Names(), more=1)
