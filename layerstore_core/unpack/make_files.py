"""Making of regular files, a batch at a time: in this process, or in a worker that does nothing else.

Making a small file takes four short system calls. Each call releases and re-acquires the GIL, so that a second thread
would wait for the parsing thread most of the time. So large layers use a worker process (`unpack/file_worker.py` starts
it). This file is the worker's program, and must not import anything of the package.

The two processes exchange these messages, each in one message of a `SOCK_SEQPACKET` socket:

- the worker sends `READY` once;
- the parent sends a marshalled `Order`, with the descriptors of the directories; contents are in shared memory;
- the worker sends a marshalled `Outcome`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import starmap
from typing import Final

NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

#: How to make a file: its permission bits; the user and group to set, if any; whether to set the bits after writing.
HowToMake = tuple[int, tuple[int, int] | None, bool]
#: A file to make: descriptor of its directory; its name there; how to make it; its time in ns; all of its content.
FileToMake = tuple[int, bytes, HowToMake, int, memoryview]
#: The numbers of the files whose names were taken; the number, error number, text and path of the file that failed, if
#: one did. No file after a failed one was made.
Outcome = tuple[list[int], tuple[int, int, str, str | bytes | None] | None]
#: Offset of the contents in the shared memory, and the files, each with the number of its directory and its length.
Order = tuple[int, list[tuple[int, bytes, HowToMake, int, int]]]

READY: Final = b"ready"
#: How often an idle worker checks that its parent still lives, in seconds.
_PATIENCE: Final = 5.0
MAX_MESSAGE: Final = 1 << 16
#: The most descriptors in one message; the kernel accepts 253.
MAX_DIRECTORIES: Final = 64


def make_files(files: Iterable[FileToMake]) -> Outcome:
    """Make files, up to the first that fails.

    Existing files are not touched: the number of a file whose name is taken goes into the outcome, and the next is
    made.
    """
    # The descriptor goes straight into this list: an exception from a signal handler right after the call would lose it
    # otherwise (see `base.descriptors`).
    opened: list[int] = []
    taken = []
    number = -1
    try:
        for number, (directory, base, (mode, owner, set_mode), mtime_ns, content) in enumerate(files):
            try:
                opened.extend(starmap(partial(os.open, dir_fd=directory), ((base, NEW_FILE, mode),)))
            except FileExistsError:
                taken.append(number)
                continue
            fd = opened[0]
            try:
                if content:
                    write_all(fd, content)
                if owner is not None:
                    os.chown(fd, *owner)
                if set_mode:
                    os.chmod(fd, mode)
                os.utime(fd, ns=(mtime_ns, mtime_ns))
            finally:
                del opened[0]
                os.close(fd)
    except OSError as error:
        return taken, (number, error.errno or 0, error.strerror or str(error), error.filename)
    finally:
        for fd in opened:
            os.close(fd)
    return taken, None


def write_all(fd: int, data: memoryview) -> None:
    """Write all of `data`, in as many calls as it takes."""
    written = os.write(fd, data)
    while written < len(data):
        data = data[written:]
        written = os.write(fd, data)


def close_all_above(last: int) -> None:
    """Close all descriptors of this process above `last`: it has inherited them, and they belong to its parent."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > last:
            try:
                os.close(int(name))
            except OSError:  # the descriptor of the directory listing itself
                pass


def _serve(socket_fd: int, memory_fd: int, parent: int) -> None:
    """Make the files that the process `parent` orders, until it sends no more orders."""
    import marshal
    import mmap
    import socket

    # The parent may die at any moment, and its layer be removed: after that nothing may be made.
    directories: list[int] = []

    def ordered(start: int, files: list[tuple[int, bytes, HowToMake, int, int]]) -> Iterator[FileToMake]:
        for directory, base, how, mtime_ns, length in files:
            if os.getppid() != parent:
                return
            end = start + length
            yield directories[directory], base, how, mtime_ns, contents[start:end]
            start = end

    with socket.socket(fileno=socket_fd) as connection, mmap.mmap(memory_fd, 0, prot=mmap.PROT_READ) as memory:
        contents = memoryview(memory)
        connection.send(READY)
        connection.settimeout(_PATIENCE)
        while True:
            try:
                message, directories, _, _ = socket.recv_fds(connection, MAX_MESSAGE, MAX_DIRECTORIES)
            except TimeoutError:
                if os.getppid() == parent:
                    continue
                message = b""  # the parent is dead, and a fork of it keeps the socket open
            if not message:
                os._exit(0)  # skips interpreter shutdown, which takes longer
            try:
                order: Order = marshal.loads(message)
                outcome = make_files(ordered(*order))
            finally:
                for fd in directories:
                    os.close(fd)
            connection.send(marshal.dumps(outcome))


if __name__ == "__main__":
    close_all_above(2)
    _serve(0, 1, int(sys.argv[1]))
