"""Children of the kit: what they report, how they end, and that what they leave behind stops nobody."""

from __future__ import annotations

import os
import signal
import time

import pytest

from layerstore_core.conformance import processes
from layerstore_core.conformance.processes import Child, Report, die, in_child


def test_lines_and_errors_are_told_apart() -> None:
    def work(report: Report) -> None:
        report("one")
        report("a\udcff")
        raise ValueError("no")

    ended = in_child(work)
    assert ended.reported == ["one", "a\udcff"]
    assert ended.error.startswith("Traceback")
    assert ended.error.endswith("ValueError: no")
    assert not ended.killed


def test_more_than_a_pipe_holds() -> None:
    def work(report: Report) -> None:
        for number in range(20_000):
            report(f"line {number}")

    assert in_child(work).reported == [f"line {number}" for number in range(20_000)]


def test_killed_child_has_reported_what_it_did_before() -> None:
    def work(report: Report) -> None:
        report("begun")
        die()

    ended = in_child(work)
    assert (ended.reported, ended.killed, ended.error) == (["begun"], True, "")


@pytest.mark.parametrize("kill", [False, True])
def test_server_that_a_child_has_forked_stops_nobody(kill: bool) -> None:
    """It has the child's pipe, since it has not called exec."""

    def work(report: Report) -> None:
        server = os.fork()
        if server == 0:
            os.setsid()
            signal.alarm(20)  # it would be waited for until then, and be gone
            time.sleep(60)
        report(str(server))
        if kill:
            die()

    ended = in_child(work)
    server = int(ended.reported[0])
    with open(f"/proc/{server}/stat") as status:
        assert status.read().rpartition(")")[2].split()[0] in "RS"
    os.kill(server, signal.SIGKILL)
    assert ended.killed == kill


def test_child_that_does_not_end_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "TIME_LIMIT", 0.2)
    monkeypatch.setattr(processes, "GRACE", 0.1)

    def work(_: Report) -> None:
        signal.setitimer(signal.ITIMER_REAL, 30)
        time.sleep(60)

    child = Child(work)
    try:
        with pytest.raises(AssertionError, match=r"a process did not end within 0\.2 seconds"):
            child.wait()
    finally:
        os.kill(child.pid, signal.SIGKILL)
        os.waitpid(child.pid, 0)
