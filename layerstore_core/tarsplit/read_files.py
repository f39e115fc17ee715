"""Reading a layer's small files to where they stand in its tar: in this process, or in one that does nothing else.

What is imported here, that process has to load: little.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from layerstore_core.errors import IntegrityError

_Opened = TypeVar("_Opened")

#: What the system says where a file or its directory has been removed or replaced since.
_MISSING: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP})
SIZE_DIFFERS: Final = "its size is not {} bytes any more"
CHECKSUM_DIFFERS: Final = "its checksum differs"

#: The signs that the other process gives: it is there; files have been read and are what they were; they are not.
READY: Final = b"r"
DONE: Final = b"d"
FAILED: Final = b"f"
_NUMBER: Final = 8
#: Where the memory begins that places are counted from, where that ends, and how long the order is that follows.
OrderHeader = tuple[int, int, int]

#: A file to read: its name in the tar; where its content begins and ends; CRC-64/GO-ISO of the content.
FileToRead = tuple[bytes, int, int, int]


def fill(memory: memoryview, files: Sequence[FileToRead], open_fd: Callable[[bytes], int]) -> None:
    """Read files to their places, in as few calls as can be.

    Args:
        memory: where to.
        files: none of them empty.
        open_fd: opens a file by its name, as `DescriptorGetter.open_fd` does.

    Raises:
        IntegrityError: a file is missing, or is not what it was; the message names it.
    """
    from fastcrc import crc64

    checksum, readv, close = crc64.go_iso, os.readv, os.close
    beyond = bytearray(1)  # where a byte goes that is more than the file may have
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
    """What a getter's `open` or `open_fd` gives; a file that is not there any more has been changed."""
    try:
        return open_file(name)
    except OSError as error:
        if error.errno not in _MISSING:
            raise
        raise changed_error(name, error.strerror or "it cannot be opened") from error


def changed_error(name: bytes, how: str) -> IntegrityError:
    """The error for a file that is not what it was."""
    shown = name.decode("utf-8", "backslashreplace")
    return IntegrityError(
        f"the layer's file {shown!r} is not what was registered: {how}; "
        "run `layerstore check`, and register the layer again from its source"
    )


def encode_header(numbers: OrderHeader) -> bytes:
    """What tells of an order."""
    return b"".join([number.to_bytes(_NUMBER, "little") for number in numbers])


def serve(connection: int, memory_fd: int, directory: int, parent: int) -> None:
    """What the other process does, until nobody is there to give orders.

    Args:
        connection: a socket for the signs; reading from it ends after a while.
        memory_fd: shared memory, for contents and orders.
        directory: the layer's.
        parent: the number of the process that gives them. It may be gone by now, so that to ask for it here would not do.
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
            header = b""  # it is dead, and a fork of it keeps the socket open
        if not header:
            os._exit(0)  # sooner done than taking the interpreter down
        start, end, length = (
            int.from_bytes(header[at : at + _NUMBER], "little") for at in range(0, len(header), _NUMBER)
        )
        try:
            fill(memory[start:end], marshal.loads(memory[end : end + length]), files.open_fd)
            answer = DONE
        except Exception:
            answer = FAILED  # whoever has ordered meets the error, too, and tells
        os.write(connection, answer)
