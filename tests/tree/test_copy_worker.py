"""Copies of trees with a worker process: the result is the same as without one, and its errors are raised."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings

from layerstore_core.tree import copy, copy_tasks, copy_worker
from layerstore_core.tree import copy_tree as copy_tree_module
from layerstore_core.tree.copy_tasks import Answer
from layerstore_core.tree.copy_tree import copy_tree
from layerstore_core.tree.remove import remove_tree
from layerstore_core.workers import channel
from tests.conftest import needs_root
from tests.trees import TIMES, Tree, build, snapshot, trees
from tests.workers.worker_programs import NEVER_READY, READY, answers_of, share_at_once


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[Answer]:
    """Have the worker take part at once, in small portions; return its answers."""
    share_at_once(monkeypatch, copy_tree_module, copy_worker)
    return answers_of(monkeypatch, copy_tasks)


@pytest.fixture
def large(root: Path) -> Path:
    """A tree of some hundred files, with every kind in every directory, and hard links across directories."""
    for top in range(6):
        for below in range(6):
            directory = root / f"d{top}" / f"\udcff{below}"
            directory.mkdir(parents=True)
            for number in range(15):
                (directory / f"f{number}").write_bytes(b"%d" % number * number)
            (directory / "f3").chmod(0o4755)
            os.setxattr(directory / "f4", "user.one", b"1")
            os.link(directory / "f0", directory / "again")
            os.link(root / "d0" / "\udcff0" / "f1", directory / "everywhere")
            (directory / "link").symlink_to("f1")
            os.mkfifo(directory / "fifo")
            (directory / "empty").mkdir(mode=0o1755)
            os.setxattr(directory / "empty", "user.two", b"2")
            if os.geteuid() == 0:
                (directory / "shut" / "below").mkdir(parents=True)
                (directory / "shut").chmod(0o055)
            for name in ("f5", "empty", "."):
                os.utime(directory / name, ns=(TIMES[3], TIMES[2] + top))
        os.utime(root / f"d{top}", ns=(TIMES[3], TIMES[2] + top))
    return root


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "target"
    path.mkdir()
    return path


def test_a_copy_with_a_worker_equals_its_source(
    large: Path, target: Path, answers: list[Answer], nothing_left_open: None
) -> None:
    copy_tree(large, target)
    assert snapshot(target) == snapshot(large)
    assert target.stat().st_mtime_ns == large.stat().st_mtime_ns
    assert any(answer.left for answer in answers)
    assert any(answer.skipped_links for answer in answers)
    assert os.geteuid() or any(answer.inaccessible for answer in answers)


@settings(max_examples=25)
@given(tree=trees())
def test_a_copy_of_any_tree_with_a_worker_equals_its_source(tree: Tree) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        share_at_once(patch, copy_tree_module, copy_worker)
        root, target = build(Path(name, "root"), tree), Path(name, "target")
        target.mkdir()
        copy_tree(root, target)
        assert snapshot(target) == snapshot(root)


AS_A_USER = """
import sys, pytest
from layerstore_core.tree import copy_tree as copy_tree_module, copy_worker
from layerstore_core.tree.copy import Copier
from layerstore_core.tree.copy_tree import copy_tree
from tests.workers.worker_programs import share_at_once
share_at_once(pytest.MonkeyPatch(), copy_tree_module, copy_worker)
apply_answer, shared = Copier.apply_answer, []
Copier.apply_answer = lambda self, answer: (shared.append(answer), apply_answer(self, answer))
copy_tree(sys.argv[1], sys.argv[2])
print(sum(len(answer.inaccessible) for answer in shared))
"""


@needs_root
def test_directories_whose_mode_denies_access_are_copied_by_an_ordinary_user(large: Path, target: Path) -> None:
    """An ordinary user copies files of others that he may read, and owns the copies."""
    deep = large / "d0" / Path(*("deep" for _ in range(60)))
    (deep / "bottom").mkdir(parents=True)
    (deep.parent / "sibling").mkdir()
    for directory, _, _ in os.walk(large):
        if Path(directory) != large:
            os.chmod(directory, 0o055)
    for above in large.parents:
        if above.stat().st_uid == os.geteuid() and not above.stat().st_mode & 1 and above != Path("/"):
            above.chmod(0o711)
    os.chown(target, 65534, 65534)
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable, "-c", AS_A_USER]
    checkout = Path(__file__).resolve().parents[2]
    done = subprocess.run([*command, large, target], capture_output=True, text=True, check=False, cwd=checkout)
    assert (done.returncode, done.stderr) == (0, "")
    if all(above.stat().st_mode & 1 for above in Path(sys.executable).resolve().parents):
        assert int(done.stdout) > 0, "the worker has copied nothing"
    for directory, below, _ in os.walk(target):
        assert {stat.S_IMODE(Path(directory, name).stat().st_mode) for name in below} <= {0o055}
    times = {
        path.relative_to(top): path.stat().st_mtime_ns
        for top in (large, target)
        for path in top.rglob("*")
        if path.is_dir()
    }
    assert len(times) == 6 + 4 * 36 + 60 + 2
    for path, mtime in times.items():
        assert (large / path).stat().st_mtime_ns == mtime
    assert sorted(os.listdir(target / "d5" / "\udcff5")) == sorted(os.listdir(large / "d5" / "\udcff5"))


MEETS_AN_ERROR = """
import os, sys
sys.path.append(sys.argv[1])
from layerstore_core.tree import copy, copy_worker
def refuse(*_): raise OSError(28, "No space left on device")
copy.os.pwrite = refuse
copy_worker.work(int(sys.argv[4]), 3, 4, 20)
"""


def test_an_error_of_the_worker_is_raised(
    large: Path, target: Path, answers: list[Answer], monkeypatch: pytest.MonkeyPatch, nothing_left_open: None
) -> None:
    monkeypatch.setattr(channel, "_CODE", MEETS_AN_ERROR)
    with pytest.raises(OSError, match=rf"No space left on device: '{large}/d\d/") as caught:
        copy_tree(large, target)
    assert caught.value.errno == 28
    assert any(str(target) in note for note in caught.value.__notes__)


MEETS_AN_UNEXPECTED_EXCEPTION = MEETS_AN_ERROR.replace('OSError(28, "No space left on device")', 'MemoryError("as if")')


def test_an_unexpected_exception_of_the_worker_is_raised(
    large: Path, target: Path, answers: list[Answer], monkeypatch: pytest.MonkeyPatch, nothing_left_open: None
) -> None:
    monkeypatch.setattr(channel, "_CODE", MEETS_AN_UNEXPECTED_EXCEPTION)
    with pytest.raises(ChildProcessError, match=r"has failed: MemoryError\('as if'\)"):
        copy_tree(large, target)


def test_an_error_with_skipped_hard_links_is_raised(
    large: Path, target: Path, answers: list[Answer], monkeypatch: pytest.MonkeyPatch, nothing_left_open: None
) -> None:
    apply_answer = copy.Copier.apply_answer

    def refused(self: copy.Copier, answer: Answer) -> None:
        if not answer.skipped_links:
            apply_answer(self, answer)
            return
        with monkeypatch.context() as patch:
            patch.setattr(os, "link", lambda *_, **__: refuse())
            patch.setattr(os, "pwrite", lambda *_: refuse())
            apply_answer(self, answer)

    def refuse() -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(copy.Copier, "apply_answer", refused)
    with pytest.raises(OSError, match=rf"No space left on device: '{large}/d\d/.*/(again|everywhere|f\d)'") as caught:
        copy_tree(large, target)
    assert any(str(target) in note for note in caught.value.__notes__)


def test_an_error_with_a_directorys_metadata_is_raised(
    large: Path, target: Path, monkeypatch: pytest.MonkeyPatch, nothing_left_open: None
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(copy, "set_xattr", refuse)
    for path in large.rglob("f4"):
        path.unlink()
    with pytest.raises(OSError, match=rf"No space left on device: '{large}/d\d/.*/empty'") as caught:
        copy_tree(large, target)
    assert any(str(target) in note for note in caught.value.__notes__)


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(READY + "os._exit(0)", id="ends at once"),
        pytest.param(READY + "os.read(0, 9); os.kill(os.getpid(), 9)", id="is killed"),
        pytest.param(READY + "os.read(0, 9); os.write(0, (99).to_bytes(8, 'little') + b'x')", id="half an answer"),
    ],
)
def test_the_death_of_the_worker_is_raised(
    large: Path,
    target: Path,
    answers: list[Answer],
    monkeypatch: pytest.MonkeyPatch,
    nothing_left_open: None,
    code: str,
) -> None:
    monkeypatch.setattr(channel, "_CODE", code)
    with pytest.raises(ChildProcessError, match=f"has died; try again: '{target}'"):
        copy_tree(large, target)
    remove_tree(target)
    assert not target.exists()


@pytest.mark.parametrize("code", NEVER_READY)
def test_a_worker_that_is_never_ready_is_not_used(
    large: Path,
    target: Path,
    answers: list[Answer],
    monkeypatch: pytest.MonkeyPatch,
    nothing_left_open: None,
    code: str,
) -> None:
    monkeypatch.setattr(channel, "_CODE", code)
    copy_tree(large, target)
    assert (snapshot(target), answers) == (snapshot(large), [])


@pytest.mark.parametrize("executable", ["", "/usr/sbin/uwsgi", "/nowhere/python3"])
def test_without_an_interpreter_no_worker_is_started(
    large: Path, target: Path, answers: list[Answer], monkeypatch: pytest.MonkeyPatch, executable: str
) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    copy_tree(large, target)
    assert (snapshot(target), answers) == (snapshot(large), [])


PARENT_THAT_ENDS = """
import os, signal, sys
sys.path[:] = sys.argv[3].split(os.pathsep)
from layerstore_core.tree import copy_tree, copy_worker
from layerstore_core.tree.walk import TreeWalk
os.sched_getaffinity = lambda _: {0, 1}
with TreeWalk(sys.argv[1]) as here, TreeWalk(sys.argv[2]) as there:
    process = copy_worker.start(here, there, copy_tree._learn_defaults(there.fd))
    process.receive()
    print(process._process.pid, flush=True)
    if sys.argv[4] == "dead":
        os.kill(process._process.pid, signal.SIGSTOP)
    process.send([b""])
    if sys.argv[4] == "alive":
        process.receive()
    os._exit(0)
"""


@pytest.mark.parametrize("then", ["alive", "dead"])
def test_the_worker_makes_nothing_once_its_parent_is_dead(large: Path, target: Path, then: str) -> None:
    """The target of a process that was killed while it copied may be removed at once."""
    command = [sys.executable, "-c", PARENT_THAT_ENDS, large, target, os.pathsep.join(sys.path), then]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    if then == "dead":
        os.kill(int(done.stdout), signal.SIGCONT)
    stat_file, deadline = Path(f"/proc/{int(done.stdout)}/stat"), time.monotonic() + 30
    while stat_file.exists() and stat_file.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert any(files for _, _, files in os.walk(target)) is (then == "alive")
