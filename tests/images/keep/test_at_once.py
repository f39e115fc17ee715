"""Several pieces of work at once."""

from __future__ import annotations

import threading
from functools import partial

import pytest

from layerstore_core.images.keep import at_once as module
from layerstore_core.images.keep.at_once import at_once


def test_all_results_come_back_by_their_keys() -> None:
    jobs = {number: partial(pow, number, 2) for number in range(50)}
    found = at_once(jobs, threads=4, stopped=threading.Event(), name="test")
    assert found == {number: number**2 for number in range(50)}
    assert at_once({}, threads=4, stopped=threading.Event(), name="test") == {}


def test_jobs_run_at_once() -> None:
    meeting = threading.Barrier(3)
    at_once({n: partial(meeting.wait, 60) for n in range(3)}, threads=3, stopped=threading.Event(), name="test")


def test_the_first_error_stops_the_others_and_a_thread_that_hangs_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 0.01)
    stopped, hanging, end = threading.Event(), threading.Event(), threading.Event()
    begun: list[int] = []

    def hang() -> None:
        hanging.set()
        end.wait(60)

    def fail() -> None:
        hanging.wait(60)
        raise ValueError("no")

    jobs = {"hang": hang, "fail": fail, **{n: partial(begun.append, n) for n in range(5)}}
    with pytest.raises(ValueError, match="no"):
        at_once(jobs, threads=2, stopped=stopped, name="test-left")
    assert stopped.is_set()
    assert begun == []
    (left,) = [thread for thread in threading.enumerate() if thread.name.startswith("test-left")]
    assert left.daemon
    end.set()
    left.join(60)
