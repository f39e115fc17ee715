"""Making of a run's entries by the kernels, in a thread, while the main thread plans the next ones.

The kernels plan a run in the main thread: they make its directories at once, and put its files and links into *jobs*,
which a lane does in the order of the tar. A directory that they have made stays open for what comes next, and a job
closes it, with its times, after the last of its files. Directories that they do not know are *lent* to them, for a job.

Whatever is not plain, or fails, is left to Python (`unpack.apply`), and all that comes after it waits. So the result is
as if each entry was applied when its turn came, and the first error is that of the first entry that has one.

What keeps it so:

- A path is planned only if this layer has touched neither it nor anything below it, and has followed no link of that
  name. So of all that has the name, only a parent's file can be in the way of a planned one, and two planned ones never
  have one name. Planning touches the path.
- A directory is entered ahead of its turn only if no planned file or link can be on its path. A link on it is followed,
  and a file on it is removed, when nothing is planned any more (`Root.settle`).
- Whoever opens a directory that the kernels have open, too, leaves it with the times that these will set
  (`Root.times_of`).
- Anything else that Python does to the tree waits until nothing is planned, and the kernels have no directory open.
"""

from __future__ import annotations

import os
from collections import deque
from functools import partial
from typing import Any, Final

from layerstore_core.base.kernels import engine
from layerstore_core.base.nameset import NameSet
from layerstore_core.base.paths import clean_name, leaves_root
from layerstore_core.base.threads import Lane
from layerstore_core.errors import InvalidLayer
from layerstore_core.tar.entry import EntryType, TarEntry
from layerstore_core.tar.run import DIRECTORY, Run, entry_of
from layerstore_core.tree.root import Directory, Root
from layerstore_core.unpack.apply import Applier
from layerstore_core.unpack.create import Creator
from layerstore_core.unpack.hows import Hows

#: The most directories that are lent for one job, and one more for the target of a link. They stay open until it is
#: done.
_MAX_DIRECTORIES: Final = 16
#: The most jobs that are not done.
_MAX_JOBS: Final = 4
#: Why a job takes no more (`enum ls_reason` of the kernels): all of the run is planned; it is full; the directory that
#: the entry goes into is not known; that of a hard link's target is not known. Otherwise the entry is left to Python.
_PLANNED, _FULL, _NO_DIRECTORY, _NO_SOURCE = range(4)


class EntryFailed(Exception):
    """Error of an entry that could not be applied.

    Args:
        error: the reason.
        entry: the entry.
    """

    def __init__(self, error: BaseException, entry: TarEntry) -> None:
        super().__init__(error, entry)
        self.error = error
        self.entry = entry


class _Planned:
    """Files and links of a run that a job makes.

    Attributes:
        run: the run.
        job: the kernel's job.
        directories: those that are lent for it. They are pinned.
        left: the entry that the job has left to Python; -1: all is done; `None`: it has not begun.
    """

    __slots__ = ("directories", "job", "left", "run")

    def __init__(self, run: Run, job: Any) -> None:
        self.run = run
        self.job = job
        self.directories: list[Directory] = []
        self.left: int | None = None

    def pin(self, directory: Directory) -> None:
        """Keep a directory open until the job is done."""
        directory.pins += 1
        self.directories.append(directory)

    def release(self) -> None:
        """Unpin the directories, and drop what was not done."""
        self.job.close()
        for directory in self.directories:
            directory.pins -= 1
        self.directories.clear()


