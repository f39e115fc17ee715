"""The changes in a writable layer as one consistent state: a write while they are read is an error."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from layerstore_core.errors import RWLayerInUse
from layerstore_core.store.handles import RWLayer

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_BLOCK: Final = 512
#: How long to wait for the next tick of the clock of file times, in seconds; a tick takes some milliseconds.
_TICK: Final = 0.005
_TICKS: Final = 200
#: CLOCK_REALTIME_COARSE of linux/time.h: the clock from which file systems take their times.
_COARSE_CLOCK: Final = 5
#: What identifies the state of a file: its kind of change, and inode number, times and size; `None` if it is gone.
_State = dict[bytes, tuple[str, tuple[int, ...] | None]]


class RWChanges(io.RawIOBase):
    """The tar of a writable layer's changes; `open_changes` makes it.

    Reading it to the end verifies that nothing has changed since it was opened.

    Attributes:
        is_empty: whether there are no changes.
    """

    def __init__(self, rw: RWLayer, root: str, before: _State, stream: BinaryIO) -> None:
        super().__init__()
        self._rw = rw
        self._root = root
        self._before = before
        self._stream = stream
        self._start = self._read(_BLOCK)
        self.is_empty = not self._start.strip(b"\0")

    def readable(self) -> bool:
        """Return that it can be read."""
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Read some bytes.

        Raises:
            RWLayerInUse: this is the end, and the layer has changed meanwhile; or a change has made reading fail.
        """
        view = memoryview(buffer)
        chunk = self._start[: len(view)] or self._read(len(view))
        self._start = self._start[len(view) :]
        if not chunk and view.nbytes:
            self.verify()
        view[: len(chunk)] = chunk
        return len(chunk)

    def verify(self) -> None:
        """Verify that the layer has not changed since this was opened.

        Raises:
            RWLayerInUse: it has.
        """
        after = _state(self._rw, self._root)
        if after == self._before:
            return
        touched = sorted(path for path in {*after, *self._before} if after.get(path) != self._before.get(path))
        raise RWLayerInUse(
            f"the writable layer {self._rw.name!r} was changed while it was read, at {os.fsdecode(touched[0])!r}"
            f"{f' and {len(touched) - 1} more paths' if len(touched) > 1 else ''}; "
            "stop what writes to it, and try again"
        )

    def _read(self, size: int) -> bytes:
        try:
            return self._stream.read(size)
        except Exception:
            self.verify()  # otherwise the error has another cause
            raise


@contextmanager
def open_changes(rw: RWLayer) -> Iterator[RWChanges]:
    """Open the changes of a writable layer for the length of a block.

    A write between the beginning and the end is found by the times that the kernel sets, which no process can set back.
    A write through a shared memory mapping may not set them until the page is written to disk: a program that maps
    files has to stop before.

    Args:
        rw: a handle to the writable layer.

    Raises:
        RWLayerInUse: it is being written to without a pause.
        OSError: it cannot be mounted or read.
    """
    with rw.mounted() as root:
        before = _state_at_rest(rw, root)
        with rw.tar_stream() as stream:
            yield RWChanges(rw, root, before, stream)


def buffered(changes: RWChanges) -> BinaryIO:
    """Return the changes as a file object whose `read` returns as many bytes as asked for."""
    return cast("BinaryIO", io.BufferedReader(changes, 1 << 20))


def _state_at_rest(rw: RWLayer, root: str) -> _State:
    """Return the state, when no time in it is of the clock's present tick.

    A later write in the same tick would give a file the same time again, and it would not be noticed.
    """
    for _ in range(_TICKS):
        now = time.clock_gettime_ns(_COARSE_CLOCK)
        state = _state(rw, root)
        if all(status is None or status[1] < now or status[1] > now + 10**9 for _, status in state.values()):
            return state
        time.sleep(_TICK)
    raise RWLayerInUse(f"the writable layer {rw.name!r} is written to all the time; stop what writes to it")


def _state(rw: RWLayer, root: str) -> _State:
    found: _State = {b"/": ("", _status(os.fsencode(root)))}
    for change in rw.changes():
        found[change.path] = (change.kind.value, _status(os.fsencode(root) + change.path))
    return found


def _status(path: bytes) -> tuple[int, ...] | None:
    try:
        status = os.lstat(path)
    except OSError:  # it is deleted, or was replaced a moment ago
        return None
    return status.st_ino, status.st_ctime_ns, status.st_mtime_ns, status.st_size, status.st_mode
