"""Another interpreter beside this one: for work that threads of one interpreter would hinder each other at."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    import mmap
    import socket

#: Copies of descriptors are made above the numbers that they get in the other process.
_ABOVE: Final = 16


class ProcessBeside:
    """A process that runs Python, and is our child.

    It is not started by `subprocess`: that waits for a pipe to be closed, which a thread's fork(2) at the wrong moment
    (of multiprocessing, say) keeps open. And it is signalled by a descriptor, so that it does not matter to anybody
    where a program ignores its dead children, or waits for all of them.

    Attributes:
        pid: its number.
        returncode: as with `subprocess.Popen`, once it was waited for; `None` where somebody else has done so.
    """

    def __init__(self, pid: int, handle: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._handle = handle

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
            for number, descriptor in enumerate(descriptors):
                if descriptor is None:
                    actions.append((os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0))
                else:
                    copy = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _ABOVE)
                    copies.callback(os.close, copy)
                    actions.append((os.POSIX_SPAWN_DUP2, copy, number))
            pid = os.posix_spawn(
                program,
                [program, "-I", "-S", *arguments],
                os.environ,
                file_actions=actions,
                setpgroup=0,  # what a terminal sends is for us
            )
        try:
            return cls(pid, os.pidfd_open(pid))
        except (OSError, AttributeError) as error:  # as seen by who has ended it, or an old kernel or Python
            os.kill(pid, signal.SIGKILL)
            _reap(pid)
            raise OSError(*error.args) from error

    def kill(self) -> None:
        """End it, if it has not ended."""
        if self._handle < 0:
            return
        try:
            signal.pidfd_send_signal(self._handle, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def wait(self) -> int | None:
        """Wait for its end, and forget it. A second call does nothing."""
        if self._handle >= 0:
            self.returncode = _reap(self.pid)  # an interrupt may come meanwhile: then it is not waited for yet
            handle, self._handle = self._handle, -1
            os.close(handle)
        return self.returncode


def start_with_memory(
    size: int, arguments: Sequence[str], descriptors: Sequence[int | None], *, patience: int = 0
) -> tuple[ProcessBeside, socket.socket, mmap.mmap] | None:
    """Start a process that has a socket to this one, and memory in common with it.

    Args:
        size: of the memory, in bytes.
        arguments: as for `ProcessBeside.start`.
        descriptors: what it gets as 2, 3, and so on. 0 is the socket (`SOCK_SEQPACKET`), 1 the memory.
        patience: after how many seconds it gives up to wait for a message; 0 for never.

    Returns:
        The process, our end of the socket, the memory; `None` as `ProcessBeside.start`.

    Raises:
        OSError: the system refuses.
        AttributeError: Python has no `memfd_create`, as it was built for an old C library.
    """
    import mmap
    import socket
    import struct

    with ExitStack() as always, ExitStack() as undo:
        memory_fd = os.memfd_create("layerstore", os.MFD_CLOEXEC)
        always.callback(os.close, memory_fd)
        os.truncate(memory_fd, size)
        memory = mmap.mmap(memory_fd, size)
        undo.callback(memory.close)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        always.enter_context(theirs)
        undo.enter_context(ours)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", patience, 0))
        process = ProcessBeside.start(arguments, [theirs.fileno(), memory_fd, *descriptors])
        if process is None:
            return None
        undo.pop_all()
        return process, ours, memory


def _reap(pid: int) -> int | None:
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:  # somebody else has
        return None
