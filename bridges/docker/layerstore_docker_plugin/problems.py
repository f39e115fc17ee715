"""What a call answers when it fails: a text for people, and a class for programs.

Docker knows the text alone (`Err`). Clients of this server find the kind of error in `Class`, and parts of it in
`Details`; `docs/reference/docker-plugin.md` has the list.
"""

from __future__ import annotations

import errno
import os
from typing import Any, Final

from layerstore_core import errors as core

#: The class of an error, for each exception; the first that fits counts.
_CLASSES: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (FileExistsError, "exists"),
    (FileNotFoundError, "not-found"),
    (core.InvalidLayer, "invalid-layer"),
    (core.ConfigError, "config"),
    (core.DriverNotSupported, "not-supported"),
    (core.DriverNotFound, "not-supported"),
    (core.DriverContractError, "contract"),
    (core.IntegrityError, "integrity"),
    (core.RootInUse, "in-use"),
    (OSError, "os"),
    (core.LayerStoreError, "failed"),
    (ValueError, "invalid"),
)


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
    """Return the answer for an error: `Err`, `Class`, and `Details` where there are any."""
    if isinstance(error, BadRequest):
        return {"Err": str(error), "Class": "bad-request"}
    answer: dict[str, Any] = {"Err": _text(error), "Class": _class(error)}
    details: dict[str, Any] = {}
    if isinstance(error, OSError):
        details = {"Errno": errno.errorcode.get(error.errno or 0), "Path": _path(error)}
    elif isinstance(error, core.InvalidLayer):
        entry = None if error.entry is None else os.fsdecode(error.entry)
        details = {"Reason": error.reason, "Offset": error.offset, "Entry": entry}
    if details := {name: value for name, value in details.items() if value is not None}:
        answer["Details"] = details
    return answer


def _class(error: BaseException) -> str:
    return next((name for kind, name in _CLASSES if isinstance(error, kind)), "bug")


def _path(error: OSError) -> str | None:
    if error.filename is None:
        return None
    return os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else str(error.filename)


def _text(error: BaseException) -> str:
    if isinstance(error, OSError):
        path, reason = _path(error), error.strerror or str(error) or type(error).__name__
        text = reason if path is None else f"{path}: {reason}"
    elif isinstance(error, core.LayerStoreError | ValueError):
        text = str(error)
    else:
        text = f"{type(error).__name__}: {error}"
    notes = getattr(error, "__notes__", ())
    return f"{text} ({'; '.join(notes)})" if notes else text
