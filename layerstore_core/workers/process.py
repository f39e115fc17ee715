"""A worker process: a second Python interpreter, for work in which threads would compete for the GIL."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, Self

from layerstore_core.base.descriptors import Descriptor, append_result

if TYPE_CHECKING:
    import mmap
    import socket

#: Descriptors are copied to this number or above, so that no copy has a number that the worker is to use.
_FIRST_COPY: Final = 16
#: Seconds to wait for a worker's message. After that the worker's state is checked.
TIMEOUT: Final = 5


def import_path() -> str:
    """Return the directory from which a worker imports this package: its `sys.path` has the standard library alone."""
    return os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class WorkerProcess:
    """A child process that runs Python.

    It is not started by `subprocess`, which waits until a pipe is closed. If another thread forks at the wrong moment
    (as multiprocessing does), the fork keeps that pipe open. The process is signalled through a pidfd. So this also
    works in a program that sets SIGCHLD to SIG_IGN, or reaps all its children.

    Attributes:
        pid: the process ID.
        parent: the ID of the process that started it.
        returncode: the exit status as in `subprocess.Popen`, once the process has been waited for. `None` if other code
            has reaped it.
    """

    def __init__(self) -> None:
        self.pid = 0
        self.returncode: int | None = None
        self._pids: list[int] = []
        self._handle: Descriptor | None = None
        #: A forked child has a copy of this object. It must not end the worker, which belongs to the parent.
        self.parent = os.getpid()

    @classmethod
    def start(cls, arguments: Sequence[str], descriptors: Sequence[int | None]) -> Self | None:
        """Start a worker process.

        Args:
            arguments: the interpreter's arguments. The interpreter ignores the environment and imports from the
                standard library only.
            descriptors: the descriptors that the process gets as 0, 1, and so on. `None` is the null device.
                The process itself has to close all other descriptors.

        Returns:
            The process. `None` if `sys.executable` is not surely a Python interpreter: a frozen program, or a program
            that embeds Python, would start itself again. Also `None` if there is no second core.

        Raises:
            OSError: the system refuses to start a process.
        """
        program = sys.executable or ""
        is_python = os.path.basename(program).startswith("python") and not getattr(sys, "frozen", False)
        if not is_python or len(os.sched_getaffinity(0)) < 2:
            return None
        import fcntl

        with ExitStack() as copies:
            actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = []
            worker = cls()
            for number, descriptor in enumerate(descriptors):
                if descriptor is None:
                    actions.append((os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0))
                else:
                    copy = Descriptor(fcntl.fcntl, descriptor, fcntl.F_DUPFD_CLOEXEC, _FIRST_COPY)
                    copies.enter_context(copy)
                    actions.append((os.POSIX_SPAWN_DUP2, copy.number, number))
            append_result(
                worker._pids,
                os.posix_spawn,
                program,
                [program, "-I", "-S", *arguments],
                os.environ,
                file_actions=actions,
                setpgroup=0,  # so that signals from a terminal reach this program only
            )
        worker.pid = worker._pids[0]
        try:
            worker._handle = Descriptor(os.pidfd_open, worker.pid)
        except (OSError, AttributeError) as error:  # reaped already, or an old kernel or Python
            worker.end()
            raise OSError(*error.args) from error
        return worker

    def is_stopped(self) -> bool:
        """Return whether the process is stopped (SIGSTOP). It may never continue."""
        handle = self._handle
        if handle is None or handle.number < 0:
            return False
        try:
            return os.waitid(os.P_PIDFD, handle.number, os.WSTOPPED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return False

    def end(self) -> int | None:
        """Kill the process, if it still runs, and wait for its end.

        If the first call was interrupted, a second call does the rest.

        Returns:
            The `returncode`.
        """
        try:
            self.kill()
        finally:
            self.wait()
        return self.returncode

    def kill(self) -> None:
        """Kill the process, if it still runs."""
        if not self._pids or os.getpid() != self.parent:
            return
        try:
            if self._handle is not None:
                signal.pidfd_send_signal(self._handle.number, signal.SIGKILL)
            else:
                os.kill(self._pids[0], signal.SIGKILL)
        except ProcessLookupError:
            pass

    def wait(self) -> int | None:
        """Wait for the end of the process, and close its pidfd. A second call does nothing."""
        if self._pids and os.getpid() == self.parent:
            # If a signal handler raises meanwhile, the process is waited for when this object is deleted.
            self.returncode = _reap(self._pids[0])
            del self._pids[:]
        if self._handle is not None:
            self._handle.close()
        return self.returncode

    def __del__(self) -> None:
        self.end()


def has_enough_workers(processes: Iterable[WorkerProcess]) -> bool:
    """Return whether this program has at least one worker for each pair of cores.

    In a forked child, the parent's workers do not count.
    """
    own = [process for process in list(processes) if process.parent == os.getpid()]
    return len(own) >= max(1, len(os.sched_getaffinity(0)) // 2)


def start_with_memory(
    size: int, arguments: Sequence[str], descriptors: Sequence[int | None], *, timeout: int = 0
) -> tuple[WorkerProcess, socket.socket, mmap.mmap] | None:
    """Start a worker process that shares a socket and memory with this one.

    Args:
        size: the size of the shared memory, in bytes.
        arguments: as for `WorkerProcess.start`.
        descriptors: the descriptors that the worker gets as 2, 3, and so on. 0 is the socket (`SOCK_SEQPACKET`), 1 the
            memory.
        timeout: the seconds after which the worker's wait for a message fails; 0 for no limit.

    Returns:
        The process, this end of the socket and the memory. Reading from and writing to the socket fail after `TIMEOUT`
        seconds. `None` as from `WorkerProcess.start`.

    Raises:
        OSError: the system refuses to start a process, or to make the socket or the memory.
        AttributeError: Python has no `memfd_create`, because it was built for an old C library.
    """
    import mmap
    import socket
    import struct

    with ExitStack() as always, ExitStack() as undo:
        memory_fd = always.enter_context(Descriptor(os.memfd_create, "layerstore", os.MFD_CLOEXEC))
        os.truncate(memory_fd, size)
        memory = mmap.mmap(memory_fd, size)
        undo.callback(memory.close)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        always.enter_context(theirs)
        undo.enter_context(ours)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", timeout, 0))
        for limit in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            ours.setsockopt(socket.SOL_SOCKET, limit, struct.pack("@ll", TIMEOUT, 0))
        process = WorkerProcess.start(arguments, [theirs.fileno(), memory_fd, *descriptors])
        if process is None:
            return None
        undo.pop_all()
        return process, ours, memory


def _reap(pid: int) -> int | None:
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:  # other code has reaped it
        return None
