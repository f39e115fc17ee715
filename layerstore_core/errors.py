"""All errors that layerstore raises on purpose: one base class, and a subclass for each case that a caller can handle.

A message says what happened, where, and what to do about it. Errors of the operating system are not wrapped: they stay
`OSError`. They have the path, and a note of what was being done (`while_doing`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from layerstore_core.text import printable


class LayerStoreError(Exception):
    """The base class of all errors of this package."""


class StoreDoesNotExist(LayerStoreError):
    """There is no store under the root, and the call may not make one."""


class LayerDoesNotExist(LayerStoreError):
    """No layer with this chain ID is in the store."""


class LayerNotRetained(LayerStoreError):
    """The handle is not a reference: it was released before, or never was one."""


class MountDoesNotExist(LayerStoreError):
    """No writable layer with this name is in the store."""


class MountNameConflict(LayerStoreError):
    """A writable layer with this name already exists."""


class InvalidMountName(LayerStoreError, ValueError):
    """A writable layer cannot have this name."""


class MaxDepthExceeded(LayerStoreError):
    """The chain would have more layers than the store or its driver allows."""


class DriverNotFound(LayerStoreError):
    """No driver of this name is installed, or its package cannot be imported."""


class DriverNotSupported(LayerStoreError):
    """The driver is installed, but cannot work here. The message says why, and what to do."""


class MountFailed(LayerStoreError):
    """A program that was to serve a mount did not: the message has what it says."""


class AmbiguousDriver(LayerStoreError):
    """The root contains the state of several drivers, and none was chosen."""


class DriverContractError(LayerStoreError):
    """A driver broke the contract of `layerstore_core.driver.hookspecs`. Its author must fix it."""


class ConfigError(LayerStoreError):
    """A setting is unknown, or its value is invalid. The message names the setting and its source."""


class IntegrityError(LayerStoreError):
    """Stored data has changed since it was stored."""


class BadRecord(IntegrityError):
    """A file or directory below the root is damaged, or is not the one that is expected there.

    Args:
        path: the file or directory.
        reason: what is wrong with it.
    """

    def __init__(self, path: str | os.PathLike[str], reason: str) -> None:
        super().__init__(f"{os.fspath(path)}: {reason}")
        self.path = Path(path)
        self.reason = reason


class InvalidLayer(LayerStoreError):
    """The input is not a layer: it is not a tar, is cut off or damaged, or an entry would be outside of the root.

    Args:
        reason: what is wrong, in words.
        offset: the position in the uncompressed tar, in bytes from its start; `None` if it is not known.
        entry: the name of the entry, as bytes of the tar; `None` before the first entry.
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
    """The input is not an image: parts are missing, damaged, or contradict each other. The message says which.

    Args:
        message: what is wrong. It may quote the input: control characters, which a terminal may obey, are escaped.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message, backslash=False))


class InvalidSource(LayerStoreError):
    """A file, directory or tar cannot become a part of a new layer, or not at this place. The message says why.

    Args:
        message: what is wrong. Control characters in it, which a terminal may obey, are escaped.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message, backslash=False))


class InvalidReference(LayerStoreError, ValueError):
    """An image cannot have this name."""


class ImageDoesNotExist(LayerStoreError):
    """No image with this name or ID is in the store."""


class ImageInUse(LayerStoreError):
    """The image cannot be removed: something depends on it, or it has other names."""


class RWLayerInUse(LayerStoreError):
    """The writable layer was changed while it was read: there is no one state of it that could be kept."""


class SnapshotError(LayerStoreError):
    """The base class of the errors of snapshots."""


class SnapshotDoesNotExist(SnapshotError):
    """There is no snapshot of this key."""


class SnapshotExists(SnapshotError):
    """There is a snapshot of this key; or there is one of the layer that was about to be unpacked."""


class SnapshotHasChildren(SnapshotError):
    """The snapshot cannot be removed: it is the parent of others."""


class WrongSnapshotKind(SnapshotError):
    """The call is not for snapshots of this kind."""


class InvalidSnapshot(SnapshotError, ValueError):
    """A key, a label, a parent or a field of a snapshot cannot be used."""


class SnapshotsInUse(SnapshotError):
    """Another process, or another object of this one, has the snapshots of this root and driver."""


class RootInUse(LayerStoreError):
    """Another program, such as a Docker daemon, uses the root exclusively: it can be read, but not written."""


class UserNamespaceError(LayerStoreError):
    """This process cannot enter a user namespace, or a mount would end with the one that it enters."""


class ReadOnlyStore(LayerStoreError):
    """The store is open for reading only, and the call would change it."""


@contextmanager
def while_doing(what: str) -> Iterator[None]:
    """Add a note of what was being done to each `OSError` in a `with` block, since its message has a path at most.

    Args:
        what: what is being done, such as `"reading FILE"`. The note is `while WHAT`.
    """
    try:
        yield
    except OSError as error:
        error.add_note(f"while {what}")
        raise


def done_before(error: BaseException) -> Any:
    """Return what an operation on several objects had done before it failed, in the form of its result; else `None`."""
    return vars(error).get("done")


def note_done(error: BaseException, done: Any) -> None:
    """Set the attribute `done` of an error: what the failing operation had done before."""
    vars(error)["done"] = done


@contextmanager
def keeping_done(done: Any, add: Callable[[Any], object] | None = None) -> Iterator[None]:
    """Set the attribute `done` of each error in a `with` block, if anything was done before it.

    Args:
        done: what has been done so far. It grows in the block, and is false while nothing has been done.
        add: adds what a failing inner operation had done to `done`.
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
