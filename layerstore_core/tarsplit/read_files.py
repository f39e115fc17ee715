"""Reading of a layer's small files to their places in its tar: in this process, or in a worker that does nothing else.

The worker has to load every import of this module, so there are few.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from layerstore_core.errors import IntegrityError

_Opened = TypeVar("_Opened")

#: Errors of a file that was removed or replaced since, or whose directory was.
_MISSING: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP})
SIZE_DIFFERS: Final = "its size is no longer {} bytes"
CHECKSUM_DIFFERS: Final = "its checksum differs"

#: The messages of the worker: it is ready; it has read an order's files, and they are as registered; they are not.
READY: Final = b"r"
DONE: Final = b"d"
FAILED: Final = b"f"
_NUMBER: Final = 8
#: Offset and end of the memory that the files' places are relative to, and the length of the order, which follows it.
OrderHeader = tuple[int, int, int]

#: A file to read: its name in the tar; offset and end of its content; CRC-64/GO-ISO of the content.
FileToRead = tuple[bytes, int, int, int]


def fill(memory: memoryview, files: Sequence[FileToRead], open_fd: Callable[[bytes], int]) -> None:
    """Read files to their places, in as few calls as possible.

    Args:
        memory: the memory to read to.
        files: the files; none is empty.
        open_fd: opens a file by its name, as `DescriptorGetter.open_fd` does.

    Raises:
        IntegrityError: a file is missing, or is not the registered one; the message names it.
    """
    from fastcrc import crc64

    checksum, readv, close = crc64.go_iso, os.readv, os.close
    beyond = bytearray(1)  # takes a byte after the expected end of a file, if there is one
    for name, begin, end, expected in files:
        fd = open_or_raise(open_fd, name)
        content = memory[begin:end]
        try:
            got = readv(fd, (content, beyond))
            while begin + got < end and (more := readv(fd, (content[got:], beyond))):
                got += more
        finally:
            close(fd)
        if begin + got != end:
            raise changed_error(name, SIZE_DIFFERS.format(end - begin))
        if checksum(content) != expected:
            raise changed_error(name, CHECKSUM_DIFFERS)


def open_or_raise(open_file: Callable[[bytes], _Opened], name: bytes) -> _Opened:
    """Return what a getter's `open` or `open_fd` returns; raise `IntegrityError` if the file no longer exists."""
    try:
        return open_file(name)
    except OSError as error:
        if error.errno not in _MISSING:
            raise
        raise changed_error(name, error.strerror or "it cannot be opened") from error


def changed_error(name: bytes, how: str) -> IntegrityError:
    """Return the error for a file that is not the registered one."""
    shown = name.decode("utf-8", "backslashreplace")
    return IntegrityError(
        f"the layer's file {shown!r} is not what was registered: {how}; "
        "run `layerstore check`, and register the layer again from its source"
    )


def encode_header(numbers: OrderHeader) -> bytes:
    """Return the message that announces an order."""
    return b"".join([number.to_bytes(_NUMBER, "little") for number in numbers])


def serve(connection: int, memory_fd: int, directory: int, parent: int) -> None:
    """Run the worker, until its parent sends no more orders.

    Args:
        connection: a socket for the messages. Reading from it ends after a while, if nothing comes.
        memory_fd: shared memory, for contents and orders.
        directory: the layer's directory.
        parent: the process ID of the parent. `os.getppid` would not do: the parent may be dead by now.
    """
    import marshal
    import mmap

    from layerstore_core.tree.files import TreeFiles

    files = TreeFiles(directory)
    memory = memoryview(mmap.mmap(memory_fd, 0))
    os.write(connection, READY)
    while True:
        try:
            header = os.read(connection, 3 * _NUMBER)
        except BlockingIOError:
            if os.getppid() == parent:
                continue
            header = b""  # the parent is dead, and a fork of it keeps the socket open
        if not header:
            os._exit(0)  # skips interpreter shutdown, which takes longer
        start, end, length = (
            int.from_bytes(header[at : at + _NUMBER], "little") for at in range(0, len(header), _NUMBER)
        )
        try:
            fill(memory[start:end], marshal.loads(memory[end : end + length]), files.open_fd)
            answer = DONE
        except Exception:
            answer = FAILED  # the parent then meets the same error, and reports it
        os.write(connection, answer)
