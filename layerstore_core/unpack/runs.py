"""Making of a run's entries by the kernels, in a thread, while the main thread plans the next ones.

The main thread opens and makes directories. Files and links go into *jobs*, which a lane does in the order of the tar.
Whatever a job does not do, because it fails or is not plain, is left to Python (`unpack.apply`), and all that comes
after it waits. So the result is as if each entry was applied when its turn came, and the first error is that of the
first entry that has one.

What keeps it so:

- A path is planned only if this layer has touched neither it nor anything below it, and has followed no link of that
  name. So of all that has the name, only a parent's file can be in the way of a planned one, and two planned ones never
  have one name. Planning touches the path.
- A directory is entered ahead of its turn only if no planned file or link can be on its path. A link on it is followed,
  and a file on it is removed, when nothing is planned any more (`Root.settle`).
- Anything else that Python does to the tree waits until nothing is planned.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import Any, Final

from layerstore_core.base.kernels import engine
from layerstore_core.base.nameset import NameSet
from layerstore_core.base.paths import clean_name, leaves_root
from layerstore_core.base.threads import Lane
from layerstore_core.errors import InvalidLayer
from layerstore_core.tar.entry import EntryType, TarEntry
from layerstore_core.tar.run import DIRECTORY, IN_DIRECTORY, ONE_DIRECTORY, Run, entry_of
from layerstore_core.tar.whiteouts import AUFS_LINKS
from layerstore_core.tree.root import Directory, Root
from layerstore_core.unpack.apply import Applier
from layerstore_core.unpack.create import Creator
from layerstore_core.unpack.hows import pack_hows

#: The most directories of one job. They stay open until it is done.
_MAX_DIRECTORIES: Final = 16
#: The most jobs that are not done.
_MAX_JOBS: Final = 4


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
        directories: those that it makes them in. They are pinned.
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
        if directory not in self.directories:
            directory.pins += 1
            self.directories.append(directory)

    def release(self) -> None:
        """Unpin the directories."""
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
        #: What is planned and was not seen to be done, in the order of the tar.
        self._planned: deque[_Planned] = deque()
        self._jobs = 0
        #: What is being planned.
        self._current: _Planned | None = None
        #: Set in the lane, when something was left to Python: the rest waits for it.
        self._stopped = False
        self._settling = False
        #: How to make the kinds of the current run, by the properties of directories that matter.
        self._hows: dict[tuple[bool, bool], bytes] = {}
        tree.settle = self.settle

    def add(self, run: Run) -> None:
        """Make what the entries of a run describe, now or later.

        Raises:
            EntryFailed: one of these entries or an earlier one could not be applied.
        """
        self._hows.clear()
        self._applier.made_size += run.size
        for kind in run.kinds:
            self._count_left_out(kind[0], kind[2], kind[3], kind[4])
        for group, first, end, parent in run.groups():
            index = first
            while index < end:
                try:
                    if group == IN_DIRECTORY:
                        index = self._plan_files(run, index, end, parent)
                    elif group == ONE_DIRECTORY:
                        index += self._make_directory(run, index, parent)
                    else:
                        index += self._plan_link(run, index, parent)
                except (InvalidLayer, OSError) as error:
                    self.settle()  # an error of what is planned comes first in the tar
                    raise EntryFailed(error, entry_of(run, index)) from error
                if index < end:
                    self.settle()
                    self._apply(run, index)
                    index += 1
        self._put()

    def settle(self) -> bool:
        """Wait until nothing is planned any more; return whether anything was.

        Raises:
            EntryFailed: an entry could not be applied.
        """
        if self._settling:
            return False  # what is applied here had all it needs when it was planned
        self._put()
        if not self._planned:
            return False
        self._settling = True
        self._lane.drain()
        while self._planned:
            planned = self._planned[0]
            left = planned.job.run() if planned.left is None else planned.left
            while left >= 0:
                self._apply(planned.run, left, is_new=True)
                left = planned.job.run()
            planned.release()
            self._planned.popleft()
        self._stopped = self._settling = False
        return True

    def close(self) -> None:
        """End the thread's work. What is still planned is not made."""
        try:
            self._lane.close()
        finally:
            self._tree.settle = lambda: False
            for planned in (*self._planned, *((self._current,) if self._current else ())):
                planned.release()
            self._planned.clear()
            self._current = None

    def _plan_files(self, run: Run, first: int, end: int, parent: bytes) -> int:
        """Plan files and symbolic links of one directory; return the first that was not planned."""
        directory = self._enter(parent)
        if directory.path != parent:
            return first
        planned = self._job(run)
        index: int = planned.job.add(first, end, directory.fd, self._how(run, directory))
        if index > first:
            planned.pin(directory)
            if self._applier.made is not None:
                self._applier.made.add_run(run, first, index)
        return index

    def _plan_link(self, run: Run, index: int, parent: bytes) -> bool:
        """Plan a hard link to a file of this layer; return whether that was done."""
        if self._applier.made is not None:
            return False  # the names of a file are recorded one at a time
        target = clean_name(run.entry(index)[8])
        if leaves_root(target) or target.startswith(AUFS_LINKS + b"/") or target not in self._touched:
            return False
        above, _, source_base = target.rpartition(b"/")
        directory = self._enter(parent)
        with self._tree.pinned(directory):
            self._wait_for(above)
            try:
                source = self._tree.enter(above)
            except (FileNotFoundError, NotADirectoryError):
                return False
            if directory.path != parent or source.path != above or directory.fd < 0:
                return False
            planned = self._job(run)
            how = self._how(run, directory)
            if not planned.job.add_link(index, directory.fd, how, source.fd, source_base):
                return False
            planned.pin(directory)
            planned.pin(source)
            return True

    def _make_directory(self, run: Run, index: int, parent: bytes) -> bool:
        """Make a directory, or apply an entry to one that a parent has; return whether that was done."""
        path = run.path(index)
        directory = self._enter(parent)
        if directory.path != parent or any(path + end in self._touched for end in (b"", b"/", b"\0")):
            return False
        entry, base = entry_of(run, index), path.rpartition(b"/")[2]
        found = self._tree.opened(path)
        if found is not None and found.pins:
            return False  # the files that are planned in it need the metadata that it has had so far
        try:
            self._creator.directory(entry, directory, base)
        except FileExistsError:
            return False
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
        if current is not None and len(current.directories) >= _MAX_DIRECTORIES:
            self._put()
            current = None
        if current is None:
            kernels = engine().kernels
            assert kernels is not None, "the run came from the kernels"
            current = self._current = _Planned(run, kernels.Job(run, self._touched))
        return current

    def _put(self) -> None:
        """Put what is being planned into the lane, and release what is done."""
        planned, self._current = self._current, None
        if planned is not None and planned.directories:
            self._planned.append(planned)
            self._jobs += 1
            # A small layer needs no thread: the first job is put together with the second, or done by `settle`.
            for one in () if self._jobs == 1 else (*self._planned,) if self._jobs == 2 else (planned,):
                self._lane.put(partial(self._do, one))
        while self._planned and self._planned[0].left == -1:
            self._planned.popleft().release()

    def _do(self, planned: _Planned) -> None:
        """Do a job, in the lane."""
        if not self._stopped:
            planned.left = planned.job.run()
            self._stopped = planned.left >= 0

    def _how(self, run: Run, directory: Directory) -> bytes:
        key = directory.setgid, directory.inherits_acl
        how = self._hows.get(key)
        if how is None:
            replace = not self._applier.replacer.foreign
            how = self._hows[key] = pack_hows(run.kinds, self._creator, directory, replace=replace)
        return how

    def _apply(self, run: Run, index: int, *, is_new: bool = False) -> None:
        """Apply one entry in the general way, when nothing before it is planned any more."""
        entry = entry_of(run, index)
        self._hows.clear()
        self._applier.made_size -= entry.size or (len(entry.linkname) if entry.type is EntryType.SYMLINK else 0)
        self._count_left_out(run.entry(index)[0], entry.uid, entry.gid, -1)
        content = run.payload(index)
        try:
            self._applier.create(entry, entry.path, iter((content,) if content else ()), is_new=is_new)
        except (InvalidLayer, OSError) as error:
            raise EntryFailed(error, entry) from error

    def _count_left_out(self, file_type: int, uid: int, gid: int, count: int) -> None:
        """Count the owner of files and links, if it is left out: the kernels do not."""
        if file_type == DIRECTORY:
            return
        try:
            left_out = self._creator.owners.find(uid, gid)[1]
        except InvalidLayer:
            return
        if left_out is not None:
            self._creator.owners.left_out[left_out] += count
