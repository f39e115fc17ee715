"""Errors for a layer's files that are no longer the registered ones."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Final, TypeVar

from layerstore_core.errors import IntegrityError

_Opened = TypeVar("_Opened")

#: Errors of a file that was removed or replaced since, or whose directory was, or of a name that no file can have.
_MISSING: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG})
SIZE_DIFFERS: Final = "its size is no longer {} bytes"
CHECKSUM_DIFFERS: Final = "its checksum differs"


def open_or_raise(open_file: Callable[[bytes], _Opened], name: bytes) -> _Opened:
    """Return what a getter's `open` returns; raise `IntegrityError` if the file no longer exists."""
    try:
        return open_file(name)
    except OSError as error:
        if error.errno not in _MISSING:
            raise
        raise changed_error(name, error.strerror or "it cannot be opened") from error


def changed_error(name: bytes, how: str) -> IntegrityError:
    """Return the error for a file that is not the registered one."""
    shown = name.decode("utf-8", "backslashreplace")
    return IntegrityError(
        f"the layer's file {shown!r} is not what was registered: {how}; "
        "run `layerstore check`, and register the layer again from its source"
    )
