"""Owning open descriptors so that none is lost or closed twice, whatever interrupts.

Python runs signal handlers after a call has returned and before its result is stored. A number that a variable was to get
is lost when the handler raises just then. Between two functions of C it runs none: so the number goes straight from the
call that opens into a list.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from itertools import starmap
from typing import Any, Final
from weakref import WeakSet


class Descriptor:
    """An open descriptor; a context manager that gives its number, and closes it.

    It is closed at the latest when this object goes: also where an exception comes before the `with` block has begun.

    Args:
        function: opens it, and returns its number: `os.open`, say.
        args: what the function gets.
        named: what it gets by name.

    Raises:
        Exception: what the function raises.
    """

    __slots__ = ("__weakref__", "_numbers")

    def __init__(self, function: Callable[..., int], *args: Any, **named: Any) -> None:
        self._numbers: list[int] = []
        keep(self._numbers, function, *args, **named)

    @property
    def number(self) -> int:
        """Its number; -1 when it is closed."""
        return self._numbers[0] if self._numbers else -1

    def detach(self) -> int:
        """Give the number away, which is the caller's to close at once; -1 when it is closed."""
        number = self._numbers[0] if self._numbers else -1
        # Forgotten before it is closed: it may be another thread's file a moment later.
        del self._numbers[:]
        return number

    def close(self) -> None:
        """Close it. A second call does nothing."""
        number = self.detach()
        if number >= 0:
            os.close(number)

    def leave_to_parent(self) -> None:
        """Have it closed in forked children, since a lock of the kernel's that it has would live as long as they do."""
        _locks.add(self)

    def __enter__(self) -> int:
        return self._numbers[0]

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        if self._numbers:
            self.close()


def open_fd(path: str | bytes | os.PathLike[str], flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
    """As `os.open`, but no signal handler runs before the caller has the number.

    So it is not lost where it is stored at once, and a `try` block that ends with its closing comes next.
    """
    # This runs for each file of a layer, so that there is no object and no call that need not be.
    opened: list[int] = []
    try:
        opened.extend(starmap(partial(os.open, dir_fd=dir_fd), ((path, flags, mode),)))
    except BaseException:
        for number in opened:
            os.close(number)
        raise
    return opened[0]


#: So that a fork finds them.
_locks: Final[WeakSet[Descriptor]] = WeakSet()


def _close_in_child() -> None:
    for descriptor in list(_locks):
        descriptor.close()


os.register_at_fork(after_in_child=_close_in_child)


def keep(results: list[Any], function: Callable[..., Any], *args: Any, **named: Any) -> None:
    """Call a function, and append its result to a list; no signal handler runs between the two.

    Raises:
        Exception: what the function raises.
    """
    results.extend(starmap(partial(function, **named), (args,)))
