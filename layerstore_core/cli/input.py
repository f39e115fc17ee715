"""Reading what may be long in coming, so that being asked to stop always ends the wait."""

from __future__ import annotations

import io
import os
import select
from typing import TYPE_CHECKING, BinaryIO, cast

from layerstore_core.cli import signals

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


def interruptible(file: BinaryIO) -> BinaryIO:
    """`file`, or where it is a pipe, a terminal or a socket, a reader of it that a signal always interrupts."""
    if file.seekable():
        return file
    return cast("BinaryIO", _Waiting(file))


class _Waiting(io.RawIOBase):
    """Waits for the file and for signals at once.

    A signal that comes just before a plain read(2) begins to wait does not end it: the interpreter has noted the
    signal, and acts on it when the read returns, which may be never.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._fd = file.fileno()
        self.name = file.name

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        if (wakeup := signals.wakeup()) is not None:
            poll.register(wakeup, select.POLLIN)
        # The handler runs, and raises, as soon as poll has returned. A byte of a signal that
        # was nothing to stop for stays in the pipe: then this is a plain read, as it is elsewhere.
        poll.poll()
        return os.readv(self._fd, [buffer])
