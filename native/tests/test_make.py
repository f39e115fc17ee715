"""The kernel that makes directories, files and links: what it takes, what it leaves, and what it refuses.

Its results are compared with those of its twin, the unpacker without kernels, in `tests/unpack/test_runs.py`.
"""

from __future__ import annotations

import os
import stat
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import tars

kernels = pytest.importorskip("layerstore_native._kernels", reason="the kernels are not built")

SET_OWNER, SET_MODE, DROP_LISTS, NOT_PLAIN, REPLACE = 1, 2, 4, 8, 16
PLANNED, FULL, NO_DIRECTORY, NO_SOURCE, LEFT = range(5)
UNCHANGED = (1 << 32) - 1


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    """Return a descriptor of the directory `made`, next to which nothing may appear. No descriptor may stay open."""
    before = set(os.listdir("/proc/self/fd"))
    (tmp_path / "made").mkdir()
    descriptor = os.open(tmp_path / "made", os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)
    assert os.listdir(tmp_path) == ["made"]
    assert set(os.listdir("/proc/self/fd")) == before


def run_of(*parts: bytes):
    return kernels.scan(tars.tar(*parts), 0, 0, 0, 1000, 1 << 30)


def hows(run, flags: int = 0, mode: int = 0o644) -> bytes:
    return struct.pack("=IIII", mode, UNCHANGED, UNCHANGED, flags) * len(run.kinds)


def job_in(run, directory: int, *paths: bytes, flags: int = 0, names: Any = None):
    """Return a job, and its directories: one that is lent under these paths."""
    directories = kernels.Directories()
    for path in paths:
        directories.lend(path, directory, hows(run, flags))
    return kernels.Job(run, kernels.Names() if names is None else names, directories), directories


def test_files_and_links_are_made(directory: int, tmp_path: Path) -> None:
    run = run_of(
        tars.entry(b"d/a", b"1", mtime=7),
        tars.symlink(b"d/l", b"a"),
        tars.hard_link(b"d/h", b"d/a", mtime=7),
        tars.hard_link(b"d/i", b"/.//d/a", mtime=7),
    )
    job, _ = job_in(run, directory, b"d")
    assert job.add(0, hows(run)) == (4, PLANNED)
    assert len(job) == 4
    assert os.listdir(directory) == []
    assert job.run() == -1
    assert job.run() == -1
    made = tmp_path / "made"
    assert (made / "a").read_bytes() == b"1"
    assert (made / "a").stat().st_mtime == 7
    assert os.readlink(made / "l") == "a"
    assert (made / "h").samefile(made / "a")
    assert (made / "i").samefile(made / "a")


def test_directories_are_made_at_once_and_get_their_times_at_the_end(directory: int, tmp_path: Path) -> None:
    run = run_of(
        tars.directory(b"d", mtime=7, mode=0o751),
        tars.pax([(b"mtime", b"-1.5"), (b"SCHILY.xattr.user.x", b"y")]) + tars.directory(b"d/e"),
        tars.entry(b"d/e/f", b"1"),
        tars.hard_link(b"d/h", b"d/e/f"),
    )
    names = kernels.Names()
    job, directories = job_in(run, directory, b"", flags=SET_MODE, names=names)
    assert job.add(0, hows(run, SET_MODE, 0o700)) == (4, PLANNED)
    made = tmp_path / "made"
    assert [path.name for path in made.rglob("*")] == ["d", "e"]
    assert all(path in names for path in (b"d", b"d/", b"d/e", b"d/e/", b"d/e/f", b"d/h"))
    assert len(job) == 2
    assert directories.times_of(b"d") == (7, 0)
    assert directories.times_of(b"d/e") == (-2, 500_000_000)
    assert [directories.times_of(path) for path in (b"", b"e", b"d/e/f")] == [None, None, None]
    assert job.run() == -1
    directories.end()
    assert len(directories) == 1
    assert (made / "d/h").samefile(made / "d/e/f")
    assert (made / "d").stat().st_mtime == 7
    assert (made / "d/e").stat().st_mtime_ns == (made / "d/e").stat().st_atime_ns == -1_500_000_000
    assert os.getxattr(made / "d/e", "user.x") == b"y"
    assert {stat.S_IMODE(path.stat().st_mode) for path in (made / "d", made / "d/e")} == {0o644, 0o700}


