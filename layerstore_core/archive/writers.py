"""Threads that make a layer's small files, while the tar is read on.

To make a file is four system calls, in which the interpreter is let go of: so two cores are used. Files are handed
over in batches, by the descriptors of their directories. What is handed over is *pending* until the owner of the
writers, the only thread that calls them, has seen that it is done; it must not touch a pending name before.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Final

from layerstore_core.archive.entry import TarEntry
from layerstore_core.archive.root import Directory
from layerstore_core.errors import LayerStoreError

NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

_BATCH_FILES: Final = 64
_BATCH_BYTES: Final = 1 << 20
#: Directories stay open while files in them are pending.
_BATCH_DIRECTORIES: Final = 8
#: Batches under way, and how much of the tar they may reach back, in bytes: their contents are kept in memory.
_MAX_BATCHES: Final = 6
_MAX_SPAN: Final = 16 << 20


#: How a file is made: its permission bits; user and group to set, if any; whether to set the bits when all is written.
HowToMake = tuple[int, tuple[int, int] | None, bool]
#: A regular file that is to be made: its directory; its name there; how; its time in ns; all of its content; what it
#: is made of; its clean name in the layer. A plain tuple, since there are so many.
PlannedFile = tuple[Directory, bytes, HowToMake, int, memoryview, TarEntry, bytes]


class FileFailed(Exception):
    """A file that was handed over could not be made.

    Args:
        error: why.
        entry: which one.
    """

    def __init__(self, error: BaseException, entry: TarEntry) -> None:
        super().__init__(error, entry)
        self.error = error
        self.entry = entry


class _Batch:
    """Files to make; first the owner's, then one thread's, then the owner's again."""

    __slots__ = ("directories", "error", "failed", "files", "finished", "size", "start", "taken")

    def __init__(self, start: int) -> None:
        #: Where its first entry is in the tar.
        self.start = start
        self.files: list[PlannedFile] = []
        #: How many bytes they have.
        self.size = 0
        #: Where they are, pinned.
        self.directories: list[Directory] = []
        #: Files whose names were taken.
        self.taken: list[PlannedFile] = []
        self.error: BaseException | None = None
        #: The file that `error` is about.
        self.failed: PlannedFile | None = None
        self.finished = False

    def make(self) -> None:
        """Make the files, up to the first that fails."""
        file = None
        try:
            for file in self.files:
                directory, base, (mode, owner, set_mode), mtime_ns, content, _, _ = file
                try:
                    fd = os.open(base, NEW_FILE, mode, dir_fd=directory.fd)
                except FileExistsError:
                    self.taken.append(file)
                    continue
                try:
                    if content:
                        write_all(fd, content)
                    if owner is not None:
                        os.chown(fd, *owner)
                    if set_mode:
                        os.chmod(fd, mode)
                    os.utime(fd, ns=(mtime_ns, mtime_ns))
                finally:
                    os.close(fd)
        except BaseException as error:  # told where the owner asks for it
            self.error, self.failed = error, file

    def made(self) -> list[PlannedFile]:
        """The files that are there now, if none has failed."""
        if not self.taken:
            return self.files
        taken = set(map(id, self.taken))
        return [file for file in self.files if id(file) not in taken]

    def let_go(self) -> None:
        """The owner knows how it went: nothing of it is pending any more."""
        for file in self.files:
            file[0].pending.discard(file[1])
        for directory in self.directories:
            directory.pins -= 1

    def failure(self) -> FileFailed | None:
        if self.error is None or self.failed is None:
            return None
        return FileFailed(self.error, self.failed[5])


class FileWriters:
    """Makes small files of one layer. For one thread, its owner.

    Args:
        made: called with files that have been made.
        taken: called with each file whose name was taken, in their order, when nothing is pending.
    """

    def __init__(self, made: Callable[[list[PlannedFile]], None], taken: Callable[[PlannedFile], None]) -> None:
        self._made = made
        self._taken = taken
        self._jobs: SimpleQueue[_Batch | None] = SimpleQueue()
        self._done: SimpleQueue[_Batch] = SimpleQueue()
        self._threads: list[Thread] = []
        self._filling: _Batch | None = None
        #: What has been handed over and not been seen to be done, in the tar's order.
        self._under_way: deque[_Batch] = deque()
        self._stopping = False

    def add(self, file: PlannedFile) -> None:
        """Have a file made, now or later; its name is in its directory's `pending` until then.

        Raises:
            FileFailed: this file or an earlier one could not be made.
        """
        directory, base, _, _, content, entry, _ = file
        batch = self._filling
        if batch is None:
            batch = self._filling = _Batch(entry.offset)
        files, directories = batch.files, batch.directories
        if not directories or directories[-1] is not directory:
            directories.append(directory)
            directory.pins += 1
        directory.pending.add(base)
        files.append(file)
        batch.size += len(content)
        if len(files) >= _BATCH_FILES or batch.size >= _BATCH_BYTES or len(directories) >= _BATCH_DIRECTORIES:
            self._hand_over(batch)
        elif entry.offset - (self._under_way[0] if self._under_way else batch).start > _MAX_SPAN:
            self.settle()

    def settle(self) -> None:
        """Wait until nothing is pending.

        Raises:
            FileFailed: a file could not be made.
        """
        batch, self._filling = self._filling, None
        if batch is not None:
            self._under_way.append(batch)
            batch.make()  # sooner done than a thread wakes up
            self._done.put(batch)
        if self._under_way:
            self._collect(0)

    def stop(self) -> FileFailed | None:
        """End the threads. What is pending is left, made or not.

        Returns:
            The first failure that nobody has been told of.
        """
        self._stopping = True
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()
        self._threads.clear()
        failures = [batch.failure() for batch in self._under_way]
        if self._filling is not None:
            self._under_way.append(self._filling)
            self._filling = None
        while self._under_way:
            self._under_way.popleft().let_go()
        return next(filter(None, failures), None)

    def _hand_over(self, batch: _Batch) -> None:
        self._filling = None
        if not self._threads:
            for number in range(_threads()):
                thread = Thread(target=self._run, name=f"layerstore-write-{number}", daemon=True)
                thread.start()
                self._threads.append(thread)
        self._under_way.append(batch)
        self._jobs.put(batch)
        self._collect(_MAX_BATCHES - 1)

    def _collect(self, limit: int) -> None:
        """See what is done, and wait until no more than `limit` batches are under way."""
        taken: list[PlannedFile] = []
        while len(self._under_way) > limit or not self._done.empty():
            self._done.get().finished = True
            while self._under_way and self._under_way[0].finished:
                batch = self._under_way.popleft()
                batch.let_go()
                failure = batch.failure()
                if failure is not None:
                    raise failure
                self._made(batch.made())
                if batch.taken:
                    taken += batch.taken
                    limit = 0  # clearing a name may close directories that others are being made in
        for file in taken:
            try:
                self._taken(file)
            except (LayerStoreError, OSError) as error:
                raise FileFailed(error, file[5]) from error

    def _run(self) -> None:
        while (batch := self._jobs.get()) is not None:
            if not self._stopping:
                batch.make()
            self._done.put(batch)


def _threads() -> int:
    """How many threads are worth it: beside the one that parses and the one that hashes, on few cores, one."""
    return 1 if len(os.sched_getaffinity(0)) < 4 else 2


def write_all(fd: int, data: memoryview) -> None:
    """Write all of `data`, in as many calls as it takes."""
    written = os.write(fd, data)
    while written < len(data):
        data = data[written:]
        written = os.write(fd, data)
