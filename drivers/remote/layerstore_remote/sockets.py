"""A Unix socket with limits of time and of bytes."""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import time
from http.client import HTTPConnection
from typing import Any, Final

from layerstore_core.sdk import Descriptor

#: The longest path that fits into an address, in bytes: `sun_path` has 108, with a zero at the end (unix(7)).
_LONGEST_PATH: Final = 107
#: No process listens: there is no socket (yet), it is an old one, or too many others wait.
NOT_LISTENING: Final = (errno.ENOENT, errno.ECONNREFUSED, errno.EAGAIN)
#: Seconds between two attempts to connect.
_PAUSE: Final = 0.05
_CREDENTIALS: Final = struct.Struct("3i")


class TooLong(Exception):
    """The other side sends more than was allowed."""


class LimitedSocket(socket.socket):
    """A Unix socket with limits, which `http.client` does not have.

    Attributes:
        deadline: the moment, in seconds of the monotonic clock, at which a call must be over. `None`: there is none.
        patience: how many seconds the other side may do nothing.
        received: how many bytes have been received since the last `limit`.
        allowed: how many bytes may be received.
    """

    def __init__(self) -> None:
        super().__init__(socket.AF_UNIX, socket.SOCK_STREAM)
        self.deadline: float | None = None
        self.patience = 1.0
        self.received = 0
        self.allowed = 0

    def __del__(self) -> None:
        # A driver has no hook that ends it. Its idle connections are closed with it, which is no mistake to warn of.
        number = self.detach() if self.fileno() >= 0 else -1
        if number >= 0:
            os.close(number)

    def limit(self, *, allowed: int, patience: float, whole: bool) -> None:
        """Set the limits of the next call.

        Args:
            allowed: how many bytes may be received in it.
            patience: how many seconds the other side may do nothing.
            whole: whether the call as a whole may take no longer than that.
        """
        self.received, self.allowed, self.patience = 0, allowed, patience
        self.deadline = time.monotonic() + patience if whole else None

    def left(self) -> float:
        """Return how many seconds the next operation may take.

        Raises:
            TimeoutError: none.
        """
        if self.deadline is None:
            return self.patience
        left = min(self.patience, self.deadline - time.monotonic())
        if left <= 0:
            raise TimeoutError("timed out")
        return left

    def recv_into(self, *arguments: Any) -> int:
        self.settimeout(self.left())
        count = super().recv_into(*arguments)
        self.received += count
        if self.received > self.allowed:
            raise TooLong
        return count

    def sendall(self, *arguments: Any) -> None:
        self.settimeout(self.left())
        super().sendall(*arguments)

    def send_until_answered(self, data: memoryview) -> bool:
        """Send data. Return `False` if the other side has answered or gone before all was sent.

        A server that refuses a stream answers in the middle of it, and reads no more.
        """
        poll = select.poll()
        poll.register(self, select.POLLIN | select.POLLOUT)
        while data:
            events = poll.poll(self.left() * 1000)
            if not events:
                raise TimeoutError("timed out")
            if events[0][1] & ~select.POLLOUT:
                return False
            self.settimeout(self.left())
            data = data[self.send(data) :]
        return True

    def is_quiet(self) -> bool:
        """Return whether the other side has neither sent anything nor gone."""
        poll = select.poll()
        poll.register(self, select.POLLIN)
        return not poll.poll(0)

    def peer_user(self) -> int:
        """Return the user ID of the process that listens: SO_PEERCRED of socket(7), as it was at listen(2)."""
        found = self.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        return int(_CREDENTIALS.unpack(found)[1])


class UnixConnection(HTTPConnection):
    """A connection to a server on a Unix socket. It is not opened again by itself.

    Args:
        path: the socket.
        wait: how many seconds to wait for a server that does not listen.

    Raises:
        OSError: no process listens there.
    """

    def __init__(self, path: str, wait: float) -> None:
        super().__init__("localhost")
        self.auto_open = 0
        self._path = path
        self._wait = wait
        #: Whether a call was answered on this connection.
        self.used = False
        self.connect()

    def connect(self) -> None:
        """Connect, also after the server has closed the connection, as some do after each answer."""
        #: The socket. `http.client` sets its own attribute, `sock`, to `None` when it has closed it.
        self.limited = self.sock = _connected(self._path, self._wait)
        #: The user ID of the process that listens.
        self.peer_user = self.limited.peer_user()

    def open_again(self) -> None:
        """Connect if the server has closed the connection after its last answer."""
        if self.sock is None:
            self.connect()


def _connected(path: str, wait: float) -> LimitedSocket:
    end = time.monotonic() + wait
    while True:
        made = LimitedSocket()
        try:
            made.settimeout(max(wait, 1.0))
            _connect(made, path)
            return made
        except OSError as error:
            made.close()
            if error.errno not in NOT_LISTENING or time.monotonic() >= end:
                raise
        except BaseException:
            made.close()
            raise
        time.sleep(_PAUSE)


def _connect(made: LimitedSocket, path: str) -> None:
    if len(os.fsencode(path)) <= _LONGEST_PATH:
        made.connect(path)
        return
    directory, name = os.path.split(path)
    with Descriptor(os.open, directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) as fd:
        made.connect(f"/proc/self/fd/{fd}/{name}")
