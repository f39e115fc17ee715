"""Directories of records that are missing: that is no statement that there are no records, where the driver has layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layerstore_core.errors import BadRecord

if TYPE_CHECKING:
    from layerstore_core.digests import ChainID
    from layerstore_core.store import LayerStore


class LostRecords:
    """What writable layers refer to whose records are gone with their directory: nobody can tell, so it may be any layer.

    Args:
        store: an open store.
    """

    def __init__(self, store: LayerStore) -> None:
        self._store = store
        self._none_lost = False

    def holding(self, _chain: ChainID) -> list[str]:
        """Nothing: which layers they are cannot be told."""
        return []

    def unreadable(self) -> list[BadRecord]:
        """The directories that are missing though the driver has layers that no record names."""
        missing = self._store.db.missing_directories()
        if not missing or self._none_lost:
            return []
        from layerstore_core.checking.strays import Strays

        if not Strays(self._store, standing_still=True).ids:
            self._none_lost = True  # then none has ever been there: the first writable layer makes the directory
            return []
        return [
            BadRecord(
                path,
                f"the directory is missing, and the driver {self._store.driver_name} has layers that no record names; "
                "restore it from a backup, or make it, empty, if nothing is wanted that was recorded there",
            )
            for path in missing
        ]

    def require(self) -> None:
        """Refuse to make a missing directory anew, which would look as if nothing had been recorded there.

        Raises:
            BadRecord: records are lost.
        """
        for bad in self.unreadable():
            raise bad
