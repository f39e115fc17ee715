"""Errors as gRPC says them: the status code by which containerd knows what has happened, and a message.

containerd knows NOT_FOUND, ALREADY_EXISTS, FAILED_PRECONDITION, INVALID_ARGUMENT, UNAVAILABLE and UNIMPLEMENTED; to it,
any other code is an unknown error.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Any, Final

import grpc

from layerstore_containerd.filters import InvalidFilter
from layerstore_core.errors import (
    InvalidSnapshot,
    LayerStoreError,
    MaxDepthExceeded,
    RootInUse,
    SnapshotDoesNotExist,
    SnapshotExists,
    SnapshotHasChildren,
    SnapshotsInUse,
    WrongSnapshotKind,
)

#: A message is sent in a header of HTTP/2, of which clients take about 8 KiB.
_MAX_MESSAGE: Final = 2000


class InvalidRequest(LayerStoreError, ValueError):
    """The bytes of a request are not a message of this kind, or the request contradicts itself."""


class NotSupported(LayerStoreError):
    """The request asks for something that this snapshotter does not do."""


class Stopping(LayerStoreError):
    """The server is about to end, and takes no more calls."""


_CODES: Final[tuple[tuple[type[Exception], Any], ...]] = (
    (SnapshotDoesNotExist, grpc.StatusCode.NOT_FOUND),
    (SnapshotExists, grpc.StatusCode.ALREADY_EXISTS),
    (SnapshotHasChildren, grpc.StatusCode.FAILED_PRECONDITION),
    (WrongSnapshotKind, grpc.StatusCode.FAILED_PRECONDITION),
    (MaxDepthExceeded, grpc.StatusCode.FAILED_PRECONDITION),
    (InvalidSnapshot, grpc.StatusCode.INVALID_ARGUMENT),
    (InvalidFilter, grpc.StatusCode.INVALID_ARGUMENT),
    (InvalidRequest, grpc.StatusCode.INVALID_ARGUMENT),
    (NotSupported, grpc.StatusCode.UNIMPLEMENTED),
    (Stopping, grpc.StatusCode.UNAVAILABLE),
    (SnapshotsInUse, grpc.StatusCode.UNAVAILABLE),
    (RootInUse, grpc.StatusCode.UNAVAILABLE),
)
_CODES_OF_NUMBERS: Final = {
    errno.ENOSPC: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errno.EDQUOT: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errno.EMFILE: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errno.ENFILE: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errno.EACCES: grpc.StatusCode.PERMISSION_DENIED,
    errno.EPERM: grpc.StatusCode.PERMISSION_DENIED,
}


@dataclass(frozen=True)
class Refusal:
    """The answer to a client whose call was refused.

    Attributes:
        code: the status code.
        message: what has happened, for a person.
        is_ours: whether the cause is here (a full disk, a damaged record, a bug), and not in the request.
    """

    code: Any
    message: str
    is_ours: bool


def refusal_of(error: Exception) -> Refusal:
    """Return the answer to a client for an error."""
    message = _shortened(describe(error))
    for kind, code in _CODES:
        if isinstance(error, kind):
            return Refusal(code, message, is_ours=False)
    code = grpc.StatusCode.INTERNAL
    if isinstance(error, OSError) and error.errno is not None:
        code = _CODES_OF_NUMBERS.get(error.errno, code)
    return Refusal(code, message, is_ours=True)


def describe(error: Exception) -> str:
    """Return the message of an error, with the notes that say what was being done, in one line."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        paths = [path if isinstance(path, str) else repr(path) for path in (error.filename, error.filename2) if path]
        text = ": ".join((*paths, error.strerror))
    elif not isinstance(error, (LayerStoreError, InvalidFilter)):
        text = f"unexpected {type(error).__name__}: {text}" if text else f"unexpected {type(error).__name__}"
    notes = "; ".join(getattr(error, "__notes__", ()))
    return f"{text} ({notes})" if notes else text


def _shortened(message: str) -> str:
    """Return a message that fits, and has no half characters."""
    message = message.encode("utf-8", "backslashreplace").decode()
    if len(message) <= _MAX_MESSAGE:
        return message
    half = _MAX_MESSAGE // 2
    return f"{message[:half]}…{message[-half:]}"
