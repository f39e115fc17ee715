"""Reading from pipes and terminals, in such a way that a signal always ends the wait for data."""

from __future__ import annotations

import io
import os
import select
from typing import TYPE_CHECKING, BinaryIO, cast

from layerstore_core.cli import signals

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


def interruptible(file: BinaryIO) -> BinaryIO:
    """Return a reader of `file` that a signal always interrupts.

    That is `file` itself if it can seek. For a pipe, a terminal or a socket it is a new reader.
    """
    if file.seekable():
        return file
    return cast("BinaryIO", _InterruptibleReader(file))


class _InterruptibleReader(io.RawIOBase):
    """A reader that waits for the file and for signals at once.

    A plain read(2) is not enough. If a signal comes just before the read begins to wait, the interpreter notes the
    signal, but acts on it only when the read returns, which may be never.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._fd = file.fileno()
        self.name = file.name

    def fileno(self) -> int:
        return self._fd

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        if (wakeup := signals.wakeup()) is not None:
            poll.register(wakeup, select.POLLIN)
        # The handler runs, and raises, as soon as poll has returned. If the signal was no reason to stop, its byte
        # stays in the pipe, and from then on this is a plain read.
        poll.poll()
        return os.readv(self._fd, [buffer])
