"""Read the records of many layers at once: half of them in a worker.

Nearly all the time is spent in short system calls. With threads, each call would release and re-acquire the GIL.
The worker begins with the last record, this process with the first; where they meet, all are read. The worker
only reads, and only sends what it has read. If it fails, this process reads the records that it has not sent.
"""

from __future__ import annotations

import marshal
import os
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, Self

from layerstore_core.base.descriptors import Descriptor
from layerstore_core.base.digests import ChainID
from layerstore_core.records.fields import CHUNK, LENGTH, Fields, read_fields
from layerstore_core.records.layer_record import LayerRecord
from layerstore_core.workers.process import WorkerProcess, import_path

if TYPE_CHECKING:
    from socket import socket

_READ_SIZE: Final = 1 << 20
_CODE: Final = """
import sys
sys.path.append(sys.argv[1])
from layerstore_core.unpack.make_files import close_all_above
from layerstore_core.records.fields import serve
close_all_above(4)
serve(3, 4, 1)
"""


def read_usual_records(layers: int, names: Sequence[ChainID]) -> dict[ChainID, LayerRecord]:
    """Read the records that are usual.

    Args:
        layers: a descriptor of the directory that the records' directories are in.
        names: the chain IDs.

    Returns:
        The usual records; the others are for `LayerRecord.read`, which says what is wrong with them.
    """
    found: dict[ChainID, LayerRecord] = {}
    with ExitStack() as stack:
        worker = _ReadWorker.start(layers, names)
        if worker is not None:
            stack.enter_context(worker)
        start, end = 0, len(names)
        while start < end:
            for chunk in worker.take() if worker else ():
                _keep(found, names[max(0, end - CHUNK) : end], chunk)
                end -= CHUNK
            part = names[start : max(start, min(start + CHUNK, end))]
            _keep(found, part, [read_fields(layers, name.hex) for name in part])
            start += CHUNK
    return found


def _keep(found: dict[ChainID, LayerRecord], names: Sequence[ChainID], fields: Sequence[Fields | None]) -> None:
    for name, one in zip(names, fields, strict=True):
        if one is not None:
            found[name] = LayerRecord.of_usual(name, one)


class _ReadWorker:
    """The worker; a context manager that ends it."""

    def __init__(self, process: WorkerProcess, out: socket) -> None:
        self._process = process
        self._out = out
        self._data = b""

    @classmethod
    def start(cls, layers: int, names: Sequence[ChainID]) -> Self | None:
        """Start the worker; return `None` where that would be no gain, or fails."""
        from socket import socketpair

        with ExitStack() as theirs, ExitStack() as ours:
            try:
                listed = theirs.enter_context(Descriptor(os.memfd_create, "layerstore", os.MFD_CLOEXEC))
                with open(listed, "wb", closefd=False) as file:
                    file.write("".join([name.hex for name in names]).encode())
                out, to_us = socketpair()
                ours.enter_context(out)
                theirs.enter_context(to_us)
                out.setblocking(False)
                process = WorkerProcess.start(
                    ["-c", _CODE, import_path()], [None, to_us.fileno(), None, layers, listed]
                )
            except (OSError, AttributeError):  # built for an old C library, Python has no `memfd_create`
                return None
            if process is None:
                return None
            ours.pop_all()
            return cls(process, out)

    def take(self) -> list[list[Fields | None]]:
        """Return what the worker has sent since the last call, without waiting: chunk by chunk, from the end."""
        chunks = []
        try:
            while data := self._out.recv(_READ_SIZE):
                self._data += data
        except BlockingIOError:
            pass
        while len(self._data) > LENGTH:
            end = LENGTH + int.from_bytes(self._data[:LENGTH], "little")
            if len(self._data) < end:
                break
            chunks.append(marshal.loads(self._data[LENGTH:end]))
            self._data = self._data[end:]
        return chunks

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._out.close()
        self._process.end()
