"""What interrupted pulls have left: files of blobs below `<root>/layerstore/downloads/`, and which to remove."""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from layerstore_core.base import inside
from layerstore_core.errors import BadRecord
from layerstore_core.images.remote.receive.partial_file import is_at
from layerstore_core.locking.file_locks import is_locked, try_lock
from layerstore_core.records.blob_sources import BlobSources
from layerstore_core.store.store import LayerStore

#: What was not written to for so many seconds is not needed any more: a week.
MAX_AGE: Final = 7 * 24 * 60 * 60
_NAMES: Final = {"sha256": re.compile(r"[0-9a-f]{64}", re.ASCII), "sha512": re.compile(r"[0-9a-f]{128}", re.ASCII)}
_BLOCK: Final = 512


@dataclass(frozen=True, slots=True)
class Leftover:
    """The file of a blob that was received, or a part of it.

    Attributes:
        path: the file.
        digest: the digest of the blob.
        bytes: the bytes that it takes.
        written: when it was written to, in seconds since 1970.
        in_use: whether a process receives the blob.
    """

    path: Path
    digest: str
    bytes: int
    written: float
    in_use: bool


def downloads_directory(root: Path) -> Path:
    """Return the directory of blobs that are being received."""
    return root / "layerstore" / "downloads"


def find_leftovers(root: Path) -> list[Leftover]:
    """Return the files of all blobs. What cannot be read, or is no such file, is left out.

    Args:
        root: the store's directory.
    """
    found = []
    for algorithm, names in _NAMES.items():
        directory = downloads_directory(root) / algorithm
        with suppress(BadRecord, OSError):
            for name in filter(names.fullmatch, inside.names(directory)):
                path = directory / name
                with suppress(BadRecord, OSError), inside.open_file(path) as fd:
                    status = os.fstat(fd)
                    size = status.st_blocks * _BLOCK
                    found.append(Leftover(path, f"{algorithm}:{name}", size, status.st_mtime, is_locked(fd)))
    return found


def unneeded(store: LayerStore) -> list[Leftover]:
    """Return the files that are not in use, and old, or of a layer that the store has."""
    found = [one for one in find_leftovers(store.root) if not one.in_use]
    if not found:
        return []
    sources = BlobSources(store.context.image_db.path)
    layers = {layer.diff_id for layer in store.layers().values()}
    before = time.time() - MAX_AGE
    return [one for one in found if one.written < before or sources.diff_id(one.digest) in layers]


def remove_leftover(found: Leftover) -> bool:
    """Remove a file, unless a process receives the blob; return whether it was removed.

    Raises:
        OSError: it cannot be removed.
    """
    with suppress(FileNotFoundError, BadRecord), inside.open_file(found.path, os.O_RDWR) as fd:
        if try_lock(fd) and is_at(fd, found.path):
            inside.unlink(found.path)
            return True
    return False