class RunMaker:
    """Maker of what the runs of one layer describe. For one thread.

    Args:
        tree: the tree to make it in.
        applier: applies single entries.
        creator: makes single files.
        touched: the names that the layer has written; a set of the kernels.
    """

    def __init__(self, tree: Root, applier: Applier, creator: Creator, touched: NameSet) -> None:
        self._tree = tree
        self._applier = applier
        self._creator = creator
        self._touched = touched
        self._lane = Lane("layerstore-files", depth=_MAX_JOBS)
        kernels = engine().kernels
        #: The directories that the kernels know; `None` without kernels: then there are no runs.
        self._directories: Any = None if kernels is None else kernels.Directories()
        self._new_job: Any = None if kernels is None else kernels.Job
        #: What is planned and was not seen to be done, in the order of the tar.
        self._planned: deque[_Planned] = deque()
        self._jobs = 0
        #: What is being planned.
        self._current: _Planned | None = None
        #: Set in the lane, when something was left to Python: the rest waits for it.
        self._stopped = False
        self._settling = False
        self._hows = Hows(creator)
        tree.settle = self.settle
        tree.times_of = self._times_of

    def add(self, run: Run) -> None:
        """Make what the entries of a run describe, now or later.

        Raises:
            EntryFailed: one of these entries or an earlier one could not be applied.
        """
        self._applier.made_size += run.size
        kinds = run.kinds
        self._hows.begin(kinds)
        for kind in kinds:
            self._count_left_out(kind[2], kind[3], kind[4])
        index = 0
        while True:
            job = self._job(run).job
            first = index
            index, reason = job.add(first, self._how(setgid=False, inherits_acl=False))
            if self._applier.made is not None:
                self._applier.made.add_run(run, first, index)
            if reason == _PLANNED:
                break
            if reason == _FULL:
                self._put()
                continue
            try:
                after = self._without_kernels(run, index, reason)
            except (InvalidLayer, OSError) as error:
                self.settle()  # an error of what is planned comes first in the tar
                raise EntryFailed(error, entry_of(run, index)) from error
            if after is None:
                self.settle()
                self._apply(run, index)
                after = index + 1
            index = after
        self._put()

    def settle(self) -> bool:
        """Wait until nothing is planned any more; return whether anything was.

        Raises:
            EntryFailed: an entry could not be applied.
        """
        if self._settling:
            return False  # what is applied here had all it needs when it was planned
        self._put()
        was_planned = bool(self._planned)
        self._settling = True
        if was_planned:
            self._lane.drain()
        while self._planned:
            planned = self._planned[0]
            left = self._run(planned) if planned.left is None else planned.left
            while left >= 0:
                self._apply(planned.run, left, is_new=True)
                left = self._run(planned)
            planned.release()
            self._planned.popleft()
        self._end_directories()
        self._stopped = self._settling = False
        return was_planned

    def close(self) -> None:
        """End the thread's work. What is still planned is not made."""
        try:
            self._lane.close()
        finally:
            self._tree.settle = lambda: False
            self._tree.times_of = lambda _: None
            for planned in self._unfinished():
                planned.release()
            self._planned.clear()
            self._current = None
            if self._directories is not None:
                self._directories.close()

    def _without_kernels(self, run: Run, index: int, reason: int) -> int | None:
        """Do what a job needs to go on; return the entry at which it goes on, or `None` if this one is to be applied.

        Args:
            run: the run.
            index: the entry.
            reason: why the job does not take it.
        """
        path = run.path(index)
        parent = path.rpartition(b"/")[0]
        if reason == _NO_DIRECTORY:
            directory = self._enter(parent)
            if directory.path != parent:
                return None
            self._lend(run, directory, _MAX_DIRECTORIES)
            return index
        if reason == _NO_SOURCE:
            return index if self._lend_source(run, index) else None
        if run.entry(index)[0] == DIRECTORY and self._make_directory(run, index, path, parent):
            return index + 1
        return None

    def _lend(self, run: Run, directory: Directory, most: int) -> None:
        """Lend a directory to the kernels, for the current job; begin another one if so many are lent for it."""
        planned = self._job(run)
        if len(planned.directories) >= most:
            self._put()
            planned = self._job(run)
        how = self._how(setgid=directory.setgid, inherits_acl=directory.inherits_acl)
        self._directories.lend(directory.path, directory.fd, how)
        planned.pin(directory)

    def _lend_source(self, run: Run, index: int) -> bool:
        """Lend the directory of a hard link's target, a file of this layer; return whether that was done."""
        target = clean_name(run.entry(index)[8])
        above = target.rpartition(b"/")[0]
        if leaves_root(target) or (above and above + b"/" not in self._touched):
            return False
        try:
            source = self._tree.enter(above)
        except (FileNotFoundError, NotADirectoryError):
            return False
        if source.path != above:
            return False
        self._lend(run, source, _MAX_DIRECTORIES + 1)
        return True

    def _make_directory(self, run: Run, index: int, path: bytes, parent: bytes) -> bool:
        """Make a directory, or apply an entry to one that a parent has; return whether that was done."""
        directory = self._enter(parent)
        if directory.path != parent or any(path + end in self._touched for end in (b"", b"/", b"\0")):
            return False
        found = self._tree.opened(path)
        if found is not None and found.pins:
            return False  # the files that are planned in it need the metadata that it has had so far
        entry = entry_of(run, index)
        try:
            self._creator.directory(entry, directory, path.rpartition(b"/")[2])
        except FileExistsError:
            return False
        self._count_left_out(entry.uid, entry.gid, -1)  # it was counted by the creator
        self._touched.add(path)
        self._touched.add(path + b"/")  # most directories are not empty
        return True

    def _enter(self, parent: bytes) -> Directory:
        """Return the directory that entries go into, made if it is missing."""
        self._wait_for(parent)
        return self._applier.enter(parent)

    def _wait_for(self, directory: bytes) -> None:
        """Wait until no planned file or link can be on the path of a directory.

        Before something is planned, its path is in `touched` in no form. Then it is there as it is. With a slash at the
        end, it comes in only after this has waited. So a slash says that nothing is planned for this path, nor for one
        above it, for those have got a slash as well.
        """
        while directory and directory + b"/" not in self._touched:
            if directory in self._touched:
                self.settle()
                return
            directory = directory.rpartition(b"/")[0]

    def _job(self, run: Run) -> _Planned:
        """Return what is being planned, and begin with a run."""
        current = self._current
        if current is None:
            current = self._current = _Planned(run, self._new_job(run, self._touched, self._directories))
        return current

    def _put(self) -> None:
        """Put what is being planned into the lane, and release what is done."""
        planned, self._current = self._current, None
        if planned is not None:
            self._directories.end_loans()
            if len(planned.job):
                self._planned.append(planned)
                self._jobs += 1
                # A small layer needs no thread: the first job is put together with the second, or done by `settle`.
                for one in () if self._jobs == 1 else (*self._planned,) if self._jobs == 2 else (planned,):
                    self._lane.put(partial(self._do, one))
            else:
                planned.release()
        while self._planned and self._planned[0].left == -1:
            self._planned.popleft().release()

    def _do(self, planned: _Planned) -> None:
        """Do a job, in the lane."""
        if not self._stopped:
            planned.left = self._run(planned)
            self._stopped = planned.left >= 0

    def _run(self, planned: _Planned) -> int:
        """Go on with a job, up to the first entry that it leaves to Python; return that, or -1."""
        try:
            left: int = planned.job.run()
        except OSError as error:
            raise self._times_failed(error) from error
        return left

    def _end_directories(self) -> None:
        """Close the directories that the kernels have made, with their times. Nothing is planned any more."""
        if self._directories is not None:
            try:
                self._directories.end()
            except OSError as error:
                raise self._times_failed(error) from error

    def _times_failed(self, error: OSError) -> EntryFailed:
        """Return the failure to set the times of a directory, from the error that names it."""
        path: bytes = error.filename
        error.filename = os.fsdecode(os.path.join(self._tree.path, path))
        return EntryFailed(error, TarEntry(path, EntryType.DIR, 0, 0, 0, 0, 0, b"", typeflag=b"5"))

    def _times_of(self, path: bytes) -> tuple[int, int] | None:
        """Return the times that the kernels will set for a directory; `None` if they will set none."""
        for one in (self._directories, *(planned.job for planned in self._unfinished())):
            times = one.times_of(path) if one is not None else None
            if times is not None:
                time_ns = times[0] * 1_000_000_000 + times[1]
                return time_ns, time_ns
        return None

    def _unfinished(self) -> list[_Planned]:
        """Return what is planned, or being planned."""
        return [*self._planned, *([self._current] if self._current else [])]

    def _how(self, *, setgid: bool, inherits_acl: bool) -> bytes:
        """Return how to make the kinds of the current run in directories with these properties."""
        return self._hows.pack(setgid, inherits_acl, replace=not self._applier.replacer.foreign)

    def _apply(self, run: Run, index: int, *, is_new: bool = False) -> None:
        """Apply one entry in the general way, when nothing before it is planned any more."""
        entry = entry_of(run, index)
        self._applier.made_size -= entry.size or (len(entry.linkname) if entry.type is EntryType.SYMLINK else 0)
        self._count_left_out(entry.uid, entry.gid, -1)
        content = run.payload(index)
        try:
            self._applier.create(entry, entry.path, iter((content,) if content else ()), is_new=is_new)
        except (InvalidLayer, OSError) as error:
            raise EntryFailed(error, entry) from error

    def _count_left_out(self, uid: int, gid: int, count: int) -> None:
        """Count the owner of entries, if it is left out: the kernels do not."""
        try:
            left_out = self._creator.owners.find(uid, gid)[1]
        except InvalidLayer:
            return
        if left_out is not None:
            self._creator.owners.left_out[left_out] += count
