"""What a call answers when it fails: a text for people, and a class for programs.

Docker knows the text alone (`Err`). Other clients find the kind of error in `Class`, and parts of it in fields next to
it, as `docs/reference/graph-driver-protocol.md` says.
"""

from __future__ import annotations

import os
from typing import Any, Final

from layerstore_core import errors as core

#: The classes that clients know besides those of `layerstore_core.errors`; the first that fits counts.
_SYSTEM_ERRORS: Final[dict[str, type[OSError]]] = {
    kind.__name__: kind for kind in (FileExistsError, FileNotFoundError, PermissionError, NotADirectoryError)
}


class BadRequest(Exception):
    """A request that is not of the protocol. Nothing was done.

    Args:
        message: what is wrong with it.
        status: the status of the HTTP answer.
    """

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


def describe(error: BaseException) -> dict[str, Any]:
    """Return the answer for an error: `Err`, and what programs need to know of it."""
    answer: dict[str, Any] = {"Err": error_text(error)}
    if (name := _class(error)) is not None:
        answer["Class"] = name
    details: dict[str, Any] = {}
    if isinstance(error, OSError):
        details = {"Errno": error.errno, "Path": _path(error)}
    elif isinstance(error, core.InvalidLayer):
        entry = None if error.entry is None else os.fsdecode(error.entry)
        details = {"Reason": error.reason, "Offset": error.offset, "Entry": entry}
    elif isinstance(error, core.BadRecord):
        details = {"Reason": error.reason, "Path": os.fspath(error.path)}
    return answer | {field: value for field, value in details.items() if value is not None}


def is_bug(error: BaseException) -> bool:
    """Return whether an error is one that neither the contract nor the protocol names."""
    return not isinstance(error, BadRequest) and _class(error) is None


def _class(error: BaseException) -> str | None:
    """Return the name of the nearest class that clients know; `None` if they know none."""
    if isinstance(error, OSError):
        return next((name for name, kind in _SYSTEM_ERRORS.items() if isinstance(error, kind)), "OSError")
    names = (kind.__name__ for kind in type(error).__mro__ if vars(core).get(kind.__name__) is kind)
    return next(names, None)


def _path(error: OSError) -> str | None:
    if error.filename is None:
        return None
    return os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else str(error.filename)


def error_text(error: BaseException) -> str:
    """Return an error in words: what, where, and what was being done."""
    if isinstance(error, OSError):
        path, reason = _path(error), error.strerror or str(error) or type(error).__name__
        text = reason if path is None else f"{path}: {reason}"
    elif isinstance(error, core.LayerStoreError | ValueError | BadRequest):
        text = str(error)
    else:
        text = f"{type(error).__name__}: {error}"
    notes = getattr(error, "__notes__", ())
    return f"{text} ({'; '.join(notes)})" if notes else text