def test_a_job_closes_the_directories_that_were_not_used_for_long(directory: int, tmp_path: Path) -> None:
    """One job closes so many, and then another one goes on."""
    parts = [(tars.directory(b"%d" % number, mtime=number), tars.entry(b"%d/f" % number, b"1")) for number in range(99)]
    run = run_of(*(part for pair in parts for part in pair))
    names, directories, jobs, index, reason = kernels.Names(), kernels.Directories(), [], 0, FULL
    before = len(os.listdir("/proc/self/fd"))
    while reason == FULL:
        directories.lend(b"", directory, hows(run))
        jobs.append(kernels.Job(run, names, directories))
        index, reason = jobs[-1].add(index, hows(run, mode=0o755))
        directories.end_loans()
    assert (index, reason) == (198, PLANNED)
    assert len(jobs) > 3
    assert jobs[0].times_of(b"0") == (0, 0)
    assert [one.times_of(b"5") for one in jobs].count((5, 0)) == 1
    assert jobs[0].times_of(b"98") is None
    assert directories.times_of(b"98") == (98, 0)
    for job in jobs:
        assert job.run() == -1
    assert len(os.listdir("/proc/self/fd")) - before == len(directories) < 40
    directories.end()
    assert len(directories) == 0
    made = tmp_path / "made"
    assert {int(path.name): path.stat().st_mtime for path in made.iterdir()} == {number: number for number in range(99)}


def test_what_is_closed_early_leaves_nothing_open(directory: int) -> None:
    run = run_of(*[tars.directory(b"%d" % number) for number in range(99)])
    job, directories = job_in(run, directory, b"")
    index, reason = job.add(0, hows(run, mode=0o755))
    assert reason == FULL
    job.close()
    directories.close()
    assert len(job) == len(directories) == 0
    assert len(os.listdir(directory)) == index
    assert job.run() == -1


def test_times_that_cannot_be_set_are_an_error_of_their_directory(directory: int, tmp_path: Path) -> None:
    run = run_of(*[tars.directory(b"%d" % number, mtime=7) for number in range(99)])
    job, directories = job_in(run, directory, b"")
    index, _ = job.add(0, hows(run, mode=0o755))
    for one in os.listdir("/proc/self/fd"):
        # The first directory is closed by the job, and the last one at the end: they find no descriptor any more.
        if os.path.realpath(f"/proc/self/fd/{one}") in (f"{tmp_path}/made/0", f"{tmp_path}/made/{index - 1}"):
            os.close(int(one))
    with pytest.raises(OSError, match=r"\[Errno 9\].*b'0'"):
        job.run()
    assert job.run() == -1
    with pytest.raises(OSError, match=rf"\[Errno 9\].*b'{index - 1}'"):
        directories.end()
    times = {int(path.name): path.stat().st_mtime for path in (tmp_path / "made").iterdir()}
    assert {number for number, time in times.items() if time != 7} == {0, index - 1}


def test_what_fails_is_left_and_the_rest_goes_on_after_it(directory: int, tmp_path: Path) -> None:
    os.mkdir("b", dir_fd=directory)
    run = run_of(*[tars.entry(name, b"1") for name in (b"a", b"b", b"c")])
    job, _ = job_in(run, directory, b"", flags=REPLACE)
    assert job.add(0, hows(run)) == (3, PLANNED)
    assert job.run() == 1
    assert sorted(os.listdir(directory)) == ["a", "b"]
    assert job.run() == -1
    assert (tmp_path / "made" / "c").read_bytes() == b"1"


@pytest.mark.parametrize("kind", ["file", "directory", "symbolic link"])
def test_a_directory_whose_name_is_taken_is_left(kind: str, directory: int, tmp_path: Path) -> None:
    if kind == "file":
        (tmp_path / "made" / "b").write_bytes(b"1")
    elif kind == "directory":
        os.mkdir("b", dir_fd=directory)
    else:
        os.symlink("..", "b", dir_fd=directory)
    before = os.stat("b", dir_fd=directory, follow_symlinks=False)
    run = run_of(tars.directory(b"a"), tars.directory(b"b", mode=0o700), tars.entry(b"b/c", b"1"))
    names = kernels.Names()
    job, directories = job_in(run, directory, b"", flags=REPLACE | SET_MODE, names=names)
    assert job.add(0, hows(run)) == (1, LEFT)
    assert b"b" not in names
    assert job.add(2, hows(run)) == (2, NO_DIRECTORY)
    assert os.stat("b", dir_fd=directory, follow_symlinks=False) == before
    directories.close()


def test_a_directory_that_cannot_get_its_metadata_is_not_left_behind(directory: int) -> None:
    # No attribute outside of Linux's namespaces can be set.
    run = run_of(tars.pax([(b"SCHILY.xattr.nonsense", b"1")]) + tars.directory(b"a"))
    job, directories = job_in(run, directory, b"")
    assert job.add(0, hows(run)) == (0, LEFT)
    assert os.listdir(directory) == []
    assert len(directories) == 1


