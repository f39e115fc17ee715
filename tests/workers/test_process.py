"""Another interpreter beside this one, in programs of any kind."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from layerstore_core.workers.process import WorkerProcess

pytestmark = pytest.mark.usefixtures("nothing_left_open")


def started(code: str, *descriptors: int | None) -> WorkerProcess:
    process = WorkerProcess.start(["-c", code], descriptors or [None, None, None])
    assert process is not None
    return process


def test_it_gets_the_descriptors_and_ends() -> None:
    ours, theirs = os.pipe()
    process = started(
        "import os; os.write(1, b'here'); os.write(3, b' and there'); os._exit(3)", None, theirs, None, theirs
    )
    os.close(theirs)
    assert process.wait() == 3
    assert os.read(ours, 100) == b"here and there"
    os.close(ours)
    assert (process.wait(), process.returncode) == (3, 3)


def test_descriptors_may_have_any_number() -> None:
    """Of a program that has closed its own, a pipe may be 0 and 1."""
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


def test_it_is_ended_whatever_it_does() -> None:
    process = started("import signal; [signal.signal(n, signal.SIG_IGN) for n in (1, 2, 15)]; signal.pause()")
    os.kill(process.pid, signal.SIGSTOP)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    process.kill()
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


def test_it_may_have_ended_by_itself() -> None:
    process = started("pass")
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    process.kill()
    assert process.wait() == 0


@pytest.mark.parametrize("handler", ["signal.SIG_IGN", "lambda *_: os.waitpid(-1, 0)"])
def test_somebody_else_may_wait_for_it(handler: str) -> None:
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


def test_forks_of_other_threads_do_not_keep_it(tmp_path: Path) -> None:
    """As multiprocessing makes them: `subprocess` waits until they have ended."""
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


def test_what_is_no_interpreter_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    for executable in ("", None, "/usr/sbin/uwsgi"):
        monkeypatch.setattr(sys, "executable", executable)
        assert WorkerProcess.start(["-c", "pass"], [None, None, None]) is None
    monkeypatch.setattr(sys, "executable", "/nowhere/python3")
    with pytest.raises(FileNotFoundError):
        WorkerProcess.start(["-c", "pass"], [None, None, None])


def test_a_kernel_without_descriptors_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> int:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    with pytest.raises(OSError, match="not implemented"):
        started("import signal; signal.pause()")
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
