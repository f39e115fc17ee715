"""Making regular files, a batch at a time: in this process, or in one that does nothing else.

To make a small file is four short system calls, and for each the interpreter is let go of and wanted back: beside
a thread that parses, a second thread waits for it most of the time. So large layers have a process for this
(`unpack/file_worker.py` starts it). This file is its program, and must not import anything of the package.

What the two say to each other, each in one message of a `SOCK_SEQPACKET` socket:

- the helper, once: `READY`;
- the other: a marshalled `Order`, with the descriptors of the directories; contents are in shared memory;
- the helper: a marshalled `Outcome`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import starmap
from typing import Final

NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

#: How a file is made: its permission bits; user and group to set, if any; whether to set the bits when all is written.
HowToMake = tuple[int, tuple[int, int] | None, bool]
#: A file to make: the descriptor of its directory; its name there; how; its time in ns; all of its content.
FileToMake = tuple[int, bytes, HowToMake, int, memoryview]
#: Which files found their names taken; which one failed, if any, with error number, text and path: after it none was made.
Outcome = tuple[list[int], tuple[int, int, str, str | bytes | None] | None]
#: Where in the shared memory the contents begin, and files by number of directory and length of content.
Order = tuple[int, list[tuple[int, bytes, HowToMake, int, int]]]

READY: Final = b"ready"
#: How often a helper without orders looks whether anybody is there to give some, in seconds.
_PATIENCE: Final = 5.0
MAX_MESSAGE: Final = 1 << 16
#: No more descriptors than this in one message; the kernel takes 253.
MAX_DIRECTORIES: Final = 64


def make_files(files: Iterable[FileToMake]) -> Outcome:
    """Make files, up to the first that fails.

    Nothing that is there is touched: a name that is taken is told of, and the next file is made.
    """
    # The number goes straight into this list: what a signal handler raises after the call would lose it (see `descriptors`).
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
    """Close all descriptors of this process but the first ones, up to `last`: what it has inherited is not its own."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > last:
            try:
                os.close(int(name))
            except OSError:  # the list's own
                pass


def _serve(socket_fd: int, memory_fd: int, parent: int) -> None:
    """Make what the process `parent` orders until there are no more orders."""
    import marshal
    import mmap
    import socket

    # Whoever started this may die at any moment, and its layer be removed: nothing is to be made after that.
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
                message = b""  # it is dead, and a fork of it keeps the socket open
            if not message:
                os._exit(0)  # sooner done than taking the interpreter down
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