def test_directories_that_are_not_known_have_to_be_lent(directory: int) -> None:
    run = run_of(tars.entry(b"d/a", b"1"), tars.hard_link(b"d/b", b"e/x"), tars.hard_link(b"c", b"d/a"))
    names = kernels.Names()
    names.add(b"e/x")
    job, directories = job_in(run, directory, names=names)
    assert job.add(0, hows(run)) == (0, NO_DIRECTORY)
    directories.lend(b"d", directory, hows(run))
    assert job.add(0, hows(run)) == (1, NO_SOURCE)
    directories.lend(b"e", directory, hows(run))
    assert job.add(1, hows(run)) == (2, NO_DIRECTORY)
    directories.lend(b"", directory, hows(run))
    assert job.add(2, hows(run)) == (3, PLANNED)
    directories.end_loans()
    assert len(directories) == 0


@pytest.mark.parametrize("flags", [0, REPLACE])
def test_a_file_of_the_name_is_replaced_only_if_it_may_be(flags: int, directory: int, tmp_path: Path) -> None:
    for name, target in (("a", "outside"), ("l", "outside")):
        os.symlink(f"../{target}", name, dir_fd=directory)
    run = run_of(tars.entry(b"a", b"1"), tars.symlink(b"l", b"x"))
    job, _ = job_in(run, directory, b"", flags=flags)
    job.add(0, hows(run))
    assert job.run() == (-1 if flags else 0)
    made = tmp_path / "made"
    assert stat.S_ISREG((made / "a").lstat().st_mode) == bool(flags)
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize("make", [tars.entry, tars.directory])
@pytest.mark.parametrize("touched", [b"d/b", b"d/b/", b"d/b\0"])
def test_a_touched_name_is_not_plain(touched: bytes, make: Any, directory: int) -> None:
    run = run_of(*[make(name) for name in (b"d/a", b"d/b", b"d/c")])
    names = kernels.Names()
    names.add(touched)
    job, directories = job_in(run, directory, b"d", names=names)
    assert job.add(0, hows(run)) == (1, LEFT)
    assert b"d/a" in names
    assert b"d/c" not in names
    assert job.add(2, hows(run)) == (3, PLANNED)
    directories.close()


def test_a_name_that_occurs_twice_is_not_plain_the_second_time(directory: int) -> None:
    run = run_of(tars.entry(b"a", b"1"), tars.entry(b"a", b"2"))
    job, _ = job_in(run, directory, b"")
    assert job.add(0, hows(run)) == (1, LEFT)


@pytest.mark.parametrize(
    "part",
    [
        tars.pax([(b"SCHILY.xattr.trusted.overlay.opaque", b"y")]) + tars.entry(b"a"),
        tars.pax([(b"SCHILY.xattr.user.overlay.x", b"y")]) + tars.entry(b"a"),
        tars.pax([(b"SCHILY.xattr.system.posix_acl_access", b"y")]) + tars.entry(b"a"),
        tars.pax([(b"SCHILY.xattr.system.posix_acl_default", b"y")]) + tars.directory(b"a"),
        tars.pax([(b"SCHILY.xattr.user.x", b"y")]) + tars.symlink(b"a", b"b"),
        tars.entry(b"n" * 256, b"1"),
        tars.directory(b"n" * 256),
    ],
)
def test_what_needs_care_is_not_plain(part: bytes, directory: int) -> None:
    run = run_of(part)
    assert len(run) == 1
    job, _ = job_in(run, directory, b"")
    assert job.add(0, hows(run)) == (0, LEFT)
    assert len(job) == 0


@pytest.mark.parametrize("part", [tars.entry(b"a", b"1"), tars.directory(b"a")])
def test_a_kind_that_is_not_plain_is_left(part: bytes, directory: int) -> None:
    run = run_of(part)
    job, _ = job_in(run, directory, b"", flags=NOT_PLAIN)
    assert job.add(0, hows(run)) == (0, LEFT)


@pytest.mark.parametrize(
    "target", [b"d/..", b"d/../f", b"../f", b".", b"/", b"f/", b"d//f", b"d/./f", b".wh.f", b"n" * 256, b"untouched"]
)
def test_a_hard_link_to_an_odd_name_is_not_plain(target: bytes, directory: int) -> None:
    run = run_of(tars.hard_link(b"a", target))
    names = kernels.Names()
    names.update([b"f", b"d", b"d/f", b"", b"d/..", b"d/../f", b"../f", b".", b"d//f", b"d/./f", b".wh.f", b"n" * 256])
    job, _ = job_in(run, directory, b"", b"d", b"d/.", b"d/..", b"..", names=names)
    assert job.add(0, hows(run)) == (0, LEFT)


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
    names = kernels.Names()
    names.add(b"b")
    job, _ = job_in(run, directory, b"", names=names)
    assert job.add(0, hows(run)) == (1, PLANNED)
    assert job.run() == 0
    assert os.listdir(directory) == before


