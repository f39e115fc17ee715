"""A process beside this one that makes files: how it is started, told what to do, and ended.

It is this interpreter with one stand-alone program (`unpack/make_files.py`); of our descriptors it has its socket and the
shared memory, and no lock.
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

#: Those there are in this program now: layers that are unpacked at the same time share the cores.
_running: Final[WeakSet[WorkerProcess]] = WeakSet()

#: Contents of one order, in bytes.
SLOT: Final = 2 << 20
#: Orders that it may have at a time: one that it works on, and more for when it has done that.
_SLOTS: Final = 3


class WorkerStopped(Exception):
    """Somebody has stopped the process: what has become of what it was given is not known."""


class FileWorker:
    """A process that makes files. For one thread.

    Use `start`; then, whenever `has_room`, `submit` it files, and ask `outcome` as often as files were given.
    """

    def __init__(self, process: WorkerProcess, connection: socket.socket, memory: mmap.mmap) -> None:
        self._process = process
        self._connection = connection
        self._memory = memory
        self._ready = False
        self._unusable = False
        self._free = deque(range(0, _SLOTS * SLOT, SLOT))
        #: Slots of the orders that have been given and not been answered.
        self._submitted: deque[int] = deque()
        _running.add(process)

    @classmethod
    def start(cls) -> Self | None:
        """Start one; `None` where it cannot be, and the files are to be made here.

        It takes some 20 ms until it `has_room`; it need not be waited for.
        """
        if not os.path.isfile(make_files.__file__) or has_enough_workers(_running):
            return None
        try:
            started = start_with_memory(_SLOTS * SLOT, [make_files.__file__, str(os.getpid())], [None])
        except (OSError, AttributeError) as error:
            logger.debug("files are made in this process: another one cannot be started: {}", error)
            return None
        return None if started is None else cls(*started)

    @property
    def has_room(self) -> bool:
        """Whether it can be given files now."""
        if not self._ready and not self._unusable:
            try:
                self._ready = self._receive(wait=False) == make_files.READY
            except ChildProcessError as error:
                logger.debug("files are made in this process: another one did not get so far: {}", error)
                self._unusable = True
        return self._ready and bool(self._free)

    def submit(self, files: Iterable[FileToMake]) -> bool:
        """Have files made; their directories may be closed afterwards, and their contents go.

        Args:
            files: of at most `SLOT` bytes together, in at most `make_files.MAX_DIRECTORIES` directories.

        Returns:
            `False`, and nothing was given, where they cannot be told to it: their names are too long, or the kernel
            sends no more descriptors.

        Raises:
            ChildProcessError: it has died.
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
            logger.debug("files are made in this process: another one cannot be told to: {}", error)
            return False
        self._submitted.append(self._free.popleft())
        return True

    def outcome(self, *, wait: bool) -> Outcome | None:
        """What has become of the earliest files that it was given and that were not asked for; `None`: not known yet.

        Raises:
            ChildProcessError: it has died.
            WorkerStopped: it was stopped.
        """
        import marshal

        message = self._receive(wait=wait)
        if message is None:
            return None
        self._free.append(self._submitted.popleft())
        answer: Outcome = marshal.loads(message)
        return answer

    def close(self) -> None:
        """End it. Afterwards it makes nothing any more."""
        try:
            self._connection.close()
        finally:
            # It need not see this: a fork of this program has the socket too, and it may be stopped itself.
            self._process.end()
            _running.discard(self._process)
            self._memory.close()

    def _receive(self, *, wait: bool) -> bytes | None:
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
        status = self._process.end()  # it may have closed its socket, and live
        return ChildProcessError(
            errno.ECHILD, f"the process that makes files for this one has died (status {status}); try again"
        )
