"""The quarantine: damaged or unexpected entries, moved there and not deleted.

An entry is `<root>/layerstore/quarantine/<driver>/<time>-<what>`. As long as a record is there, the driver's layers
that it names are kept, and so is what it refers to: the record may be restored. Removing an entry by hand ends that.
Entries of earlier versions are in the parent directory.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Final

from layerstore_core.base import inside
from layerstore_core.base.atomic import make_directory
from layerstore_core.base.digests import ChainID
from layerstore_core.errors import BadRecord
from layerstore_core.records.claims import Claims, claimed_parents, is_record
from layerstore_core.records.layerdb import LayerDB
from layerstore_core.records.own_state import state_directory

#: A time, and a random part; no driver has such a name.
_ENTRY: Final = r"(?s)[0-9]{8}T[0-9]{6}Z-.*"
#: An image's config keeps its name after the time.
_CONFIG: Final = r"(?s).*-[0-9a-f]{64}"
_UNFIT: Final = r"[^A-Za-z0-9._-]+"
_LONGEST: Final = 100


class Quarantine:
    """The quarantine of one driver's records.

    Args:
        root: the store's directory.
        driver: the driver's name on disk.
    """

    def __init__(self, root: Path, driver: str) -> None:
        self.path = state_directory(root, "quarantine", driver)

    def put(self, path: Path, what: str) -> Path:
        """Move a file or a directory here.

        Args:
            path: what to move.
            what: its name here, after the time.

        Returns:
            Its new path.

        Raises:
            OSError: it cannot be moved, and is where it was.
        """
        from datetime import UTC, datetime

        make_directory(self.path, 0o700, durable=True)
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        name = re.sub(_UNFIT, "-", what)[:_LONGEST].strip("-")
        target = self.path / f"{stamp}-{os.urandom(3).hex()}-{name}"
        inside.rename(path, target)
        inside.flush(self.path)
        inside.flush(path.parent)
        return target

    def entries(self) -> list[Path]:
        """Return the entries, sorted, and those of the parent directory; other drivers' directories name no layers."""
        found: list[Path] = []
        for directory in (self.path, self.path.parent):
            found += [directory / name for name in inside.names(directory)]
        return [path for path in found if path != self.path]


class QuarantinedReferences:
    """References of the entries in a driver's quarantine; those of earlier versions may be any driver's.

    Args:
        root: the store's directory.
        db: the records of the driver's layers.
        driver: the driver's name on disk.
    """

    def __init__(self, root: Path, db: LayerDB, driver: str) -> None:
        own = state_directory(root, "quarantine", driver)
        self._directories = own.parent, own
        self._db = db
        self._paths: list[Path] = []
        self._claims = Claims({}, [])

    def references_to(self, chain: ChainID) -> list[str]:
        """Return the records here that refer to the layer, in words."""
        return [f"{record}, in quarantine" for record in self._look().parents.get(chain, ())]

    def has_record_of(self, chain: ChainID) -> bool:
        """Return whether a layer's record is here: then its parent is known, or `unreadable` reports it."""
        self._look()
        return any(
            path.name.endswith((f"-{chain.hex}", f"-{chain.hex[:12]}")) and is_record(path) for path in self._paths
        )

    def all_references(self) -> Collection[ChainID]:
        """Return all layers to which records here refer; see `ReferenceSource`."""
        return self._look().parents

    def unreadable(self) -> list[BadRecord]:
        """Return what cannot be read here, or whose parent is not known: it may refer to any layer."""
        return self._look().unknown

    def _look(self) -> Claims:
        paths: list[Path] = []
        for directory in self._directories:
            try:
                paths += [directory / name for name in inside.names(directory) if re.fullmatch(_ENTRY, name)]
            except BadRecord as error:
                return Claims({}, [error])
            except OSError as error:
                return Claims({}, [BadRecord(directory, f"the quarantine cannot be read: {error.strerror}")])
        if paths != self._paths:  # the content of an entry does not change
            self._claims = claimed_parents(paths, self._db.list_layers())
            self._claims.unknown.extend(
                BadRecord(path, "it is a damaged image's config; remove it when the image is not needed any more")
                for path in paths
                if re.fullmatch(_CONFIG, path.name) and not inside.is_directory(path)
            )
            self._paths = paths
        return self._claims
