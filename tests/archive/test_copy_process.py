"""Copying with a second process makes what copying alone makes; what goes wrong with it is told."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from layerstore_core.archive import copy, copy_process, piped, sharing
from layerstore_core.archive.copy import copy_tree
from layerstore_core.archive.copy_process import Answer
from layerstore_core.archive.remove import remove_tree
from tests.archive.conftest import needs_root
from tests.trees import TIMES, Tree, build, seen, trees


def share_at_once(patch: pytest.MonkeyPatch) -> None:
    """The second process is asked at once, in small portions."""
    patch.setattr(copy, "_ALONE", 1)
    patch.setattr(sharing, "_HANDED", 3)
    patch.setattr(copy_process, "_ENTRIES", 20)
    patch.setattr(os, "sched_getaffinity", lambda _: {0, 1})


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[Answer]:
    """What the second process has answered."""
    share_at_once(monkeypatch)
    taken: list[Answer] = []
    of = Answer.of

    def noted(message: tuple[Any, ...]) -> Answer:
        taken.append(of(message))
        return taken[-1]

    monkeypatch.setattr(Answer, "of", noted)
    return taken


@pytest.fixture
def large(root: Path) -> Path:
    """Some hundred files, and of every kind some in every part; names of one file in several parts."""
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
            for name in ("f5", "empty", "."):
                os.utime(directory / name, ns=(TIMES[3], TIMES[2] + top))
        os.utime(root / f"d{top}", ns=(TIMES[3], TIMES[2] + top))
    return root


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "target"
    path.mkdir()
    return path


def test_the_same_is_made(large: Path, target: Path, answers: list[Answer], nothing_left_open: None) -> None:
    copy_tree(large, target)
    assert seen(target) == seen(large)
    assert target.stat().st_mtime_ns == large.stat().st_mtime_ns
    assert any(answer.left for answer in answers)
    assert any(answer.unlinked for answer in answers)


@settings(max_examples=25)
@given(tree=trees())
def test_the_same_is_made_of_any_tree(tree: Tree) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        share_at_once(patch)
        root, target = build(Path(name, "root"), tree), Path(name, "target")
        target.mkdir()
        copy_tree(root, target)
        assert seen(target) == seen(root)


AS_A_USER = """
import os, sys
from layerstore_core.archive import copy, copy_process, sharing
copy._ALONE, sharing._HANDED, copy_process._ENTRIES = 1, 3, 20
os.sched_getaffinity = lambda _: {0, 1}
copy.copy_tree(sys.argv[1], sys.argv[2])
"""


@needs_root
def test_directories_that_let_their_owner_in_no_more(large: Path, target: Path) -> None:
    """An ordinary user copies what others let him read, and owns the copies."""
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
    for directory, below, _ in os.walk(target):
        assert {stat.S_IMODE(Path(directory, name).stat().st_mode) for name in below} <= {0o055}
    times = {
        path.relative_to(top): path.stat().st_mtime_ns
        for top in (large, target)
        for path in top.rglob("*")
        if path.is_dir()
    }
    assert len(times) == 6 + 2 * 36
    for path, mtime in times.items():
        assert (large / path).stat().st_mtime_ns == mtime
    assert sorted(os.listdir(target / "d5" / "\udcff5")) == sorted(os.listdir(large / "d5" / "\udcff5"))


MEETS_AN_ERROR = """
import os, sys
sys.path.append(sys.argv[1])
from layerstore_core.archive import copy, copy_process
def refuse(*_): raise OSError(28, "No space left on device")
copy.write_all = copy.os.pwrite = refuse
copy_process.work(3, 4, int(sys.argv[6]), 20)
"""


def test_an_error_that_it_meets_is_told(
    large: Path, target: Path, answers: list[Answer], monkeypatch: pytest.MonkeyPatch, nothing_left_open: None
) -> None:
    monkeypatch.setattr(piped, "_CODE", MEETS_AN_ERROR)
    with pytest.raises(OSError, match=rf"No space left on device: '{large}/d\d/") as caught:
        copy_tree(large, target)
    assert caught.value.errno == 28
    assert any(str(target) in note for note in caught.value.__notes__)


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("", id="ends at once"),
        pytest.param("import os; os.read(0, 9); os.kill(os.getpid(), 9)", id="is killed"),
        pytest.param("import os; os.read(0, 9); os.write(1, (99).to_bytes(8, 'little') + b'x')", id="half an answer"),
    ],
)
def test_its_death_is_told(
    large: Path,
    target: Path,
    answers: list[Answer],
    monkeypatch: pytest.MonkeyPatch,
    nothing_left_open: None,
    code: str,
) -> None:
    monkeypatch.setattr(piped, "_CODE", code)
    with pytest.raises(ChildProcessError, match=f"has died; try again: '{target}'"):
        copy_tree(large, target)
    remove_tree(target)
    assert not target.exists()


@pytest.mark.parametrize("executable", ["", "/usr/sbin/uwsgi", "/nowhere/python3"])
def test_where_none_can_be_had(
    large: Path, target: Path, answers: list[Answer], monkeypatch: pytest.MonkeyPatch, executable: str
) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    copy_tree(large, target)
    assert (seen(target), answers) == (seen(large), [])


ORDERED = """
import os, sys, time
sys.path[:] = sys.argv[3].split(os.pathsep)
from layerstore_core.archive import copy, copy_process, sharing
from layerstore_core.archive.descent import Descent
os.sched_getaffinity = lambda _: {0, 1}
with Descent(sys.argv[1]) as here, Descent(sys.argv[2]) as there:
    process = copy_process.start(here, there, copy._learn_defaults(there.fd))
    process.send([b""])
    if sys.argv[4] == "alive":
        process.receive()
    os._exit(0)
"""


@pytest.mark.parametrize("then", ["alive", "dead"])
def test_nothing_is_made_for_one_who_is_dead(large: Path, target: Path, then: str) -> None:
    """Whoever was killed while it copied may see its target removed at once."""
    shutil.rmtree(large / "d1")
    subprocess.run([sys.executable, "-c", ORDERED, large, target, os.pathsep.join(sys.path), then], check=True)
    before, deadline = -1, time.monotonic() + 30
    while (count := sum(len(files) for _, _, files in os.walk(target))) != before and time.monotonic() < deadline:
        before = count
        time.sleep(0.5)
    assert (count > 0) is (then == "alive")
