"""A worker process that receives and sends messages over a socket.

The worker runs the function `work` of a module of this package. A message is a length, followed by a value that
`marshal` can encode. The worker's first message is `READY`. Until it arrives, the parent does all the work itself.
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
#: The size of the length before each message, in bytes.
_LENGTH_SIZE: Final = 8
#: The worker's number for the first of the descriptors that `work` gets.
_FIRST_DESCRIPTOR: Final = 3
#: How often a worker that waits for a message checks whether its parent is alive, in seconds.
_CHECK_PARENT_EVERY: Final = 5.0
_CODE: Final = """
import sys
from importlib import import_module
sys.path.append(sys.argv[1])
from layerstore_core.unpack.make_files import close_all_above
work = import_module(sys.argv[2]).work
close_all_above(int(sys.argv[3]))
work(*map(int, sys.argv[4:]))
"""


class MessageSocket:
    """One end of the socket between a worker and its parent.

    Args:
        connection: the socket.
        idle: if the socket has a timeout, called after each timeout of `receive`. An exception that it raises ends the
            waiting.
    """

    def __init__(self, connection: socket.socket, idle: Callable[[], None] | None = None) -> None:
        self._connection = connection
        self._idle = idle

    def send(self, message: Any) -> None:
        """Send a message.

        Raises:
            OSError: the other end is closed.
        """
        data = marshal.dumps(message)
        # The program may have set SIGPIPE to its default, which would kill it.
        self._connection.sendall(len(data).to_bytes(_LENGTH_SIZE, "little") + data, socket.MSG_NOSIGNAL)

    def receive(self) -> Any:
        """Wait for a message, and return it.

        Raises:
            EOFError: the other end sends no more messages.
            OSError: the connection is broken.
        """
        return marshal.loads(self._read_exactly(int.from_bytes(self._read_exactly(_LENGTH_SIZE), "little")))

    def _read_exactly(self, length: int) -> bytearray:
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


class Worker(MessageSocket):
    """A worker process and the parent's end of its socket; a context manager that ends the process."""

    def __init__(self, process: WorkerProcess, connection: socket.socket) -> None:
        connection.settimeout(TIMEOUT)
        super().__init__(connection, self._check_not_stopped)
        self._process = process
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)

    @classmethod
    def start(cls, module: str, descriptors: Sequence[int], *numbers: int) -> Self | None:
        """Start a worker.

        Args:
            module: the name of the module whose function `work` the worker runs. The arguments of `work` are the ID of
                this process, the descriptors' numbers in the worker, and `numbers`.
            descriptors: the descriptors of this process that the worker gets.
            numbers: more arguments for `work`.

        Returns:
            The worker, or `None` if there is no second core or a worker cannot be started.
        """
        last = _FIRST_DESCRIPTOR + len(descriptors) - 1
        arguments = ["-c", _CODE, import_path(), module, str(last), str(os.getpid())]
        arguments += map(str, [*range(_FIRST_DESCRIPTOR, last + 1), *numbers])
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
        """Return whether a message has begun to arrive, so that `receive` does not wait for its beginning."""
        return bool(self._poll.poll(0))

    def _check_not_stopped(self) -> None:
        if self._process.is_stopped():
            raise EOFError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        """End the worker. It does nothing after this call."""
        try:
            self._connection.close()  # if an interrupt comes before the signal, this ends it
        finally:
            self._process.end()


class ParentConnection(MessageSocket):
    """The worker's end of the socket: its connection to its parent.

    Args:
        parent: the ID of the process that started the worker.
    """

    def __init__(self, parent: int) -> None:
        self._parent = parent
        connection = socket.socket(fileno=0)
        connection.settimeout(_CHECK_PARENT_EVERY)
        super().__init__(connection, self.check_parent)

    def check_parent(self) -> None:
        """Check that the parent is alive. The socket alone does not show it: a fork of the parent may keep it open.

        Raises:
            EOFError: the parent has ended.
        """
        if os.getppid() != self._parent:
            raise EOFError
