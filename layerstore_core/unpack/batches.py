"""Making a layer's small files in batches, while the tar is read on.

Of a large layer most batches go to another process (`unpack/file_worker.py`); what it has no room for is made here, so
that neither waits for the other. Files are made by the descriptors of their directories. A file that was added is
*pending* until the owner of the writers, the only thread that calls them, has seen that it is done; it must not
touch a pending name before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from layerstore_core.errors import LayerStoreError
from layerstore_core.log import logger
from layerstore_core.tar.entry import TarEntry
from layerstore_core.tar.plain_entries import PlainEntry, entry_of
from layerstore_core.tree.root import Directory
from layerstore_core.unpack.file_worker import SLOT, FileWorker, WorkerStopped
from layerstore_core.unpack.make_files import MAX_DIRECTORIES, FileToMake, HowToMake, Outcome, make_files

_BATCH_FILES: Final = 128
_BATCH_BYTES: Final = 3 << 19
#: A group is of files in one directory; these stay open while files in them are pending.
_BATCH_DIRECTORIES: Final = 16
#: How much of the tar the files under way may reach back, in bytes: their contents are kept in memory.
_MAX_SPAN: Final = 16 << 20
#: No process is started for a layer of fewer batches: to start one takes as long as to make a thousand files.
_BATCHES_BEFORE_WORKER: Final = 16

assert _BATCH_DIRECTORIES <= MAX_DIRECTORIES

#: A regular file that is to be made in some directory: its name there; how; its time in ns; all of its content; what
#: it is made of; its path in the layer. A plain tuple, since there are so many.
PlannedFile = tuple[bytes, HowToMake, int, memoryview, TarEntry | PlainEntry, bytes]


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
    """Files to make."""

    __slots__ = ("by_directory", "count", "outcome", "size", "start")

    def __init__(self, start: int) -> None:
        #: Where its first entry is in the tar.
        self.start = start
        #: Files by their directories, which are pinned.
        self.by_directory: list[tuple[Directory, list[PlannedFile]]] = []
        #: How many files they are.
        self.count = 0
        #: How many bytes they have.
        self.size = 0
        #: How it went; `None` until that is known.
        self.outcome: Outcome | None = None

    def to_make(self) -> Iterator[FileToMake]:
        """What is to be done."""
        for directory, files in self.by_directory:
            fd = directory.fd
            for base, how, mtime_ns, content, _, _ in files:
                yield fd, base, how, mtime_ns, content

    def files(self) -> list[PlannedFile]:
        """All files."""
        return [file for _, files in self.by_directory for file in files]

    def release(self) -> None:
        """Nothing of it is pending any more."""
        for directory, files in self.by_directory:
            directory.pending.difference_update([file[0] for file in files])
            directory.pins -= 1

    def failure(self) -> FileFailed | None:
        """The file that failed, if it is known and there is one."""
        if self.outcome is None or self.outcome[1] is None:
            return None
        number, code, text, path = self.outcome[1]
        return FileFailed(OSError(code, text, path), _entry_of(self.files()[number]))


class FileWriters:
    """Makes small files of one layer. For one thread, its owner.

    Args:
        made: called with files that have been made.
        taken: called with each file whose name was taken, in their order, when nothing is pending.
    """

    def __init__(self, made: Callable[[list[PlannedFile]], None], taken: Callable[[PlannedFile], None]) -> None:
        self._made = made
        self._taken = taken
        self._current: _Batch | None = None
        #: What has been handed over and not been seen to be done, in the tar's order.
        self._in_progress: deque[_Batch] = deque()
        self._batches = 0
        #: The process beside. Not more than one: half of its time it waits for the thread that parses.
        self._worker: FileWorker | None = None
        #: The batches that it has been given, in order.
        self._submitted: deque[_Batch] = deque()
        #: A call has begun, and not ended: something came between, and what is noted here need not be true.
        self._interrupted = False

    def add(self, directory: Directory, files: list[PlannedFile]) -> None:
        """Have files made in one directory, now or later; until then their names are in its `pending`.

        Args:
            directory: where.
            files: in the tar's order, no two of one name, none of a name that is pending.

        Raises:
            FileFailed: one of these files or an earlier one could not be made.
        """
        self._interrupted = True
        names = [file[0] for file in files]
        directory.pins += 1  # handing over another batch may close others
        size = sum([len(file[3]) for file in files])
        offset = _offset_of(files[0])
        batch = self._current
        if batch is not None and batch.size + size > SLOT:
            directory.pending.difference_update(names)  # nobody could flush them yet
            self._dispatch(batch)
            batch = None
        directory.pending.update(names)
        if batch is None:
            batch = self._current = _Batch(offset)
        batch.by_directory.append((directory, files))
        batch.count += len(files)
        batch.size += size
        if batch.count >= _BATCH_FILES or batch.size >= _BATCH_BYTES or len(batch.by_directory) >= _BATCH_DIRECTORIES:
            self._dispatch(batch)
        elif offset - (self._in_progress[0] if self._in_progress else batch).start > _MAX_SPAN:
            self._flush()
        self._interrupted = False

    def flush(self) -> None:
        """Wait until nothing is pending. After a call that something else than `FileFailed` has ended, this does nothing.

        Raises:
            FileFailed: a file could not be made.
        """
        if not self._interrupted:
            self._interrupted = True
            self._flush()
            self._interrupted = False

    def _flush(self) -> None:
        batch, self._current = self._current, None
        if batch is not None:
            self._in_progress.append(batch)
            self._make(batch)
        if self._in_progress:
            self._collect(wait=True)

    def stop(self) -> None:
        """End the process beside. What is pending is left, made or not."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.close()
        self._submitted.clear()
        if self._current is not None:
            self._in_progress.append(self._current)
            self._current = None
        while self._in_progress:
            self._in_progress.popleft().release()

    def _dispatch(self, batch: _Batch) -> None:
        self._current = None
        self._in_progress.append(batch)
        self._batches += 1
        if self._batches == _BATCHES_BEFORE_WORKER:
            self._worker = FileWorker.start()
        if not self._submit_to_worker(batch):
            self._make(batch)
        self._collect(wait=False)

    def _submit_to_worker(self, batch: _Batch) -> bool:
        """Give a batch to the process beside, if there is one, and it has room."""
        worker = self._worker
        try:
            if worker is None or batch.size > SLOT or not worker.has_room or not worker.submit(batch.to_make()):
                return False
        except ChildProcessError as error:
            raise FileFailed(error, _entry_of(batch.files()[0])) from error
        self._submitted.append(batch)
        return True

    def _make(self, batch: _Batch) -> None:
        batch.outcome = make_files(batch.to_make())

    def _collect(self, *, wait: bool) -> None:
        """See what is done, or, if told so, `wait` until all is."""
        taken: list[PlannedFile] = []
        while self._in_progress:
            self._receive_outcomes(wait=wait)
            while self._in_progress and self._in_progress[0].outcome is not None:
                batch = self._in_progress.popleft()
                batch.release()
                failure = batch.failure()
                if failure is not None:
                    raise failure
                self._made(self._split(batch, taken))
            if not taken and not wait:
                break
            wait = True  # clearing a name may close directories that others are being made in
        for file in taken:
            try:
                self._taken(file)
            except (LayerStoreError, OSError) as error:
                raise FileFailed(error, _entry_of(file)) from error

    def _receive_outcomes(self, *, wait: bool) -> None:
        """Take in what the process beside has to say, or wait for all that it will say."""
        while self._submitted:
            assert self._worker is not None
            try:
                outcome = self._worker.outcome(wait=wait)
            except WorkerStopped:
                # What it has made of these is found to be taken, and made again.
                logger.debug("files are made in this process: the other one was stopped")
                self._worker.close()
                self._worker = None
                for batch in self._submitted:
                    self._make(batch)
                self._submitted.clear()
                return
            except ChildProcessError as error:
                raise FileFailed(error, _entry_of(self._submitted[0].files()[0])) from error
            if outcome is None:
                return
            self._submitted.popleft().outcome = outcome

    def _split(self, batch: _Batch, taken: list[PlannedFile]) -> list[PlannedFile]:
        """The files of a batch that are there now; those whose names were taken go to `taken`."""
        assert batch.outcome is not None
        files = batch.files()
        numbers = set(batch.outcome[0])
        if not numbers:
            return files
        taken += [file for number, file in enumerate(files) if number in numbers]
        return [file for number, file in enumerate(files) if number not in numbers]


def _entry_of(file: PlannedFile) -> TarEntry:
    source = file[4]
    return source if isinstance(source, TarEntry) else entry_of(source)


def _offset_of(file: PlannedFile) -> int:
    """Where its entry is in the tar."""
    source = file[4]
    return source.offset if isinstance(source, TarEntry) else source[6]
