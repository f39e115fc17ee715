"""A process beside this one that reads a layer's small files: how it is started, told what to do, and ended.

To read a small file is four short system calls, and for each the interpreter is let go of and wanted back. Another
interpreter does that on another core, while this one decodes lines, and reads files itself where the other has no room.

The other one has a descriptor of the layer's directory, opens files below it as `TreeFiles` does, and only reads. Orders
and contents are in shared memory; through a socket go signs of a few bytes. Whatever goes wrong with it (it cannot be
started, it is killed, a file is not what it was), this process reads the files, and meets the error itself.
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

#: Those there are in this program now: layers that are put together at the same time share the cores.
_running: Final[WeakSet[WorkerProcess]] = WeakSet()

#: Orders that it may have at a time: one that it works on, and one for when it has done that.
_MAX_ORDERS: Final = 2
#: How often it looks whether anybody is there to submit orders, in seconds.
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
    """A process that reads files. For one thread.

    Use `start`; then, whenever `has_room`, `submit` it files, and ask `outcome` as often as files were given.

    Attributes:
        memory: where it reads to.
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
        """Start one; `None` where it cannot be, and the files are to be read here.

        It takes some 25 ms until it `has_room`; it need not be waited for.

        Args:
            files: what it is to open.
            size: of the shared memory, in bytes.
        """
        if has_enough_workers(_running):
            return None
        try:
            started = start_with_memory(
                size, ["-c", _CODE, str(os.getpid()), *_import_paths()], [None, files.fd], timeout=_PATIENCE
            )
        except (OSError, AttributeError) as error:
            logger.debug("files are read in this process: another one cannot be started: {}", error)
            return None
        return None if started is None else cls(*started)

    @property
    def has_room(self) -> bool:
        """Whether it can be given files now."""
        self._receive(wait=False)
        return self._ready and not self._unusable and self._submitted < _MAX_ORDERS

    def submit(self, start: int, end: int, room: int, files: Sequence[FileToRead]) -> bool:
        """Have files read to their places.

        Args:
            start: where the memory begins that places are counted from.
            end: where that ends.
            room: where memory ends that nobody uses until there is the answer, after `end`.
            files: as `filling.fill` takes them.

        Returns:
            `False`, and nothing was given, where the names are too long, or it is gone.
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
        """Whether the earliest files that it was given and that were not asked for have been read, and are what they were.

        Returns:
            `None`: not known yet.
        """
        self._receive(wait=False)
        while wait and not self._answers:
            self._receive(wait=True)
        return self._answers.popleft() if self._answers else None

    def close(self) -> None:
        """End it. A second call does nothing."""
        try:
            self._connection.close()
        finally:
            # It need not see this: a fork of this program has the socket too, and it may be stopped itself.
            self._process.end()
            _running.discard(self._process)
            with suppress(BufferError):  # somebody has still a chunk: the memory goes with it
                self.memory.close()

    def _receive(self, *, wait: bool) -> None:
        """Take in all that it says, or wait until it says something."""
        import socket

        while not self._unusable and (self._submitted or not self._ready):
            try:
                reply = self._connection.recv(1, 0 if wait else socket.MSG_DONTWAIT)
            except BlockingIOError:
                if not wait:
                    return
                reply = b""  # it has been stopped, or its disk has
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
        """It is gone: what it was given, it has not read."""
        logger.debug("files are read in this process: the other one is gone")
        self._process.end()  # if it lives: it must not come back to memory that is used for something else
        self._unusable = True
        self._answers.extend([False] * self._submitted)
        self._submitted = 0


def _import_paths() -> list[str]:
    """Where the process finds what it imports: it knows the standard library alone."""
    import fastcrc

    return [import_path(), os.path.dirname(os.path.dirname(str(fastcrc.__file__)))]
