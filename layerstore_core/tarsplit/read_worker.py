"""Worker process that reads a layer's small files: start it, send it orders, receive its answers, end it.

Reading a small file takes four short system calls, and each releases and re-acquires the GIL. The worker does that on
another core, while this process decodes lines. If the worker has no room, this process reads files itself.

The worker has a descriptor of the layer's directory, opens files below it as `TreeFiles` does, and only reads. Orders
and contents are in shared memory; messages of a few bytes go through a socket. If anything goes wrong with the worker
(it cannot be started, it is killed, a file is not the registered one), this process reads the files, and meets the
error itself.
"""

from __future__ import annotations

import marshal
import os
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self
from weakref import WeakSet

from layerstore_core.log import logger
from layerstore_core.tarsplit.read_files import DONE, READY, FileToRead, encode_header
from layerstore_core.tree.files import TreeFiles
from layerstore_core.workers.process import WorkerProcess, has_enough_workers, import_path, start_with_memory

if TYPE_CHECKING:
    import mmap
    import socket

#: The workers that this program has now: layers that are assembled at the same time share the cores.
_running: Final[WeakSet[WorkerProcess]] = WeakSet()

#: The most orders that a worker has at a time: one that it works on, and one that waits.
_MAX_ORDERS: Final = 2
#: How often an idle worker checks that its parent still lives, in seconds.
_PATIENCE: Final = 5
_CODE: Final = """
import sys
sys.path += sys.argv[2:]
from layerstore_core.unpack.make_files import close_all_above
from layerstore_core.tarsplit.read_files import serve
close_all_above(3)
serve(0, 1, 3, int(sys.argv[1]))
"""


class ReadWorker:
    """Worker process that reads files. For one thread.

    Call `start`. Then, whenever `has_room`, `submit` files, and call `outcome` once for each successful `submit`.

    Attributes:
        memory: the shared memory that it reads to.
    """

    def __init__(self, process: WorkerProcess, connection: socket.socket, memory: mmap.mmap) -> None:
        self.memory = memory
        self._process = process
        self._connection = connection
        self._ready = False
        self._unusable = False
        self._submitted = 0
        self._answers: deque[bool] = deque()
        _running.add(process)

    @classmethod
    def start(cls, files: TreeFiles, size: int) -> Self | None:
        """Start a worker; return `None` if none can be started: then read the files in this process.

        It takes some 25 ms until the worker `has_room`; the caller need not wait for that.

        Args:
            files: the files that the worker can open.
            size: the size of the shared memory, in bytes.
        """
        if has_enough_workers(_running):
            return None
        try:
            started = start_with_memory(
                size, ["-c", _CODE, str(os.getpid()), *_import_paths()], [None, files.fd], timeout=_PATIENCE
            )
        except (OSError, AttributeError) as error:
            logger.debug("cannot start a process that reads files, reading them in this process: {}", error)
            return None
        return None if started is None else cls(*started)

    @property
    def has_room(self) -> bool:
        """Whether the worker can take files now."""
        self._receive(wait=False)
        return self._ready and not self._unusable and self._submitted < _MAX_ORDERS

    def submit(self, start: int, end: int, room: int, files: Sequence[FileToRead]) -> bool:
        """Send an order to read files to their places.

        Args:
            start: offset of the memory that the files' places are relative to.
            end: its end.
            room: end of the memory, after `end`, that is unused until the answer comes.
            files: as `read_files.fill` takes them.

        Returns:
            Whether the order was sent. It is not if the names are too long, or the worker is gone.
        """
        import socket

        order = marshal.dumps(list(files))
        if len(order) > room - end:
            return False
        self.memory[end : end + len(order)] = order
        try:
            self._connection.send(encode_header((start, end, len(order))), socket.MSG_NOSIGNAL)
        except OSError:
            self._give_up()
            return False
        self._submitted += 1
        return True

    def outcome(self, *, wait: bool) -> bool | None:
        """Return whether the files of the earliest order without an outcome were read, and are as registered.

        Args:
            wait: wait for the outcome.

        Returns:
            `None` if it is not known yet.
        """
        self._receive(wait=False)
        while wait and not self._answers:
            self._receive(wait=True)
        return self._answers.popleft() if self._answers else None

    def close(self) -> None:
        """End the worker. A second call does nothing."""
        try:
            self._connection.close()
        finally:
            # Closing the socket may not end the worker: a fork of this program has the socket too, or it was stopped.
            self._process.end()
            _running.discard(self._process)
            with suppress(BufferError):  # a chunk is still in use: the memory is released with it
                self.memory.close()

    def _receive(self, *, wait: bool) -> None:
        """Receive all messages of the worker, or wait for one."""
        import socket

        while not self._unusable and (self._submitted or not self._ready):
            try:
                reply = self._connection.recv(1, 0 if wait else socket.MSG_DONTWAIT)
            except BlockingIOError:
                if not wait:
                    return
                reply = b""  # the worker was stopped (SIGSTOP), or is blocked on I/O
            except OSError:
                reply = b""
            if not reply:
                self._give_up()
            elif reply == READY:
                self._ready = True
            else:
                self._submitted -= 1
                self._answers.append(reply == DONE)
            if wait:
                return

    def _give_up(self) -> None:
        """End the worker, and mark its open orders as failed."""
        logger.debug("lost the process that reads files, reading them in this process")
        self._process.end()  # if it still runs, it must not write to memory that is used for something else
        self._unusable = True
        self._answers.extend([False] * self._submitted)
        self._submitted = 0


def _import_paths() -> list[str]:
    """Return the paths for the worker's imports: without them it has the standard library alone."""
    import fastcrc

    return [import_path(), os.path.dirname(os.path.dirname(str(fastcrc.__file__)))]
