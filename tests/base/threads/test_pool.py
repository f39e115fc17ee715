"""The threads of pools: idle ones, forks, the end of the program, refusals of the system."""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from layerstore_core.base.threads import Dropped, Lane, Threads, pool, rest, submit
from tests.base.threads.ending import SECONDS, await_that, run_program, within_seconds


def test_threads_end_when_there_was_no_work_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_IDLE", 0.05)
    rest()
    with Lane("short") as lane:
        for _ in range(3):
            lane.put(lambda: None)
            lane.drain()
            await_that(lambda: not any(thread.name == "layerstore-pool" for thread in threading.enumerate()))


def test_a_lane_can_be_used_while_its_threads_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_IDLE", 0.0001)
    done: list[int] = []

    def run() -> None:
        with Lane("quick") as lane:
            for number in range(300):
                lane.put(lambda number=number: done.append(number))  # type: ignore[misc]
                if number % 3 == 0:
                    lane.drain()
                    time.sleep(0.0001 * (number % 4))
            lane.drain()

    within_seconds(run)
    assert done == list(range(300))


def test_threads_that_rest_leave_the_process_with_one() -> None:
    run = run_program(
        "with Lane('x') as lane:\n"
        "    lane.put(int); lane.drain()\n"
        "submit(int).result()\n"
        "with Lane('y', waits=True) as lane:\n"
        "    lane.put(int); lane.drain()\n"
        "rest()\n"
        "print(threading.active_count())\n"
    )
    assert (run.stdout, run.stderr) == ("1\n", "")


def test_where_no_thread_can_be_started_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    rest()

    def refuse(_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(pool.Thread, "start", refuse)
    with Lane("none", waits=True) as lane:
        with pytest.raises(OSError, match="the limit of processes"):
            lane.put(lambda: None)
        monkeypatch.undo()
        lane.drain()  # the call was kept


def in_child(work: Callable[[], object]) -> None:
    """Fork, and do something in the child; fail if that fails or hangs."""
    pid = os.fork()
    if not pid:
        try:
            signal.alarm(SECONDS)
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0


def test_a_forked_child_has_no_threads_and_starts_its_own(waits: bool) -> None:
    began, may_go = threading.Event(), threading.Event()
    unused = Lane("unused", waits=waits)

    def wait() -> None:
        began.set()
        may_go.wait(SECONDS)

    with Lane("busy", waits=waits) as busy, Threads("own", 1) as own:
        busy.put(wait)
        busy.put(lambda: None)
        task = own.submit(lambda: may_go.wait(SECONDS))
        began.wait(SECONDS)

        def child() -> None:
            with pytest.raises(RuntimeError, match="forked"):
                busy.put(lambda: None)
            with pytest.raises(RuntimeError, match="forked"):
                busy.drain()
            busy.close()
            with pytest.raises(Dropped, match="forked"):
                task.result()
            with pytest.raises(RuntimeError, match="forked"):
                own.submit(lambda: None)
            own.close()
            seen: list[int] = []
            for lane in (unused, Lane("new", waits=waits)):
                with lane:
                    lane.put(lambda: seen.append(1))
                    lane.drain()
            assert seen == [1, 1]
            assert submit(lambda: 3).result() == 3

        in_child(child)
        may_go.set()
        busy.drain()
        assert task.result()
    unused.close()


def test_forks_in_the_middle_of_much_work() -> None:
    with Lane("busy", depth=8) as lane:
        for number in range(10):
            for _ in range(20):
                lane.put(lambda: None)

            def child(number: int = number) -> None:
                assert submit(lambda: number).result() == number
                with Lane("child") as mine:
                    mine.put(lambda: None)
                    mine.drain()
                lane.close()

            in_child(child)
        lane.drain()


def test_at_the_end_of_the_program_the_call_that_runs_is_finished(tmp_path: Path) -> None:
    file = tmp_path / "made"
    run = run_program(
        "def call():\n"
        "    time.sleep(0.2)\n"
        f"    open({str(file)!r}, 'a').write('x')\n"
        "lane = Lane('x')\n"
        "lane.put(call); lane.put(call)\n"
        "time.sleep(0.05)\n"
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    assert file.read_text() == "x"  # the second one had not begun


def test_a_call_that_does_not_end_does_not_hold_the_program() -> None:
    began = time.monotonic()
    run = run_program(
        "lane = Lane('x'); lane.put(lambda: time.sleep(60))\n"
        "own = Lane('y', waits=True); own.put(lambda: time.sleep(60))\n"
        "Threads('z', 1).submit(lambda: time.sleep(60))\n"
        "time.sleep(0.05)\n"
        "print('end')\n"
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "end\n", "")
    assert time.monotonic() - began < 15


def test_calls_at_the_exit_of_the_program_are_made() -> None:
    run = run_program(
        "import atexit\n"
        "def use():\n"
        "    with Lane('x') as lane:\n"
        "        lane.put(lambda: print('made')); lane.drain()\n"
        "    print(submit(lambda: 4).result())\n"
        "atexit.register(use)\n"
    )
    assert (run.stdout, run.stderr) == ("made\n4\n", "")
    before = run_program(
        "import atexit, importlib, sys\n"
        "for name in [name for name in sys.modules if name.startswith('layerstore_core')]: del sys.modules[name]\n"
        "def use():\n"
        "    print(threads.submit(lambda: 4).result())\n"
        "atexit.register(use)\n"
        "import layerstore_core.base.threads as threads\n"
        "threads.submit(int).result()\n"
    )
    assert (before.stdout, before.stderr) == ("4\n", "")
