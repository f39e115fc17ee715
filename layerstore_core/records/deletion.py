"""Delete a layer's record: it is renamed first, and removed when the driver has removed its part."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple, Self

from layerstore_core.base.descriptors import Descriptor
from layerstore_core.base.digests import ChainID
from layerstore_core.errors import while_doing
from layerstore_core.tree.remove import remove_tree


class InterruptedDeletion(NamedTuple):
    """A deletion that has begun, and on which no process is at work.

    Attributes:
        path: what is left of the layer's record.
        chain_id: the layer that was deleted.
        cache_id: the driver's ID for it, which the driver may still have to remove; `None` where it is not known.
    """

    path: Path
    chain_id: ChainID
    cache_id: str | None


class Deletion:
    """A deletion on which this process is at work; a context manager that unlocks it at the end.

    Args:
        path: what is left of the record.
        lock: keeps other processes away from it.
    """

    def __init__(self, path: Path, lock: Descriptor) -> None:
        self.path = path
        self._lock = lock

    def finish(self) -> None:
        """Remove what is left of the record, once the driver has removed its part."""
        with while_doing(f"finishing the deletion of {self.path}"):
            remove_tree(os.fsencode(self.path))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._lock.close()
