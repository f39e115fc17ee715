"""Sharing directories among threads: all are worked on, and after an error no thread works any more."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

import pytest

from layerstore_core.base.threads import cores, submit
from layerstore_core.tree import share as share_module
from layerstore_core.tree.share import share

Part = Callable[[list[int], int], list[int]]


def test_everything_that_is_found_on_the_way_is_worked_on() -> None:
    """Each number has two below it, up to a limit; each part is in one thread at a time."""
    done: list[int] = []
    parts: list[threading.Lock] = []

    def new_part() -> Part:
        busy = threading.Lock()
        parts.append(busy)

        def work(numbers: list[int], names: int) -> list[int]:
            assert names > 0
            assert busy.acquire(blocking=False)
            found = [below for number in numbers for below in (2 * number, 2 * number + 1) if below < 1000]
            done.extend(numbers)
            busy.release()
            return found

        return work

    waiting = [1]
    share(waiting, new_part, lambda found: found, bytearray(1))
    assert waiting == []
    assert sorted(done) == list(range(1, 1000))
    assert 0 < len(parts) <= cores() + 1


def test_the_number_of_parts_is_bounded_on_a_machine_of_many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part has descriptors open, of which a process may have only so many."""
    parts = []

    def new_part() -> Part:
        parts.append(1)
        return lambda numbers, names: []

    monkeypatch.setattr(share_module, "cores", lambda: 500)
    share(list(range(1000)), new_part, lambda found: found, bytearray(1))
    assert len(parts) == 7


@pytest.mark.parametrize("where", ["part", "take"])
def test_after_an_error_all_parts_have_ended(where: str) -> None:
    stop = bytearray(1)
    working: list[int] = []

    def new_part() -> Part:
        def work(numbers: list[int], names: int) -> list[int]:
            if where == "part" and 50 in numbers:
                raise OSError(28, "No space left on device")
            working.append(1)
            until = time.monotonic() + 0.05 * (50 not in numbers)
            while time.monotonic() < until and not stop[0]:
                time.sleep(0.001)
            working.pop()
            return numbers

        return work

    def take(numbers: list[int]) -> list[int]:
        if where == "take":
            raise OSError(28, "No space left on device")
        return []

    with pytest.raises(OSError, match="No space left"):
        share(list(range(100)), new_part, take, stop)
    assert (stop[0], working) == (1, [])


def test_an_interrupt_is_raised_once_all_parts_have_ended() -> None:
    stop = bytearray(1)
    ended: list[bool] = []

    def work(numbers: list[int], names: int) -> list[int]:
        if numbers == [1]:
            return [2, 3]
        while not stop[0]:
            time.sleep(0.001)
        ended.append(True)
        return []

    def take(found: list[int]) -> list[int]:
        if found:
            timer = threading.Timer(0.05, os.kill, (os.getpid(), 2))
            timer.start()
        return found

    with pytest.raises(KeyboardInterrupt):
        share([1], lambda: work, take, stop)
    assert ended == [True, True] if cores() > 1 else ended


def test_an_interrupt_between_submitting_and_storing_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The part that was submitted then is at work, and uses descriptors."""
    stop, began, working = bytearray(1), threading.Event(), []

    def work(numbers: list[int], names: int) -> list[int]:
        working.append(1)
        began.set()
        while not stop[0]:
            time.sleep(0.001)
        time.sleep(0.05)
        working.pop()
        return []

    def interrupted(call: Callable[[], list[int]]) -> None:
        submit(call)
        began.wait(10)
        raise KeyboardInterrupt

    monkeypatch.setattr(share_module, "submit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        share([1], lambda: work, lambda found: found, stop)
    assert working == []
