"""Comparison of trees with a worker process: the same changes as without one, even if the worker fails."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from layerstore_core.diff import compare_trees as compare_trees_module
from layerstore_core.diff import compare_worker, tasks
from layerstore_core.diff.change import Change
from layerstore_core.diff.compare_trees import compare_trees
from layerstore_core.diff.tasks import Answer
from layerstore_core.tree.copy_tree import copy_tree
from layerstore_core.workers import channel
from tests.trees import Tree, build, pairs
from tests.workers.worker_programs import NEVER_READY, READY, answers_of, share_at_once, wait_until_ready

Trees = tuple[Path, Path]


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[Answer]:
    """Have the worker take part at once, in small portions; return its answers."""
    share_at_once(monkeypatch, compare_trees_module, compare_worker)
    return answers_of(monkeypatch, tasks)


@pytest.fixture
def two_trees(tmp_path: Path) -> Trees:
    """Two trees of some hundred files, with a change of every kind in every top directory."""
    lower, upper = tmp_path / "lower", tmp_path / "upper"
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
        status = (directory / "\udcff1" / "f7").stat()
        (directory / "\udcff1" / "f7").write_bytes(b"8")
        os.utime(directory / "\udcff1" / "f7", ns=(status.st_atime_ns, status.st_mtime_ns))
        (directory / "\udcff2" / "f0").chmod(0o600)
        (directory / "\udcff3" / "new" / "deep").mkdir(parents=True)
        shutil.rmtree(directory / "\udcff4")
        os.setxattr(directory / "\udcff5", "user.new", b"1")
    return upper, lower


def compare_without_worker(two_trees: Trees, monkeypatch: pytest.MonkeyPatch) -> list[Change]:
    with monkeypatch.context() as patch:
        patch.setattr(os, "sched_getaffinity", lambda _: {0})
        return compare_trees(*two_trees)


def test_the_same_changes_are_found_with_a_worker(
    two_trees: Trees,
    answers: list[Answer],
    monkeypatch: pytest.MonkeyPatch,
    nothing_left_open: None,
) -> None:
    expected = compare_without_worker(two_trees, monkeypatch)
    assert len(expected) > 6 * (3 + 2 + 3 + 1 + 1)
    assert not any(answer.found for answer in answers), "a worker has taken part"
    assert compare_trees(*two_trees) == expected
    assert sum(len(answer.found) for answer in answers) > 6
    assert any(answer.names for answer in answers)
    assert any(answer.left for answer in answers)


@settings(max_examples=25)
@given(pair=pairs())
def test_the_same_changes_of_any_two_trees_are_found_with_a_worker(pair: tuple[Tree, Tree]) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        lower, upper = build(Path(name, "lower"), pair[0]), build(Path(name, "upper"), pair[1])
        expected = compare_without_worker((upper, lower), patch)
        patch.setattr(compare_trees_module, "_ENTRIES_BEFORE_WORKER", 1)
        patch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
        wait_until_ready(patch)
        assert compare_trees(upper, lower) == expected


MEETS_AN_ERROR = """
import sys
sys.path.append(sys.argv[1])
from layerstore_core.diff import compare, compare_worker
def refuse(*_): raise PermissionError(13, "Permission denied")
compare.same_content = refuse
compare_worker.work(int(sys.argv[4]), 3, 4, 20)
"""


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(READY + "os._exit(0)", id="ends at once"),
        pytest.param(READY + "os.read(0, 9); os.kill(os.getpid(), 9)", id="is killed"),
        pytest.param(MEETS_AN_ERROR, id="meets an error"),
        pytest.param(READY + "os.read(0, 9); os.write(0, (99).to_bytes(8, 'little') + b'x')", id="half an answer"),
    ],
)
def test_tasks_of_a_failed_worker_are_done_by_the_parent(
    two_trees: Trees,
    answers: list[Answer],
    monkeypatch: pytest.MonkeyPatch,
    nothing_left_open: None,
    code: str,
) -> None:
    expected = compare_without_worker(two_trees, monkeypatch)
    monkeypatch.setattr(channel, "_CODE", code)
    sent: list[Any] = []
    send = channel.Worker.send
    monkeypatch.setattr(channel.Worker, "send", lambda self, message: (sent.append(message), send(self, message)))
    assert compare_trees(*two_trees) == expected
    assert (len(sent), answers) == (1, []), "the worker should get one task and fail"


@pytest.mark.parametrize("code", NEVER_READY)
def test_a_worker_that_is_never_ready_is_not_used(
    two_trees: Trees, answers: list[Answer], monkeypatch: pytest.MonkeyPatch, nothing_left_open: None, code: str
) -> None:
    expected = compare_without_worker(two_trees, monkeypatch)
    monkeypatch.setattr(channel, "_CODE", code)
    assert compare_trees(*two_trees) == expected
    assert answers == []


@pytest.mark.parametrize("executable", ["", None, "/usr/sbin/uwsgi", "/nowhere/python3"])
def test_a_program_that_embeds_python_is_not_started_as_a_worker(
    two_trees: Trees, answers: list[Answer], monkeypatch: pytest.MonkeyPatch, executable: str | None
) -> None:
    expected = compare_without_worker(two_trees, monkeypatch)
    monkeypatch.setattr(sys, "executable", executable)
    assert compare_trees(*two_trees) == expected
    assert answers == []
