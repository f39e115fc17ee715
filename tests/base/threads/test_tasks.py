"""Single calls in threads: results, errors, interrupts, own threads that wait for each other."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from layerstore_core.base.threads import Dropped, Threads, cores, submit, wait_for_all
from tests.base.threads.ending import SECONDS, within_seconds


def test_submit_returns_what_the_call_returns_or_raises() -> None:
    assert submit(lambda: 5).result() == 5
    task = submit(lambda: {}["key"])
    for _ in range(2):
        with pytest.raises(KeyError, match="key"):
            task.result()
    assert task.done and isinstance(task.error, KeyError)


def test_no_more_calls_run_at_once_than_there_are_cores() -> None:
    running, most, lock = 0, 0, threading.Lock()

    def call() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.005)
        with lock:
            running -= 1

    for task in [submit(call) for _ in range(30)]:
        task.result()
    assert 0 < most <= cores() == len(os.sched_getaffinity(0))


def test_own_threads_begin_calls_in_order_and_let_them_wait_for_those_before(one_core: None) -> None:
    begun: list[int] = []

    def run() -> None:
        with Threads("chain", 3) as own:
            tasks = [own.submit(lambda: begun.append(0) or 0)]

            def call(number: int) -> int:
                begun.append(number)
                return tasks[number - 1].result() + 1

            for number in range(1, 20):
                task = own.submit(lambda number=number: call(number))  # type: ignore[misc]
                tasks.append(task)
            assert [task.result() for task in tasks] == list(range(20))
        assert begun == list(range(20))

    within_seconds(run)


def test_own_threads_that_are_closed_drop_what_has_not_begun() -> None:
    began, may_go = threading.Event(), threading.Event()

    def wait() -> str:
        began.set()
        may_go.wait(SECONDS)
        return "first"

    own = Threads("closed", 1)
    first, second = own.submit(wait), own.submit(lambda: "second")
    began.wait(SECONDS)
    own.close(0.01)
    assert not first.done
    assert not first.wait(0.01)
    with pytest.raises(Dropped):
        second.result()
    with pytest.raises(RuntimeError, match="closed"):
        own.submit(wait)
    may_go.set()
    own.close()
    assert first.result() == "first"
    assert not any(thread.name == "closed" for thread in threading.enumerate())


def test_waiting_for_all_goes_on_after_an_interrupt_and_raises_no_error_of_a_call() -> None:
    may_go = threading.Event()

    def fail() -> None:
        may_go.wait(SECONDS)
        raise KeyError("key")

    tasks = [submit(fail) for _ in range(4)]
    timers = [threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)), threading.Timer(0.15, may_go.set)]
    for timer in timers:
        timer.start()
    with pytest.raises(KeyboardInterrupt):
        wait_for_all(tasks)
    assert all(isinstance(task.error, KeyError) for task in tasks)
    wait_for_all(tasks)
