"""What BuildKit's cache in a Docker data root keeps.

Its snapshotter (moby, `builder/builder-next/adapters/snapshot`) writes the chain IDs of the layers that it needs into
a bbolt database. That is searched as bytes: a freed page may still name a layer that is needed no more, and then the
layer stays until BuildKit writes over it. The other way round a layer would go under a cache that counts on it.
"""

from __future__ import annotations

import re
from pathlib import Path

from layerstore_core.digests import ChainID

_NAME = re.compile(rb"sha256:[0-9a-f]{64}")
_CHUNK = 1 << 20
_LONGEST = len("sha256:") + 64


class BuildKitCache:
    """The layers that one data root's BuildKit keeps.

    Args:
        root: the data root.
    """

    def __init__(self, root: Path) -> None:
        self._path = root / "buildkit" / "snapshots.db"
        self._seen: tuple[int, int, int] | None = None
        self._layers: frozenset[bytes] = frozenset()

    def holding(self, chain: ChainID) -> list[str]:
        """What of this holds the layer, in words."""
        try:
            status = self._path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return []
        # No daemon runs while a store is open for writing, so that the file changes between stores, if at all.
        seen = (status.st_ino, status.st_size, status.st_mtime_ns)
        if seen != self._seen:
            self._layers, self._seen = self._read(), seen
        return ["BuildKit's cache"] if chain.encode() in self._layers else []

    def _read(self) -> frozenset[bytes]:
        found: set[bytes] = set()
        tail = b""
        with open(self._path, "rb") as file:
            while chunk := file.read(_CHUNK):
                data = tail + chunk
                found.update(_NAME.findall(data))
                tail = data[1 - _LONGEST :]
        return frozenset(found)
