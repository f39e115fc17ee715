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
from typing import Any


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

    __slots__ = ("_numbers",)

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

    def __enter__(self) -> int:
        return self._numbers[0]

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


def keep(results: list[Any], function: Callable[..., Any], *args: Any, **named: Any) -> None:
    """Call a function, and append its result to a list; no signal handler runs between the two.

    Raises:
        Exception: what the function raises.
    """
    results.extend(starmap(partial(function, **named), (args,)))
