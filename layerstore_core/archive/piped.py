"""A process beside this one that is told what to do by one pipe, and answers by another.

It runs the function `work` of a module of this package. A message is anything that `marshal` knows, after its length.
"""

from __future__ import annotations

import marshal
import os
import select
from collections.abc import Sequence
from contextlib import ExitStack
from typing import IO, Any, Final, Self

from layerstore_core.archive.beside import ProcessBeside

_LENGTH: Final = 8
#: The descriptor that is the first of those that the function is given.
_FIRST: Final = 3
_CODE: Final = """
import sys
from importlib import import_module
sys.path.append(sys.argv[1])
from layerstore_core.archive.make_files import close_all_above
work = import_module(sys.argv[2]).work
close_all_above(int(sys.argv[3]))
work(*map(int, sys.argv[4:]))
"""


class PipedProcess:
    """The process, as the one that has started it sees it; a context manager that ends it."""

    def __init__(self, process: ProcessBeside, stdin: IO[bytes], stdout: IO[bytes]) -> None:
        self._process = process
        self._stdin = stdin
        self._stdout = stdout
        self._poll = select.poll()
        self._poll.register(stdout, select.POLLIN)

    @classmethod
    def start(cls, module: str, descriptors: Sequence[int], *numbers: int) -> Self | None:
        """Start one.

        Args:
            module: the name of the module whose `work` it runs. Its arguments are the numbers that the descriptors have
                there, and `numbers`; its standard input and output are the pipes.
            descriptors: what it gets of ours.
            numbers: anything.

        Returns:
            `None` where that would be no gain, or cannot be done.
        """
        import layerstore_core

        package = os.path.dirname(os.path.dirname(layerstore_core.__file__))
        last = _FIRST + len(descriptors) - 1
        arguments = ["-c", _CODE, package, module, str(last), *map(str, [*range(_FIRST, last + 1), *numbers])]
        with ExitStack() as theirs, ExitStack() as ours:
            try:
                stdin, to_it = os.pipe()
                theirs.callback(os.close, stdin)
                writer = ours.enter_context(open(to_it, "wb"))
                from_it, stdout = os.pipe()
                theirs.callback(os.close, stdout)
                reader = ours.enter_context(open(from_it, "rb"))
                process = ProcessBeside.start(arguments, [stdin, stdout, None, *descriptors])
            except OSError:
                return None
            if process is None:
                return None
            ours.pop_all()
            return cls(process, writer, reader)

    def send(self, message: Any) -> None:
        """Tell it something.

        Raises:
            OSError: it is gone.
        """
        send(self._stdin, message)

    def has_sent(self) -> bool:
        """Whether `receive` need not wait for it to begin."""
        return bool(self._poll.poll(0))

    def receive(self) -> Any:
        """What it says.

        Raises:
            EOFError: it says nothing more.
        """
        return receive(self._stdout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        """End it. Afterwards it does nothing any more."""
        self._process.kill()
        self._process.wait()
        self._stdout.close()
        try:
            self._stdin.close()
        except BrokenPipeError:
            pass  # what it was to be told it never read


def send(file: IO[bytes], message: Any) -> None:
    """Write a message.

    Raises:
        OSError: it cannot be written.
    """
    data = marshal.dumps(message)
    file.write(len(data).to_bytes(_LENGTH, "little") + data)
    file.flush()


def receive(file: IO[bytes]) -> Any:
    """What `send` has written.

    Raises:
        EOFError: nothing, or not all of it, was.
        OSError: it cannot be read.
    """
    length = int.from_bytes(file.read(_LENGTH), "little")
    data = file.read(length)
    if not length or len(data) < length:
        raise EOFError
    return marshal.loads(data)
