"""A second process for comparing two large trees.

Nearly all the time of a comparison goes into short system calls. Threads of one interpreter hinder each other at each of
these; a process of its own does not. The first process hands directories to the second one, which compares a few thousand
entries and gives back what it has found and what it has not come to; meanwhile the first one goes on with the others.

The second process only reads, by descriptors of the two roots, and only tells what it has found. Whatever goes wrong
with it (it cannot be started, it is killed, it meets an error), the first one does what it was given, and meets the error
itself.
"""

from __future__ import annotations

import marshal
import os
import select
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import IO, Any, Final, NamedTuple, Self

from layerstore_core.archive.beside import ProcessBeside
from layerstore_core.archive.change import ChangeKind

#: How many entries the second process looks at before it answers.
_ENTRIES: Final = 2000
_LENGTH: Final = 8
_CODE: Final = """
import sys
sys.path.append(sys.argv[1])
from layerstore_core.archive.make_files import close_all_above
from layerstore_core.archive.second_process import work
close_all_above(4)
work(3, 4, int(sys.argv[2]))
"""


class Directory(NamedTuple):
    """A directory of the upper tree that is to be looked into."""

    name: str
    #: There is such a directory in the lower tree.
    in_lower: bool
    #: It is the one that was there at `since_ns`, and not another that was moved here.
    original: bool
    #: No name in it has come or gone since.
    untouched: bool
    #: It is the directory which the lower tree has there, and `touched` tells of what is in it.
    guided: bool = False
    #: Its attributes and those of the directory in the lower tree are not compared yet: that is done when both are open.
    unread: bool = False


class Name(NamedTuple):
    """A name of a file that has, or had, several."""

    path: bytes
    upper: tuple[int, int]
    lower: tuple[int, int] | None


class Task(NamedTuple):
    """A directory that is to be compared with all that is in it."""

    path: bytes
    directory: Directory


@dataclass(slots=True)
class Answer:
    """What the second process has done of what it was given.

    Attributes:
        found: what differs, by path.
        names: the names of files that have several.
        left: what is still to be done.
    """

    found: dict[bytes, ChangeKind] = field(default_factory=dict)
    names: list[Name] = field(default_factory=list)
    left: list[Task] = field(default_factory=list)


class SecondProcess:
    """The second process, as the first one sees it; a context manager that ends it.

    Args:
        upper: a descriptor of the upper tree's root.
        lower: one of the lower tree's.

    Attributes:
        is_alive: whether it can be given something; it may turn out later that it cannot.
        is_busy: whether it was given something, and the answer has not been taken.
    """

    def __init__(self, upper: int, lower: int) -> None:
        self.is_busy = False
        self._given: list[Task] = []
        self._poll = select.poll()
        self._process = _start(upper, lower)
        self.is_alive = self._process is not None
        if self._process is not None:
            self._poll.register(self._process.stdout, select.POLLIN)

    def give(self, tasks: list[Task]) -> None:
        """Let it compare directories; it has answered before."""
        assert self._process is not None
        self._given = tasks
        self.is_busy = True
        try:
            _send(self._process.stdin, [(path, tuple(directory)) for path, directory in tasks])
        except OSError:
            pass  # it is gone, as taking the answer will show

    def has_answered(self) -> bool:
        """Whether `take` need not wait."""
        return bool(self._poll.poll(0))

    def take(self) -> Answer:
        """The answer to what was given. Where there is none, all that was given is left."""
        assert self._process is not None
        self.is_busy = False
        try:
            found, names, left = _receive(self._process.stdout)
        except (OSError, EOFError):
            self.is_alive = False
            return Answer(left=self._given)
        return Answer({path: ChangeKind(kind) for path, kind in found}, [Name(*name) for name in names], _tasks(left))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._process is not None:
            self._process.end()


def work(upper: int, lower: int, entries: int) -> None:
    """What the second process does, until there is nothing more to be read from standard input.

    Args:
        upper: the descriptor of the upper tree's root.
        lower: that of the lower tree's.
        entries: how many it looks at, about, before it answers.
    """
    from layerstore_core.archive.compare import Comparison

    with Comparison(f"/proc/self/fd/{upper}", f"/proc/self/fd/{lower}", None, None) as comparison:
        while True:
            try:
                waiting = _tasks(_receive(sys.stdin.buffer))
                comparison.compare(waiting, up_to=entries)
            except (OSError, EOFError):
                return  # if it is an error, the first process will meet it too, and tell
            found = [(path, kind.value) for path, kind in comparison.found.items()]
            names = [tuple(name) for name in comparison.names]
            _send(sys.stdout.buffer, (found, names, [(path, tuple(directory)) for path, directory in waiting]))
            comparison.found.clear()
            comparison.names.clear()


class _Piped:
    """A process with pipes to its standard input and from its standard output."""

    def __init__(self, process: ProcessBeside, stdin: IO[bytes], stdout: IO[bytes]) -> None:
        self.stdin, self.stdout = stdin, stdout
        self._process = process

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self.stdout.close()
        try:
            self.stdin.close()
        except BrokenPipeError:
            pass  # what it was to be told it never read


def _start(upper: int, lower: int) -> _Piped | None:
    """Start it; `None` where that would be no gain, or cannot be done."""
    import layerstore_core

    package = os.path.dirname(os.path.dirname(layerstore_core.__file__))
    with ExitStack() as theirs, ExitStack() as ours:
        try:
            stdin, to_it = os.pipe()
            theirs.callback(os.close, stdin)
            writer = ours.enter_context(open(to_it, "wb"))
            from_it, stdout = os.pipe()
            theirs.callback(os.close, stdout)
            reader = ours.enter_context(open(from_it, "rb"))
            process = ProcessBeside.start(["-c", _CODE, package, str(_ENTRIES)], [stdin, stdout, None, upper, lower])
        except OSError:
            return None
        if process is None:
            return None
        ours.pop_all()
        return _Piped(process, writer, reader)


def _tasks(tasks: Sequence[tuple[bytes, tuple[str, bool, bool, bool, bool, bool]]]) -> list[Task]:
    return [Task(path, Directory(*directory)) for path, directory in tasks]


def _send(file: IO[bytes], message: Any) -> None:
    data = marshal.dumps(message)
    file.write(len(data).to_bytes(_LENGTH, "little") + data)
    file.flush()


def _receive(file: IO[bytes]) -> Any:
    """What `_send` has sent.

    Raises:
        EOFError: nothing, or not all of it, was.
    """
    length = int.from_bytes(file.read(_LENGTH), "little")
    data = file.read(length)
    if not length or len(data) < length:
        raise EOFError
    return marshal.loads(data)
