"""Every error that layerstore raises on purpose: one root, and a leaf per thing a caller can act on.

A message says what happened, where, and what to do about it. Errors of the operating system are
not wrapped: they stay `OSError`, with the path and, through `while_doing`, what was being done.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from layerstore_core.text import printable


class LayerStoreError(Exception):
    """The root of all errors of this package."""


class StoreDoesNotExist(LayerStoreError):
    """There is no store under the root, and none was to be made."""


class LayerDoesNotExist(LayerStoreError):
    """No layer with this chain ID is in the store."""


class LayerNotRetained(LayerStoreError):
    """The handle is no longer a reference: it was released before, or never was one."""


class MountDoesNotExist(LayerStoreError):
    """No writable layer with this name is in the store."""


class MountNameConflict(LayerStoreError):
    """A writable layer with this name exists already."""


class InvalidMountName(LayerStoreError, ValueError):
    """A writable layer cannot have this name."""


class MaxDepthExceeded(LayerStoreError):
    """The chain would have more layers than the store or its driver allows."""


class DriverNotFound(LayerStoreError):
    """No driver of this name is installed, or its package cannot be imported."""


class DriverNotSupported(LayerStoreError):
    """The driver is installed, but cannot work here: the reason and the remedy are in the message."""


class AmbiguousDriver(LayerStoreError):
    """The root holds the state of several drivers, and none was chosen."""


class DriverContractError(LayerStoreError):
    """A driver broke the contract of `layerstore_core.driver.hookspecs`; its author has to mend it."""


class ConfigError(LayerStoreError):
    """A setting is unknown, or its value cannot be used; the message names the setting and its source."""


class IntegrityError(LayerStoreError):
    """Stored data is not what it was when it was stored."""


class BadRecord(IntegrityError):
    """Something below the root is damaged, or not what belongs there.

    Args:
        path: the file or directory concerned.
        reason: what is wrong with it.
    """

    def __init__(self, path: str | os.PathLike[str], reason: str) -> None:
        super().__init__(f"{os.fspath(path)}: {reason}")
        self.path = Path(path)
        self.reason = reason


class InvalidLayer(LayerStoreError):
    """The input is not a layer: no tar, cut off, corrupt, or it tries to leave its root.

    Args:
        reason: what is wrong, in words.
        offset: where in the uncompressed tar, in bytes from its start (`None` where it is not known).
        entry: the name of the entry concerned, as bytes of the tar (`None` before the first).
    """

    def __init__(self, reason: str, *, offset: int | None = None, entry: bytes | None = None) -> None:
        where = []
        if entry is not None:
            where.append(f"entry {entry.decode('utf-8', 'backslashreplace')!r}")
        if offset is not None:
            where.append(f"byte offset {offset}")
        super().__init__(f"invalid layer: {reason}" + (f" ({', '.join(where)})" if where else ""))
        self.reason = reason
        self.offset = offset
        self.entry = entry


class InvalidImage(LayerStoreError):
    """The input is not an image: parts are missing, damaged, or contradict each other; the message says which.

    Args:
        message: what is wrong. It may quote the input: what a terminal would take for a command is escaped.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message, backslash=False))


class InvalidReference(LayerStoreError, ValueError):
    """An image cannot have this name."""


class ImageDoesNotExist(LayerStoreError):
    """No image with this name or ID is in the store."""


class ImageInUse(LayerStoreError):
    """The image cannot be removed: something stands on it, or it has other names."""


class RootInUse(LayerStoreError):
    """Another program, such as a Docker daemon, has the root to itself: it can be read, but not written."""


class ReadOnlyStore(LayerStoreError):
    """The store was opened for reading, and was to be changed."""


@contextmanager
def while_doing(what: str) -> Iterator[None]:
    """Add `what` was being done to an `OSError` that passes, so that its message says more than a path."""
    try:
        yield
    except OSError as error:
        error.add_note(f"while {what}")
        raise


def done_before(error: BaseException) -> Any:
    """What an operation on several objects had done before it failed, as its answer would tell it; else `None`."""
    return vars(error).get("done")


def note_done(error: BaseException, done: Any) -> None:
    """Give an error the attribute `done`: what the operation that fails had done before."""
    vars(error)["done"] = done


@contextmanager
def keeping_done(done: Any, add: Callable[[Any], object] | None = None) -> Iterator[None]:
    """Give an error that passes the attribute `done`, where anything was done.

    Args:
        done: what was done by now, which grows in the block; false as long as that is nothing.
        add: adds to it what the operation inside that fails had done.
    """
    try:
        yield
    except BaseException as error:
        inner = done_before(error)
        if add is not None and inner is not None:
            add(inner)
        if done:
            note_done(error, done)
        raise
