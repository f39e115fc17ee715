"""A worker process that makes files: start it, send it files, read the outcomes, end it.

The worker is this interpreter with one stand-alone program (`unpack/make_files.py`). Of this process's descriptors it
has only its socket and the shared memory, and it has no locks.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, Self
from weakref import WeakSet

from layerstore_core.log import logger
from layerstore_core.unpack import make_files
from layerstore_core.unpack.make_files import FileToMake, Order, Outcome
from layerstore_core.workers.process import WorkerProcess, has_enough_workers, start_with_memory

if TYPE_CHECKING:
    import mmap
    import socket

#: The workers that this program has now: layers that are unpacked at the same time share the cores.
_running: Final[WeakSet[WorkerProcess]] = WeakSet()

#: The most bytes of contents in one order.
SLOT: Final = 2 << 20
#: The most orders that a worker has at a time: one that it works on, and others that wait.
_SLOTS: Final = 3


class WorkerStopped(Exception):
    """Error of a worker that was stopped (SIGSTOP): what has become of the files that were sent to it is not known."""


class FileWorker:
    """Worker process that makes files. For one thread.

    Call `start`. Then, whenever `has_room`, `submit` files, and call `outcome` once for each successful `submit`.
    """

    def __init__(self, process: WorkerProcess, connection: socket.socket, memory: mmap.mmap) -> None:
        self._process = process
        self._connection = connection
        self._memory = memory
        self._ready = False
        self._unusable = False
        self._free = deque(range(0, _SLOTS * SLOT, SLOT))
        #: Slots of the orders that were sent and not answered yet.
        self._submitted: deque[int] = deque()
        _running.add(process)

    @classmethod
    def start(cls) -> Self | None:
        """Start a worker; return `None` if none can be started: then make the files in this process.

        It takes some 20 ms until the worker `has_room`; the caller need not wait for that.
        """
        if not os.path.isfile(make_files.__file__) or has_enough_workers(_running):
            return None
        try:
            started = start_with_memory(_SLOTS * SLOT, [make_files.__file__, str(os.getpid())], [None])
        except (OSError, AttributeError) as error:
            logger.debug("cannot start a process that makes files, making them in this process: {}", error)
            return None
        return None if started is None else cls(*started)

    @property
    def has_room(self) -> bool:
        """Whether the worker can take files now."""
        if not self._ready and not self._unusable:
            try:
                self._ready = self._receive(wait=False) == make_files.READY
            except ChildProcessError as error:
                logger.debug("the process that makes files failed to start, making them in this process: {}", error)
                self._unusable = True
        return self._ready and bool(self._free)

    def submit(self, files: Iterable[FileToMake]) -> bool:
        """Send files to be made. Afterwards the caller may close their directories and discard their contents.

        Args:
            files: of at most `SLOT` bytes together, in at most `make_files.MAX_DIRECTORIES` directories.

        Returns:
            Whether they were sent. They are not if their names are too long for one message, or the kernel sends no
            more descriptors.

        Raises:
            ChildProcessError: the worker has died.
        """
        import marshal
        import socket

        slot = position = self._free[0]
        numbers: dict[int, int] = {}
        memory = self._memory
        ordered = []
        for directory, base, how, mtime_ns, content in files:
            length = len(content)
            end = position + length
            memory[position:end] = content
            position = end
            ordered.append((numbers.setdefault(directory, len(numbers)), base, how, mtime_ns, length))
        order: Order = slot, ordered
        message = marshal.dumps(order)
        if len(message) > make_files.MAX_MESSAGE:
            return False
        try:
            socket.send_fds(self._connection, [message], list(numbers))
        except (BrokenPipeError, ConnectionResetError):
            raise self._died() from None
        except OSError as error:
            logger.debug("cannot send files to the process that makes them, making them in this process: {}", error)
            return False
        self._submitted.append(self._free.popleft())
        return True

    def outcome(self, *, wait: bool) -> Outcome | None:
        """Return the outcome of the earliest `submit` whose outcome was not returned yet.

        Args:
            wait: wait for the outcome; if false, return `None` while it is not known.

        Raises:
            ChildProcessError: the worker has died.
            WorkerStopped: the worker was stopped.
        """
        import marshal

        message = self._receive(wait=wait)
        if message is None:
            return None
        self._free.append(self._submitted.popleft())
        answer: Outcome = marshal.loads(message)
        return answer

    def close(self) -> None:
        """End the worker. Afterwards it makes no more files."""
        try:
            self._connection.close()
        finally:
            # Closing the socket may not end the worker: a fork of this program has the socket too, or it was stopped.
            self._process.end()
            _running.discard(self._process)
            self._memory.close()

    def _receive(self, *, wait: bool) -> bytes | None:
        """Return the worker's next message; `None` if there is none and `wait` is false."""
        import socket

        message: bytes | None = None
        while message is None:
            try:
                message = self._connection.recv(make_files.MAX_MESSAGE, 0 if wait else socket.MSG_DONTWAIT)
            except BlockingIOError:
                if not wait:
                    return None
                if self._process.is_stopped():
                    raise WorkerStopped from None
            except ConnectionResetError:
                message = b""
        if not message:
            raise self._died()
        return message

    def _died(self) -> ChildProcessError:
        """End the worker, and return the error for its death."""
        status = self._process.end()  # it may have closed its socket and still be running
        return ChildProcessError(
            errno.ECHILD, f"the process that makes files for this one has died (status {status}); try again"
        )
