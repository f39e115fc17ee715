"""A disk that records every write and every flush: a file in a FUSE file system, on which a loop device is set up.

Run as a program, it serves the file until the file system is unmounted. The server must not be in the mount namespace
that it serves. If it were the last process there, the kernel would unmount the file systems on the disk in the server's
own exit, and wait forever for its answers.

The server uses the kernel's own protocol (`linux/fuse.h`). It has one directory with two files. The writes and flushes
of `disk` are logged in their order. What is written to `mark` is put into the log at that point. The disk may fail from
its nth write or read on, or only once.

The log is a sequence of records: kind, offset, length, and as many bytes.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import stat
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

WRITE: Final = 1
FLUSH: Final = 2
MARK: Final = 3
FAILED: Final = 4

_DEATH_SIGNAL: Final = 1
_RECORD: Final = struct.Struct("<BQQ")
_IN: Final = struct.Struct("<IIQQIIIHH")
_OUT: Final = struct.Struct("<IiQ")
_INIT_OUT: Final = struct.Struct("<IIIIHHIIHHIIH22x")
_ATTR: Final = struct.Struct("<QQQQQQIIIIIIIIII")
_ENTRY: Final = struct.Struct("<QQQQII")
_WRITE_IN: Final = struct.Struct("<QQIIQII")

_LOOKUP, _FORGET, _GETATTR, _SETATTR = 1, 2, 3, 4
_OPEN, _READ, _WRITE, _STATFS, _RELEASE, _FSYNC, _FLUSH, _INIT = 14, 15, 16, 17, 18, 20, 25, 26
_OPENDIR, _READDIR, _RELEASEDIR, _DESTROY, _BATCH_FORGET = 27, 28, 29, 38, 42
_DIRECT_IO: Final = 1
_BIG_WRITES, _MAX_PAGES = 1 << 5, 1 << 22
_MAX_WRITE: Final = 1 << 20

_ROOT, _DISK, _MARK = 1, 2, 3
_NAMES: Final = {b"disk": _DISK, b"mark": _MARK}


class Failing(NamedTuple):
    """The calls that the disk refuses.

    Attributes:
        kind: "write" or "read".
        numbers: the numbers of the refused calls, counted from 1 after the first mark.
        code: the `errno` that the kernel gets.
    """

    kind: str = "write"
    numbers: range = range(0)
    code: int = errno.EIO


class Record(NamedTuple):
    """One record of the disk's log."""

    kind: int
    offset: int
    data: bytes


def read_log(path: Path) -> Iterator[Record]:
    """Yield the records of a log in their order."""
    with open(path, "rb") as log:
        while header := log.read(_RECORD.size):
            kind, offset, length = _RECORD.unpack(header)
            yield Record(kind, offset, log.read(length))