def test_a_closed_descriptor_leaves_all_entries(directory: int) -> None:
    run = run_of(tars.entry(b"a", b"1"), tars.symlink(b"b", b"x"), tars.directory(b"c"))
    closed = os.dup(directory)
    os.close(closed)
    job, _ = job_in(run, closed, b"", flags=REPLACE)
    assert job.add(0, hows(run)) == (2, LEFT)
    assert [job.run(), job.run(), job.run()] == [0, 1, -1]


@pytest.mark.parametrize("first", [3, 1 << 20])
def test_entries_that_the_run_does_not_have_are_refused(first: int, directory: int) -> None:
    run = run_of(tars.entry(b"a", b"1"), tars.entry(b"b", b"1"))
    job, _ = job_in(run, directory, b"")
    with pytest.raises(IndexError, match="no such entry"):
        job.add(first, hows(run))


def test_entries_only_go_forward(directory: int) -> None:
    run = run_of(tars.entry(b"a", b"1"), tars.entry(b"b", b"1"), tars.hard_link(b"c", b"a"))
    job, _ = job_in(run, directory, b"")
    assert job.add(1, hows(run)) == (2, LEFT)
    with pytest.raises(IndexError):
        job.add(0, hows(run))
    assert len(job) == 1


@pytest.mark.parametrize("length", [0, 15, 17, 1 << 16])
def test_a_length_of_the_hows_that_is_not_that_of_the_kinds_is_refused(length: int, directory: int) -> None:
    run = run_of(tars.entry(b"a", b"1"), tars.hard_link(b"b", b"a"))
    job, _ = job_in(run, directory, b"")
    with pytest.raises(ValueError, match=r"2 kinds, and \d+ bytes"):
        job.add(0, bytes(length))


def test_directories_that_are_lent_for_another_run_are_refused(directory: int) -> None:
    run, other = run_of(tars.entry(b"a", b"1")), run_of(tars.entry(b"a", b"1"), tars.directory(b"b"))
    directories = kernels.Directories()
    directories.lend(b"", directory, hows(other))
    with pytest.raises(ValueError, match="lent for another run"):
        kernels.Job(run, kernels.Names(), directories).add(0, hows(run))


def test_loans_are_bounded_and_checked(directory: int) -> None:
    directories = kernels.Directories()
    for arguments in ((b"", -1, bytes(16)), (b"", -100, bytes(16)), (b"", directory, b""), (b"", directory, bytes(17))):
        with pytest.raises(ValueError, match="is none"):
            directories.lend(*arguments)
    for arguments in ((b"", directory, bytes(16 * 257)), (b"p" * 4096, directory, bytes(16))):
        with pytest.raises(ValueError, match="is none"):
            directories.lend(*arguments)
    for number in range(32):
        directories.lend(b"%d" % number, directory, bytes(16))
    with pytest.raises(ValueError, match="too many"):
        directories.lend(b"32", directory, bytes(16))
    directories.end_loans()
    directories.lend(b"", directory, bytes(16))
    with pytest.raises(ValueError, match="is known"):
        directories.lend(b"", directory, bytes(16))


def test_other_arguments_are_refused() -> None:
    run, names, directories = run_of(tars.entry(b"a", b"1")), kernels.Names(), kernels.Directories()
    for arguments in ((), (run, names), (run, set(), directories), (names, run, directories), (run, names, names)):
        with pytest.raises(TypeError):
            kernels.Job(*arguments)
    with pytest.raises(TypeError, match="keyword"):
        kernels.Job(run, names, directories, more=1)
    with pytest.raises(TypeError):
        kernels.Directories(1)
    with pytest.raises(TypeError):
        directories.times_of("a")


def test_what_a_job_uses_can_be_used_by_no_other_thread(directory: int) -> None:
    """Directories take a while: what another thread asks for meanwhile is refused."""
    run = run_of(*[tars.directory(b"%d" % number) for number in range(40)])
    refused: set[str] = set()

    def make(inner: int) -> None:
        names, directories = kernels.Names(), kernels.Directories()
        directories.lend(b"", inner, hows(run))
        thread = threading.Thread(target=kernels.Job(run, names, directories).add, args=(0, hows(run, mode=0o755)))
        thread.start()
        while thread.is_alive():
            try:
                names.add(b"other")
                directories.times_of(b"5")
            except RuntimeError as error:
                refused.add(str(error))
        assert len(names) in (2 * 40, 2 * 40 + 1)
        directories.close()

    for number in range(1000):  # it is mostly seen in one of the first
        os.mkdir(f"in-{number}", dir_fd=directory)
        inner = os.open(f"in-{number}", os.O_RDONLY, dir_fd=directory)
        make(inner)
        os.close(inner)
        if refused:
            break
    assert refused
    assert refused <= {
        "the set of names is being used in another thread",
        "the directories are being used in another thread",
    }
