"""Another interpreter beside this one: for work that threads of one interpreter would hinder each other at."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, Self

from layerstore_core.base.descriptors import Descriptor, keep

if TYPE_CHECKING:
    import mmap
    import socket

#: Copies of descriptors are made above the numbers that they get in the other process.
_ABOVE: Final = 16
#: After how long without a word from one it is looked at, in seconds.
TIMEOUT: Final = 5


def import_path() -> str:
    """Return the directory from which a worker imports this package: its `sys.path` has the standard library alone."""
    return os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class WorkerProcess:
    """A process that runs Python, and is our child.

    It is not started by `subprocess`: that waits for a pipe to be closed, which a thread's fork(2) at the wrong moment
    (of multiprocessing, say) keeps open. And it is signalled by a descriptor, so that it does not matter to anybody
    where a program ignores its dead children, or waits for all of them.

    Attributes:
        pid: its number.
        parent: the process that has started it.
        returncode: as with `subprocess.Popen`, once it was waited for; `None` where somebody else has done so.
    """

    def __init__(self) -> None:
        self.pid = 0
        self.returncode: int | None = None
        self._pids: list[int] = []
        self._handle: Descriptor | None = None
        #: A forked child has a copy of this object, and is not to end what works for its parent.
        self.parent = os.getpid()

    @classmethod
    def start(cls, arguments: Sequence[str], descriptors: Sequence[int | None]) -> Self | None:
        """Start one.

        Args:
            arguments: of the interpreter. It looks at no environment, and knows the standard library alone.
            descriptors: what it gets as 0, 1, and so on; `None` is the null device. It has to close all others.

        Returns:
            `None` where there is no interpreter to be sure of (a frozen program, or one that has a Python in it, would
            be started as itself), or no second core for it.

        Raises:
            OSError: the system refuses.
        """
        program = sys.executable or ""
        is_python = os.path.basename(program).startswith("python") and not getattr(sys, "frozen", False)
        if not is_python or len(os.sched_getaffinity(0)) < 2:
            return None
        import fcntl

        with ExitStack() as copies:
            actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = []
            made = cls()
            for number, descriptor in enumerate(descriptors):
                if descriptor is None:
                    actions.append((os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0))
                else:
                    copy = Descriptor(fcntl.fcntl, descriptor, fcntl.F_DUPFD_CLOEXEC, _ABOVE)
                    copies.enter_context(copy)
                    actions.append((os.POSIX_SPAWN_DUP2, copy.number, number))
            keep(
                made._pids,
                os.posix_spawn,
                program,
                [program, "-I", "-S", *arguments],
                os.environ,
                file_actions=actions,
                setpgroup=0,  # what a terminal sends is for us
            )
        made.pid = made._pids[0]
        try:
            made._handle = Descriptor(os.pidfd_open, made.pid)
        except (OSError, AttributeError) as error:  # as seen by who has ended it, or an old kernel or Python
            made.end()
            raise OSError(*error.args) from error
        return made

    def is_stopped(self) -> bool:
        """Whether somebody has stopped it (SIGSTOP): it may never go on."""
        handle = self._handle
        if handle is None or handle.number < 0:
            return False
        try:
            return os.waitid(os.P_PIDFD, handle.number, os.WSTOPPED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return False

    def end(self) -> int | None:
        """Kill it, if it has not ended, and wait for that. A second call does what the first did not come to.

        Returns:
            What `returncode` is then.
        """
        try:
            self.kill()
        finally:
            self.wait()
        return self.returncode

    def kill(self) -> None:
        """Kill it, if it has not ended."""
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
        """Wait for its end, and forget it. A second call does nothing."""
        if self._pids and os.getpid() == self.parent:
            # Should a signal handler raise meanwhile, it is waited for when this object goes.
            self.returncode = _reap(self._pids[0])
            del self._pids[:]
        if self._handle is not None:
            self._handle.close()
        return self.returncode

    def __del__(self) -> None:
        self.end()


def has_enough_workers(processes: Iterable[WorkerProcess]) -> bool:
    """Whether this program has as many as it has pairs of cores. In a forked child, those of the parent do not count."""
    own = [process for process in list(processes) if process.parent == os.getpid()]
    return len(own) >= max(1, len(os.sched_getaffinity(0)) // 2)


def start_with_memory(
    size: int, arguments: Sequence[str], descriptors: Sequence[int | None], *, timeout: int = 0
) -> tuple[WorkerProcess, socket.socket, mmap.mmap] | None:
    """Start a process that has a socket to this one, and memory in common with it.

    Args:
        size: of the memory, in bytes.
        arguments: as for `WorkerProcess.start`.
        descriptors: what it gets as 2, 3, and so on. 0 is the socket (`SOCK_SEQPACKET`), 1 the memory.
        timeout: after how many seconds it gives up to wait for a message; 0 for never.

    Returns:
        The process; our end of the socket, at which reading and writing give up after `TIMEOUT`; the memory; `None` as `WorkerProcess.start`.

    Raises:
        OSError: the system refuses.
        AttributeError: Python has no `memfd_create`, as it was built for an old C library.
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
    except ChildProcessError:  # somebody else has
        return None
