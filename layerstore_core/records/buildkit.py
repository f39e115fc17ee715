"""References of BuildKit's cache in a Docker data root.

Its snapshotter (moby, `builder/builder-next/adapters/snapshot`) writes the chain IDs of the layers that it needs into
a bbolt database. The database is searched as bytes. A freed page may still name a layer that is no longer needed;
then the layer stays until BuildKit overwrites the page. Otherwise a layer could be deleted that a cache relies on.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO, Final

from layerstore_core.base import inside
from layerstore_core.base.digests import ChainID
from layerstore_core.errors import BadRecord

_NAME: Final = rb"sha256:[0-9a-f]{64}"
_CHUNK = 1 << 20
#: More layers than a cache has ever named: a file with more would fill the memory.
_MOST = 1 << 20
_LONGEST = len("sha256:") + 64

#: A meta page of bbolt (`internal/common/meta.go`) after its page header: magic, version, page size, flags; the root
#: bucket's page and sequence, the free list's page, the number of pages, the transaction; a checksum of all that.
_META: Final = struct.Struct("<IIII5QQ")
_PAGE_HEADER: Final = 16
_MAGIC: Final = 0xED0CDAED
_VERSION: Final = 2
#: The second meta page is at the page size, which is in the first; where that is damaged, these are tried.
_PAGE_SIZES: Final = tuple(1 << power for power in range(10, 17))


class BuildKitCache:
    """The layers to which one data root's BuildKit refers.

    Args:
        root: the data root.
    """

    def __init__(self, root: Path) -> None:
        self._path = root / "buildkit" / "snapshots.db"
        self._seen: tuple[int, int, int] | None = None
        self._layers: frozenset[bytes] = frozenset()
        self._unreadable: list[BadRecord] = []

    def references_to(self, chain: ChainID) -> list[str]:
        """Return whether the cache refers to the layer, in words."""
        self._look()
        return ["BuildKit's cache"] if chain.encode() in self._layers else []

    def all_references(self) -> Collection[ChainID]:
        """Return all layers that the cache names; see `ReferenceSource`."""
        self._look()
        return {ChainID.trusted(name.decode()) for name in self._layers}

    def unreadable(self) -> list[BadRecord]:
        """Return the database if it cannot be read: it may refer to any layer."""
        self._look()
        return self._unreadable

    def _look(self) -> None:
        try:
            status = inside.status(self._path)
            # No daemon runs while a store is open for writing, so that the file changes between stores, if at all.
            seen = (status.st_ino, status.st_size, status.st_mtime_ns)
            if seen == self._seen:
                return
            with open(self._path, "rb", opener=inside.opener) as file:
                problem = _problem(file, status.st_size)
                self._layers = _names(file, self._path)
            self._unreadable = [BadRecord(self._path, problem)] if problem else []
            self._seen = seen
        except (BadRecord, OSError) as error:
            self._seen, self._layers, self._unreadable = None, frozenset(), []
            if isinstance(error, BadRecord):
                self._unreadable = [error]
            elif not isinstance(error, FileNotFoundError):
                self._unreadable = [BadRecord(self._path, f"BuildKit's cache cannot be read: {error.strerror}")]


def _names(file: BinaryIO, path: Path) -> frozenset[bytes]:
    found: set[bytes] = set()
    tail = b""
    file.seek(0)
    while chunk := file.read(_CHUNK):
        data = tail + chunk
        found.update(re.findall(_NAME, data))
        if len(found) > _MOST:
            raise BadRecord(path, f"it names more than {_MOST} layers; a BuildKit cache has some thousands")
        tail = data[1 - _LONGEST :]
    return frozenset(found)


def _problem(file: BinaryIO, size: int) -> str:
    """Return why names may be missing in a database; empty where none can be."""
    start = file.read(2 * _PAGE_SIZES[-1])
    metas = [meta for offset in (0, *_PAGE_SIZES) if (meta := _meta(start, offset)) is not None]
    if not metas:
        return "it is no database of a known kind, or a damaged one"
    if size < max(page_size * pages for page_size, pages in metas):
        return "the database is cut off"
    return ""


def _meta(start: bytes, offset: int) -> tuple[int, int] | None:
    """Return the page size and the number of pages in a sound meta page at `offset`."""
    data = start[offset + _PAGE_HEADER :][: _META.size]
    if len(data) < _META.size:
        return None
    magic, version, page_size, _, _, _, _, pages, _, checksum = _META.unpack(data)
    sound = (magic, version, checksum) == (_MAGIC, _VERSION, _fnv1a(data[:-8]))
    return (page_size, pages) if sound else None


def _fnv1a(data: bytes) -> int:
    digest = 0xCBF29CE484222325
    for byte in data:
        digest = (digest ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return digest
