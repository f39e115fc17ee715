"""Making of a layer's small files in batches, while the tar is still being read.

Most batches of a large layer go to a worker process (`unpack/file_worker.py`). A batch that the worker has no room for
is made in this process, so that neither waits for the other. Files are made relative to the descriptors of their
directories. A file that was added is *pending* until the owner of the writers has seen that it is done. The owner is
the only thread that calls the writers; it must not touch a pending name before.
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
#: The most directories of one batch. They stay open while files in them are pending.
_BATCH_DIRECTORIES: Final = 16
#: The most bytes of the tar that pending files may span: their contents are kept in memory.
_MAX_SPAN: Final = 16 << 20
#: A layer with fewer batches starts no worker: to start one takes as long as to make a thousand files.
_BATCHES_BEFORE_WORKER: Final = 16

assert _BATCH_DIRECTORIES <= MAX_DIRECTORIES

#: A regular file that is to be made in some directory: its name there; how to make it; its time in ns; all of its
#: content; the entry it is made from; its path in the layer. A plain tuple, since there are so many.
PlannedFile = tuple[bytes, HowToMake, int, memoryview, TarEntry | PlainEntry, bytes]


class FileFailed(Exception):
    """Error of a file that was added to the writers and could not be made.

    Args:
        error: the reason.
        entry: the file's entry.
    """

    def __init__(self, error: BaseException, entry: TarEntry) -> None:
        super().__init__(error, entry)
        self.error = error
        self.entry = entry


class _Batch:
    """Files to make together."""

    __slots__ = ("by_directory", "count", "outcome", "size", "start")

    def __init__(self, start: int) -> None:
        #: Offset of its first entry in the tar.
        self.start = start
        #: The files by directory. The directories are pinned.
        self.by_directory: list[tuple[Directory, list[PlannedFile]]] = []
        #: The number of files.
        self.count = 0
        #: Length of their contents, in bytes.
        self.size = 0
        #: The result; `None` until it is known.
        self.outcome: Outcome | None = None

    def to_make(self) -> Iterator[FileToMake]:
        """Yield the files to make."""
        for directory, files in self.by_directory:
            fd = directory.fd
            for base, how, mtime_ns, content, _, _ in files:
                yield fd, base, how, mtime_ns, content

    def files(self) -> list[PlannedFile]:
        """Return all files."""
        return [file for _, files in self.by_directory for file in files]

    def release(self) -> None:
        """Mark the files as no longer pending, and unpin their directories."""
        for directory, files in self.by_directory:
            directory.pending.difference_update([file[0] for file in files])
            directory.pins -= 1

    def failure(self) -> FileFailed | None:
        """Return the file that failed; `None` if none has failed, or the outcome is not known yet."""
        if self.outcome is None or self.outcome[1] is None:
            return None
        number, code, text, path = self.outcome[1]
        return FileFailed(OSError(code, text, path), _entry_of(self.files()[number]))


class FileWriters:
    """Writers of the small files of one layer. Only one thread, the owner, may use them.

    Args:
        on_made: called with files that have been made.
        on_taken: called with each file whose name was taken, in the order of the tar, when nothing is pending.
    """

    def __init__(self, on_made: Callable[[list[PlannedFile]], None], on_taken: Callable[[PlannedFile], None]) -> None:
        self._on_made = on_made
        self._on_taken = on_taken
        self._current: _Batch | None = None
        #: Batches that were dispatched and not yet seen to be done, in the tar's order.
        self._in_progress: deque[_Batch] = deque()
        self._batches = 0
        #: The worker process. One is enough: half of the time it waits for the thread that parses.
        self._worker: FileWorker | None = None
        #: Batches that were sent to the worker, in order.
        self._submitted: deque[_Batch] = deque()
        #: Whether a call is under way, or was ended by an exception. After an exception these fields may be wrong.
        self._interrupted = False

    def add(self, directory: Directory, files: list[PlannedFile]) -> None:
        """Make files in one directory, now or later; until then their names are in its `pending`.

        Args:
            directory: the directory.
            files: in the tar's order; no name occurs twice, and none is pending.

        Raises:
            FileFailed: one of these files or an earlier one could not be made.
        """
        self._interrupted = True
        names = [file[0] for file in files]
        directory.pins += 1  # dispatching another batch may close other directories
        size = sum([len(file[3]) for file in files])
        offset = _offset_of(files[0])
        batch = self._current
        if batch is not None and batch.size + size > SLOT:
            directory.pending.difference_update(names)  # they are in no batch yet, so they cannot be flushed
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
        """Wait until nothing is pending. Do nothing if an exception other than `FileFailed` has ended an earlier call.

        Raises:
            FileFailed: a file could not be made.
        """
        if not self._interrupted:
            self._interrupted = True
            self._flush()
            self._interrupted = False

    def _flush(self) -> None:
        """Make the current batch, and wait until all batches are done."""
        batch, self._current = self._current, None
        if batch is not None:
            self._in_progress.append(batch)
            self._make(batch)
        if self._in_progress:
            self._collect(wait=True)

    def stop(self) -> None:
        """End the worker. Pending files stay as they are, made or not."""
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
        """Send a batch to the worker, or make it here."""
        self._current = None
        self._in_progress.append(batch)
        self._batches += 1
        if self._batches == _BATCHES_BEFORE_WORKER:
            self._worker = FileWorker.start()
        if not self._submit_to_worker(batch):
            self._make(batch)
        self._collect(wait=False)

    def _submit_to_worker(self, batch: _Batch) -> bool:
        """Send a batch to the worker; return whether it was sent: there may be no worker, or it may have no room."""
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
        """Process the batches that are done; with `wait`, wait until all are."""
        taken: list[PlannedFile] = []
        while self._in_progress:
            self._receive_outcomes(wait=wait)
            while self._in_progress and self._in_progress[0].outcome is not None:
                batch = self._in_progress.popleft()
                batch.release()
                failure = batch.failure()
                if failure is not None:
                    raise failure
                self._on_made(self._split(batch, taken))
            if not taken and not wait:
                break
            wait = True  # clearing a name may close directories that other files are being made in
        for file in taken:
            try:
                self._on_taken(file)
            except (LayerStoreError, OSError) as error:
                raise FileFailed(error, _entry_of(file)) from error

    def _receive_outcomes(self, *, wait: bool) -> None:
        """Receive the outcomes that the worker has sent; with `wait`, wait for all of them."""
        while self._submitted:
            assert self._worker is not None
            try:
                outcome = self._worker.outcome(wait=wait)
            except WorkerStopped:
                # The names of files that the worker has made turn out to be taken; these files are made again.
                logger.debug("the process that makes files was stopped; making its files in this process")
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
        """Return the files of a batch that were made; add those whose names were taken to `taken`."""
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
    """Return the offset of a file's entry in the tar."""
    source = file[4]
    return source.offset if isinstance(source, TarEntry) else source[6]
