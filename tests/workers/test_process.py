"""Starting and ending a worker process, in programs of any kind."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from layerstore_core.workers.process import WorkerProcess
from tests.child_processes import children

pytestmark = pytest.mark.usefixtures("nothing_left_open")


def started(code: str, *descriptors: int | None) -> WorkerProcess:
    process = WorkerProcess.start(["-c", code], descriptors or [None, None, None])
    assert process is not None
    return process


def test_a_worker_gets_its_descriptors_and_its_exit_status_is_returned() -> None:
    ours, theirs = os.pipe()
    process = started(
        "import os; os.write(1, b'one'); os.write(3, b' and three'); os._exit(3)", None, theirs, None, theirs
    )
    os.close(theirs)
    assert process.wait() == 3
    assert os.read(ours, 100) == b"one and three"
    os.close(ours)
    assert (process.wait(), process.returncode) == (3, 3)


def test_a_worker_may_get_descriptors_of_any_number() -> None:
    """In a program that has closed its standard streams, a pipe may have the numbers 0 and 1."""
    code = """if True:
        import os, sys
        from layerstore_core.workers.process import WorkerProcess
        os.close(0), os.close(1)
        ours, theirs = os.pipe()
        assert (ours, theirs) == (0, 1)
        process = WorkerProcess.start(["-c", "import os; os.write(0, b'right')"], [theirs, ours, None])
        os.close(theirs)
        assert os.read(ours, 100) == b"right"
        assert process.wait() == 0
    """
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_worker_that_ignores_signals_and_is_stopped_can_be_killed() -> None:
    process = started("import signal; [signal.signal(n, signal.SIG_IGN) for n in (1, 2, 15)]; signal.pause()")
    os.kill(process.pid, signal.SIGSTOP)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    process.kill()
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


def test_killing_a_worker_that_has_ended_keeps_its_exit_status() -> None:
    process = started("pass")
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    process.kill()
    assert process.wait() == 0


@pytest.mark.parametrize("handler", ["signal.SIG_IGN", "lambda *_: os.waitpid(-1, 0)"])
def test_other_code_may_reap_a_worker(handler: str) -> None:
    code = f"""if True:
        import os, signal, time
        from layerstore_core.workers.process import WorkerProcess
        signal.signal(signal.SIGCHLD, {handler})
        process = WorkerProcess.start(["-c", "pass"], [None, None, None])
        time.sleep(1)
        process.kill()
        assert process.wait() in (None, 0)
    """
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_forks_in_other_threads_do_not_delay_the_start_of_a_worker(tmp_path: Path) -> None:
    """As multiprocessing forks: `subprocess` would wait until the forks have ended."""
    code = """if True:
        import os, signal, threading, time
        from layerstore_core.workers.process import WorkerProcess
        def forks():
            while running:
                if (pid := os.fork()) == 0:
                    time.sleep(60)
                    os._exit(0)
                children.append(pid)
                time.sleep(0.002)
        children, running = [], True
        thread = threading.Thread(target=forks)
        thread.start()
        start = time.monotonic()
        for _ in range(30):
            process = WorkerProcess.start(["-c", "import os; os.read(0, 1)"], [None, None, None])
            process.kill()
            process.wait()
        taken = time.monotonic() - start
        running = False
        thread.join()
        for pid in children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        assert children
        assert taken < 50, taken
    """
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=120)


def test_a_program_that_is_no_python_interpreter_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    for executable in ("", None, "/usr/sbin/uwsgi"):
        monkeypatch.setattr(sys, "executable", executable)
        assert WorkerProcess.start(["-c", "pass"], [None, None, None]) is None
    monkeypatch.setattr(sys, "executable", "/nowhere/python3")
    with pytest.raises(FileNotFoundError):
        WorkerProcess.start(["-c", "pass"], [None, None, None])


def test_a_worker_is_ended_if_the_kernel_has_no_pidfd(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> int:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    before = children()
    with pytest.raises(OSError, match="not implemented"):
        started("import signal; signal.pause()")
    assert children() <= before