class Disk:
    """The server.

    Args:
        image: the file behind `disk`.
        log: the file of the log.
        channel: the open `/dev/fuse`, mounted.
        failing: the calls that the disk refuses.
    """

    def __init__(self, image: Path, log: Path, channel: int, failing: Failing = Failing()) -> None:  # noqa: B008
        self._failing = failing
        self._count: int | None = None
        self._image = os.open(image, os.O_RDWR | os.O_CLOEXEC)
        self._log = open(log, "ab", buffering=0)  # noqa: SIM115
        self._channel = channel
        self._answers = {
            _INIT: self._init,
            _LOOKUP: lambda node, body: self._entry(_NAMES.get(body.rstrip(b"\0"))),
            _GETATTR: lambda node, body: struct.pack("<QII", 3600, 0, 0) + self._attributes(node),
            _SETATTR: lambda node, body: struct.pack("<QII", 3600, 0, 0) + self._attributes(node),
            _OPEN: lambda node, body: struct.pack("<QII", 0, _DIRECT_IO, 0),
            _OPENDIR: lambda node, body: struct.pack("<QII", 0, 0, 0),
            _READDIR: lambda node, body: b"",
            _STATFS: lambda node, body: bytes(80),
            _READ: self._read,
            _WRITE: self._write,
            _FSYNC: self._fsync,
            _RELEASE: lambda node, body: b"",
            _RELEASEDIR: lambda node, body: b"",
            _FLUSH: lambda node, body: b"",
            _DESTROY: lambda node, body: b"",
        }

    def serve(self) -> None:
        """Answer until the file system is unmounted."""
        while True:
            try:
                request = os.read(self._channel, _MAX_WRITE + 4096)
            except OSError as error:
                if error.errno == errno.ENODEV:
                    return
                if error.errno in (errno.EINTR, errno.ENOENT):
                    continue
                raise
            _, code, unique, node, *_ = _IN.unpack_from(request)
            if code in (_FORGET, _BATCH_FORGET):
                continue
            answer = self._answers.get(code)
            try:
                if answer is None:
                    raise OSError(errno.ENOSYS, "")
                body, failure = answer(node, request[_IN.size :]), 0
            except OSError as error:
                body, failure = b"", -(error.errno or errno.EIO)
            os.write(self._channel, _OUT.pack(_OUT.size + len(body), failure, unique) + body)

    def _init(self, node: int, body: bytes) -> bytes:
        major, _, readahead, flags = struct.unpack_from("<IIII", body)
        wanted = flags & (_BIG_WRITES | _MAX_PAGES)
        return _INIT_OUT.pack(major, 31, readahead, wanted, 16, 12, _MAX_WRITE, 1, _MAX_WRITE // 4096, 0, 0, 0, 0)

    def _entry(self, node: int | None) -> bytes:
        if node is None:
            raise OSError(errno.ENOENT, "")
        return _ENTRY.pack(node, 0, 3600, 3600, 0, 0) + self._attributes(node)

    def _attributes(self, node: int) -> bytes:
        size = os.fstat(self._image).st_size if node == _DISK else 0
        mode = stat.S_IFDIR | 0o700 if node == _ROOT else stat.S_IFREG | 0o600
        return _ATTR.pack(node, size, (size + 511) // 512, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)

    def _read(self, node: int, body: bytes) -> bytes:
        _, offset, size = struct.unpack_from("<QQI", body)
        self._fail("read", offset)
        return os.pread(self._image, size, offset)

    def _write(self, node: int, body: bytes) -> bytes:
        _, offset, size, *_ = _WRITE_IN.unpack_from(body)
        data = body[_WRITE_IN.size : _WRITE_IN.size + size]
        if node == _DISK:
            self._fail("write", offset)
            os.pwrite(self._image, data, offset)
        elif self._count is None:
            self._count = 0
        self._note(WRITE if node == _DISK else MARK, offset, data)
        return struct.pack("<II", size, 0)

    def _fail(self, kind: str, offset: int) -> None:
        if self._count is None or kind != self._failing.kind:
            return
        self._count += 1
        if self._count in self._failing.numbers:
            self._note(FAILED, offset, b"")
            raise OSError(self._failing.code, "")

    def _fsync(self, node: int, body: bytes) -> bytes:
        if node == _DISK:
            self._note(FLUSH, 0, b"")
        return b""

    def _note(self, kind: int, offset: int, data: bytes) -> None:
        record = _RECORD.pack(kind, offset, len(data)) + data
        assert os.write(self._log.fileno(), record) == len(record)


def mount(where: Path) -> int:
    """Mount the directory of the two files. It does not answer until a server has the channel.

    Returns:
        The channel: `/dev/fuse`, for the server alone.

    Raises:
        OSError: the rights of root, or `/dev/fuse`, are missing.
    """
    channel = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={channel},rootmode=40000,user_id=0,group_id=0".encode()
    if ctypes.CDLL(None, use_errno=True).mount(
        b"layerstore-disk", os.fsencode(where), b"fuse.layerstore-disk", 0, options
    ):
        code = ctypes.get_errno()
        os.close(channel)
        raise OSError(code, os.strerror(code), str(where))
    return channel


def main(
    image: str, log: str, channel: str, kind: str = "write", first: str = "0", last: str = "-1", code: str = "5"
) -> None:
    """Serve the disk until the file system is unmounted, or the parent process dies."""
    ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    failing = Failing(kind, range(int(first), int(last) + 1), int(code))
    Disk(Path(image), Path(log), int(channel), failing).serve()


if __name__ == "__main__":
    main(*sys.argv[1:])
