"""Calls of a lane: order, first errors, bounded queues, closing, deletion, interrupts, one thread for many lanes."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from functools import partial
from unittest import mock

import pytest

from layerstore_core.base.threads import Lane, rest, submit
from layerstore_core.base.threads.pool import Pool
from tests.base.threads.ending import SECONDS, await_that, run_program, within_seconds


def test_calls_are_made_in_order_and_one_at_a_time_in_other_threads(waits: bool) -> None:
    seen: list[int] = []
    at_work = threading.Lock()
    here = threading.get_ident()

    def call(number: int) -> None:
        assert at_work.acquire(blocking=False)
        assert threading.get_ident() != here
        if number % 50 == 0:
            time.sleep(0.001)
        seen.append(number)
        at_work.release()

    with Lane("numbers", waits=waits) as lane:
        for number in range(500):
            lane.put(lambda number=number: call(number))  # type: ignore[misc]
        lane.drain()
        assert seen == list(range(500))
        lane.put(lambda: call(500))
        lane.drain()
    assert seen == list(range(501))


@pytest.mark.parametrize("depth", [1, 2, 7])
def test_as_many_calls_are_unfinished_as_the_lane_is_deep(depth: int, waits: bool) -> None:
    may_go = threading.Semaphore(0)
    done: list[int] = []

    def call(number: int) -> None:
        may_go.acquire()
        done.append(number)

    with Lane("slow", depth=depth, waits=waits) as lane:
        for number in range(30):
            if number >= depth:
                may_go.release()
            lane.put(lambda number=number: call(number))  # type: ignore[misc]
            assert len(done) >= number + 1 - depth
        assert len(done) == 30 - depth
        for _ in range(depth):
            may_go.release()
        lane.drain()
    assert done == list(range(30))


def test_a_call_is_forgotten_before_the_next_one_fits(waits: bool) -> None:
    class Memory:
        pass

    with Lane("memory", depth=1, waits=waits) as lane:
        for _ in range(200):
            memory = Memory()
            known = weakref.ref(memory)
            lane.put(lambda memory=memory: None)  # type: ignore[misc]
            del memory
            lane.drain()
            assert known() is None


@pytest.mark.parametrize("calls", [1, 3, 100])
def test_the_first_error_is_raised_and_no_call_is_made_after_it(calls: int, waits: bool) -> None:
    made: list[int] = []

    def call(number: int) -> None:
        made.append(number)
        raise OSError(28, f"No space left for {number}")

    def run() -> None:
        with Lane("full", waits=waits) as lane:
            for number in range(calls):
                lane.put(lambda number=number: call(number))  # type: ignore[misc]
            lane.drain()

    with pytest.raises(OSError, match="No space left for 0"):
        run()
    assert made == [0]


def test_an_error_is_raised_by_every_later_call_until_the_lane_is_closed(waits: bool) -> None:
    def fail() -> None:
        raise KeyError("first")

    with Lane("failing", waits=waits) as lane:
        lane.put(fail)
        for _ in range(3):
            with pytest.raises(KeyError, match="first"):
                lane.drain()
            with pytest.raises(KeyError, match="first"):
                lane.put(lambda: None)
    lane.close()
    with pytest.raises(RuntimeError, match="the lane failing"):
        lane.put(lambda: None)


def test_closing_drops_what_has_not_begun_and_waits_for_what_runs(waits: bool) -> None:
    began, may_go, made = threading.Event(), threading.Event(), list[str]()

    def first() -> None:
        began.set()
        may_go.wait(SECONDS)
        made.append("first")

    lane = Lane("closed", waits=waits)
    lane.put(first)
    lane.put(lambda: made.append("second"))
    began.wait(SECONDS)
    threading.Timer(0.05, may_go.set).start()
    lane.close()
    assert made == ["first"]
    lane.close()
    assert made == ["first"]


def test_closing_hides_no_error_of_the_block_and_raises_none_of_a_call(waits: bool) -> None:
    def fail() -> None:
        raise KeyError("in the call")

    with Lane("quiet", waits=waits) as lane:
        lane.put(fail)

    def run() -> None:
        with Lane("quiet", waits=waits) as lane:
            lane.put(fail)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run()


def test_an_abandoned_lane_ends_by_itself(waits: bool) -> None:
    began, may_go, made = threading.Event(), threading.Event(), list[str]()

    def first() -> None:
        began.set()
        may_go.wait(SECONDS)
        made.append("first")

    lane = Lane("abandoned", waits=waits)
    lane.put(first)
    lane.put(lambda: made.append("second"))
    began.wait(SECONDS)
    known = weakref.ref(lane)
    del lane
    gc.collect()
    assert known() is None
    may_go.set()
    await_that(lambda: made)
    await_that(lambda: not any(thread.name == "abandoned" for thread in threading.enumerate()))
    assert made == ["first"]


def test_a_lane_that_its_own_call_refers_to_is_deleted_after_an_error() -> None:
    class Owner:
        def __init__(self) -> None:
            self.lane = Lane("cycle")

        def fail(self) -> None:
            raise KeyError

        def run(self) -> None:
            self.lane.put(self.fail)
            self.lane.drain()

    owner = Owner()
    known = weakref.ref(owner)
    with pytest.raises(KeyError):
        owner.run()
    del owner
    gc.collect()
    assert known() is None


def test_an_error_keeps_nothing_that_calls_have_used(waits: bool) -> None:
    class Memory(bytearray):
        pass

    def refuse(_: memoryview) -> None:
        raise OSError(28, "No space left on device")

    def fail() -> weakref.ref[Memory]:
        memory = Memory(b"x")
        with Lane("failing", waits=waits) as lane:
            lane.put(partial(refuse, memoryview(memory)))
            with pytest.raises(OSError, match="space"):
                lane.drain()
        with pytest.raises(OSError, match="space"):
            submit(partial(refuse, memoryview(memory))).result()
        rest()  # a moment after a call is done, its thread still refers to it
        return weakref.ref(memory)

    gc.collect()
    gc.disable()
    try:
        assert fail()() is None
    finally:
        gc.enable()


def test_lanes_that_the_collector_closes_in_any_thread_block_nobody(one_core: None) -> None:
    class Closing:
        """An object like a file: the garbage collector closes it."""

        def __init__(self) -> None:
            self.lane = Lane("collected")
            self.itself = self

        def __del__(self) -> None:
            self.lane.close()

    def call(closing: Closing) -> None:
        gc.collect()

    def run() -> None:
        with Lane("collecting") as lane:
            for _ in range(50):
                closing = Closing()
                closing.lane.put(lambda closing=closing: call(closing))  # type: ignore[misc]
                del closing
                lane.put(gc.collect)
            lane.drain()

    within_seconds(run)


def test_many_lanes_share_one_thread_without_a_deadlock(one_core: None) -> None:
    lanes = [Lane(f"lane {number}", depth=2) for number in range(40)]
    seen: list[list[int]] = [[] for _ in lanes]
    in_pool: set[str] = set()

    def call(index: int, number: int) -> None:
        in_pool.add(threading.current_thread().name)
        assert sum(thread.name == "layerstore-pool" for thread in threading.enumerate()) == 1
        seen[index].append(number)

    def run() -> None:
        for number in range(20):
            for index, lane in enumerate(lanes):
                lane.put(lambda index=index, number=number: call(index, number))  # type: ignore[misc]
        for lane in lanes:
            lane.drain()
            lane.close()

    within_seconds(run)
    assert seen == [list(range(20))] * len(lanes)
    assert in_pool == {"layerstore-pool"}


def test_a_lane_that_waits_holds_no_thread_of_the_pool(one_core: None) -> None:
    may_go = threading.Event()

    def run() -> None:
        with Lane("pipe", waits=True) as waiting, Lane("hash") as lane:
            waiting.put(lambda: may_go.wait(SECONDS))
            done: list[int] = []
            for number in range(20):
                lane.put(lambda number=number: done.append(number))  # type: ignore[misc]
            lane.drain()
            assert len(done) == 20
            may_go.set()
            waiting.drain()

    within_seconds(run)


def test_lanes_take_turns_where_one_has_more_to_do(one_core: None) -> None:
    may_go, order = threading.Event(), list[str]()
    with Lane("first", depth=50) as first, Lane("second") as second:
        first.put(lambda: may_go.wait(SECONDS))
        for _ in range(40):
            first.put(lambda: order.append("first"))
        second.put(lambda: order.append("second"))
        may_go.set()
        second.drain()
        first.drain()
    assert order.index("second") < 5
    assert len(order) == 41


def test_a_thread_goes_on_with_a_lane_while_nothing_else_waits() -> None:
    """The pool is asked for one thread, and no other one is woken."""
    may_go, seen = threading.Event(), []
    with (
        Lane("calls", depth=20) as lane,
        mock.patch.object(Pool, "schedule", autospec=True, side_effect=Pool.schedule) as asked,
    ):
        lane.put(may_go.wait)
        for number in range(15):
            lane.put(partial(seen.append, number))
        may_go.set()
        lane.drain()
    assert seen == list(range(15))
    assert asked.call_count == 1


def test_a_call_of_the_pool_may_not_wait_for_another_one() -> None:
    with Lane("outer") as outer, Lane("inner") as inner:
        for work in (lambda: inner.put(lambda: None), inner.drain, lambda: submit(lambda: None).result()):
            with pytest.raises(RuntimeError, match="must not wait"):
                submit(work).result()
        outer.put(lambda: outer.put(lambda: None))
        with pytest.raises(RuntimeError, match="must not wait"):
            outer.drain()


INTERRUPTED = """
made = []
inside = False
def handle(*_):
    global inside
    if inside:
        inside = False
        raise KeyboardInterrupt
