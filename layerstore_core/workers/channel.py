"""A process beside this one that is told what to do by messages, and answers with messages, over a socket.

It runs the function `work` of a module of this package. A message is anything that `marshal` knows, after its length. Its
first one is `READY`: until then nothing is expected of it, and whoever has started it does everything himself.
"""

from __future__ import annotations

import marshal
import os
import select
import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, Final, Self

from layerstore_core.workers.process import TIMEOUT, WorkerProcess, import_path

READY: Final = "ready"
_LENGTH: Final = 8
#: The descriptor that is the first of those that the function is given.
_FIRST: Final = 3
#: How often one without orders looks whether anybody is there to give some, in seconds.
_PATIENCE: Final = 5.0
_CODE: Final = """
import sys
from importlib import import_module
sys.path.append(sys.argv[1])
from layerstore_core.unpack.make_files import close_all_above
work = import_module(sys.argv[2]).work
close_all_above(int(sys.argv[3]))
work(*map(int, sys.argv[4:]))
"""


class Messages:
    """One end of the socket.

    Args:
        connection: that.
        idle: called now and then while nothing comes, where the socket has a time limit; what it raises ends the waiting.
    """

    def __init__(self, connection: socket.socket, idle: Callable[[], None] | None = None) -> None:
        self._connection = connection
        self._idle = idle

    def send(self, message: Any) -> None:
        """Tell the other end something.

        Raises:
            OSError: it is gone.
        """
        data = marshal.dumps(message)
        # A program may have asked to be killed by SIGPIPE.
        self._connection.sendall(len(data).to_bytes(_LENGTH, "little") + data, socket.MSG_NOSIGNAL)

    def receive(self) -> Any:
        """What the other end says; waits for it.

        Raises:
            EOFError: it says nothing more.
            OSError: it is gone.
        """
        return marshal.loads(self._exactly(int.from_bytes(self._exactly(_LENGTH), "little")))

    def _exactly(self, length: int) -> bytearray:
        data = bytearray(length)
        view = memoryview(data)
        while view:
            try:
                count = self._connection.recv_into(view)
            except TimeoutError:
                if self._idle is not None:
                    self._idle()
                continue
            if not count:
                raise EOFError
            view = view[count:]
        return data


class Worker(Messages):
    """The process, as the one that has started it sees it; a context manager that ends it."""

    def __init__(self, process: WorkerProcess, connection: socket.socket) -> None:
        connection.settimeout(TIMEOUT)
        super().__init__(connection, self._look)
        self._process = process
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)

    @classmethod
    def start(cls, module: str, descriptors: Sequence[int], *numbers: int) -> Self | None:
        """Start one.

        Args:
            module: the name of the module whose `work` it runs. Its arguments are our number, those that the descriptors
                have there, and `numbers`.
            descriptors: what it gets of ours.
            numbers: anything.

        Returns:
            `None` where that would be no gain, or cannot be done.
        """
        last = _FIRST + len(descriptors) - 1
        arguments = ["-c", _CODE, import_path(), module, str(last), str(os.getpid())]
        arguments += map(str, [*range(_FIRST, last + 1), *numbers])
        with ExitStack() as undo:
            try:
                ours, theirs = socket.socketpair()
                undo.enter_context(ours)
                with theirs:
                    process = WorkerProcess.start(arguments, [theirs.fileno(), None, None, *descriptors])
            except OSError:
                return None
            if process is None:
                return None
            undo.pop_all()
            return cls(process, ours)

    def has_sent(self) -> bool:
        """Whether `receive` need not wait for it to begin."""
        return bool(self._poll.poll(0))

    def _look(self) -> None:
        if self._process.is_stopped():
            raise EOFError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        """End it. Afterwards it does nothing any more."""
        try:
            self._connection.close()  # if an interrupt comes before the signal, this ends it
        finally:
            self._process.end()


class ParentConnection(Messages):
    """The other end, in the process itself: what it is told.

    Args:
        parent: the process that has started it.
    """

    def __init__(self, parent: int) -> None:
        self._parent = parent
        connection = socket.socket(fileno=0)
        connection.settimeout(_PATIENCE)
        super().__init__(connection, self.check_parent)

    def check_parent(self) -> None:
        """See that the parent is there.

        Raises:
            EOFError: it is not. A fork of it may keep the socket open.
        """
        if os.getppid() != self._parent:
            raise EOFError
