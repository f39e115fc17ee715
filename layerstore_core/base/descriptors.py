"""Ownership of open descriptors: none is leaked or closed twice, even if a signal handler raises.

Python may run a signal handler after a call has returned and before its result is stored. If the handler raises then,
the descriptor that the call returned is leaked. Python runs no handler between two functions that are written in C. So
the number goes directly from the opening call into a list.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from itertools import starmap
from typing import Any, Final
from weakref import WeakSet


class Descriptor:
    """An open descriptor; a context manager that yields its number, and closes it.

    It is closed at the latest when this object is deleted: also if an exception is raised before the `with` block
    begins.

    Args:
        function: opens the descriptor and returns its number; `os.open`, for example.
        args: the positional arguments of the function.
        named: the keyword arguments of the function.

    Raises:
        Exception: any exception that the function raises.
    """

    __slots__ = ("__weakref__", "_numbers")

    def __init__(self, function: Callable[..., int], *args: Any, **named: Any) -> None:
        self._numbers: list[int] = []
        append_result(self._numbers, function, *args, **named)

    @property
    def number(self) -> int:
        """The number of the descriptor; -1 after it was closed."""
        return self._numbers[0] if self._numbers else -1

    def detach(self) -> int:
        """Return the number, and leave it to the caller to close it at once; -1 if it is closed already."""
        number = self._numbers[0] if self._numbers else -1
        # Removed before it is closed: a moment later, another thread's file may have this number.
        del self._numbers[:]
        return number

    def close(self) -> None:
        """Close the descriptor. A second call does nothing."""
        number = self.detach()
        if number >= 0:
            os.close(number)

    def close_in_children(self) -> None:
        """Close the descriptor in forked children, where a kernel lock on it would last as long as the child lives."""
        _closed_in_children.add(self)

    def __enter__(self) -> int:
        return self._numbers[0]

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        if self._numbers:
            self.close()


def open_fd(path: str | bytes | os.PathLike[str], flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
    """Open a file like `os.open`, but run no signal handler before the caller has the number.

    So the descriptor is not leaked if the caller stores it at once, and then enters a `try` block that closes it.
    """
    # This runs for each file of a layer, so it makes no object and no call that is not necessary.
    opened: list[int] = []
    try:
        opened.extend(starmap(partial(os.open, dir_fd=dir_fd), ((path, flags, mode),)))
    except BaseException:
        for number in opened:
            os.close(number)
        raise
    return opened[0]


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all of `data`, in as many calls as it takes."""
    written = os.write(fd, data)
    while written < len(data):
        data = memoryview(data)[written:]
        written = os.write(fd, data)


#: The descriptors that forked children close.
_closed_in_children: Final[WeakSet[Descriptor]] = WeakSet()


def _close_in_child() -> None:
    for descriptor in list(_closed_in_children):
        descriptor.close()


os.register_at_fork(after_in_child=_close_in_child)


def append_result(results: list[Any], function: Callable[..., Any], *args: Any, **named: Any) -> None:
    """Call a function, and append its result to a list. No signal handler runs between the two.

    Raises:
        Exception: any exception that the function raises.
    """
    results.extend(starmap(partial(function, **named), (args,)))
