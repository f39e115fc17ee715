"""Regular expressions that are compiled when they are first used.

To compile one takes 0.1 ms. A short command loads some thirty, and uses five.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pattern = re.compile
else:

    class pattern:  # noqa: N801 - it is called as `re.compile` is
        """A regular expression, with the methods and attributes of `re.Pattern`."""

        def __init__(self, text: str | bytes, flags: int = 0) -> None:
            self._arguments = text, flags

        def __getattr__(self, name: str) -> Any:
            if name.startswith("__"):  # copying looks for such names before `__init__` has run
                raise AttributeError(name)
            found = getattr(re.compile(*self._arguments), name)
            setattr(self, name, found)  # so that the next use is as quick as with `re.Pattern`
            return found