signal.signal(signal.SIGINT, handle)
def call(number):
    time.sleep(0.01)
    made.append(number)
def interrupt():
    for _ in range({signals}):
        time.sleep(0.017)
        os.kill(os.getpid(), signal.SIGINT)
lane = Lane("interrupted", depth=2, waits={waits})
threading.Thread(target=interrupt, daemon=True).start()
put = caught = 0
while put < 20 or caught < {signals}:
    try:
        inside = True
        lane.put(lambda number=put: call(number))
        inside = False
        put += 1
        inside = True
        if put % 7 == 0:
            lane.drain()
        inside = False
    except KeyboardInterrupt:
        caught += 1
lane.drain()
lane.close()
# An interrupt may come after a call was put, and before `put` is counted: then the call is made twice.
print(sorted(set(made)) == list(range(put)), made == sorted(made), len(made) - put <= caught)
"""


def test_a_lane_can_be_used_after_interrupts(waits: bool) -> None:
    run = run_program(INTERRUPTED.format(signals=8, waits=waits))
    assert (run.stdout, run.stderr) == ("True True True\n", "")


def test_an_interrupt_ends_the_block_after_the_call_that_runs(waits: bool) -> None:
    run = run_program(
        "made = []\n"
        "def call():\n"
        "    time.sleep(0.3)\n"
        "    made.append(1)\n"
        "threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()  # while it is being closed\n"
        "try:\n"
        f"    with Lane('x', depth=2, waits={waits}) as lane:\n"
        "        while True:\n"
        "            lane.put(call)\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted', len(made))\n"
    )
    assert (run.stdout, run.stderr) == ("interrupted 1\n", "")


def test_waiting_for_a_task_can_be_interrupted() -> None:
    run = run_program(
        "threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "task = submit(lambda: time.sleep(0.4) or 5)\n"
        "try:\n"
        "    task.result()\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted', task.result())\n"
    )
    assert (run.stdout, run.stderr) == ("interrupted 5\n", "")
