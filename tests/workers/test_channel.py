"""Messages between a worker and its parent, and how a worker ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from layerstore_core.workers import channel, process
from layerstore_core.workers.channel import Worker
from tests.workers.worker_programs import READY

ECHO = (
    READY
    + """
from multiprocessing import connection
import sys
while data := os.read(0, 1 << 20):
    os.write(0, data)
"""
)


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})


def start(code: str, monkeypatch: pytest.MonkeyPatch) -> Worker:
    monkeypatch.setattr(channel, "_CODE", code)
    worker = Worker.start("nothing", [])
    assert worker is not None
    return worker


@pytest.mark.parametrize("message", [None, b"", [("name", b"\xff", True, -1)] * 20_000, "\udcff"])
def test_a_worker_gets_and_sends_messages_of_any_value(
    message: object, monkeypatch: pytest.MonkeyPatch, nothing_left_open: None
) -> None:
    with start(ECHO, monkeypatch) as worker:
        assert worker.receive() == channel.READY
        worker.send(message)
        assert worker.receive() == message


HAS_SIGPIPE = """
import os, signal, sys
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
os.sched_getaffinity = lambda _: {0, 1}
from layerstore_core.workers import channel
from tests.workers.worker_programs import READY
channel._CODE = READY + "os._exit(0)"
with channel.Worker.start("nothing", []) as worker:
    worker.receive()
    try:
        worker.receive()
    except EOFError:
        pass
    try:
        worker.send(b"x")
    except OSError:
        sys.exit(42)
"""


def test_sending_to_an_ended_worker_is_an_error_though_sigpipe_would_kill_the_program() -> None:
    done = subprocess.run([sys.executable, "-c", HAS_SIGPIPE], check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == 42


@pytest.mark.parametrize("at", ["kill", "wait"])
def test_a_worker_can_be_ended_again_after_an_interrupt(
    at: str, monkeypatch: pytest.MonkeyPatch, nothing_left_open: None
) -> None:
    worker = start(ECHO, monkeypatch)
    real, interrupts = getattr(process, "_reap" if at == "wait" else "signal"), [KeyboardInterrupt]

    def interrupted(*arguments: object) -> object:
        if interrupts:
            raise interrupts.pop()
        return real(*arguments) if at == "wait" else real.pidfd_send_signal(*arguments)

    if at == "wait":
        monkeypatch.setattr(process, "_reap", interrupted)
    else:
        monkeypatch.setattr(signal, "pidfd_send_signal", interrupted)
    with pytest.raises(KeyboardInterrupt), worker:
        pass
    worker.__exit__()
    with pytest.raises(ProcessLookupError):
        os.kill(worker._process.pid, 0)


FORKS_AND_ENDS = """
import os, sys
os.sched_getaffinity = lambda _: {0, 1}
from layerstore_core.diff import compare_worker
from layerstore_core.workers import channel
channel._CODE = channel._CODE.replace(
    "work(*", "import layerstore_core.workers.channel as h; h._CHECK_PARENT_EVERY = 0.1; work(*"
)
here = os.open("/", os.O_RDONLY)
worker = compare_worker.start(here, here)
worker.receive()
print(worker._process.pid, flush=True)
if os.fork():
    os._exit(0)
os.close(1)
os.read(0, 1)
"""


def test_a_worker_ends_with_its_parent_though_a_fork_of_the_parent_lives() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", FORKS_AND_ENDS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.read())
        deadline = time.monotonic() + 30
        stat = Path(f"/proc/{worker}/stat")
        while stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z" and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"
