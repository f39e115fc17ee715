"""Records that are missing, though the driver has layers or a pin names one: it is not known what they referred to."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from layerstore_core.base import inside
from layerstore_core.errors import BadRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

    from layerstore_core.base.digests import ChainID
    from layerstore_core.records.layerdb import LayerDB
    from layerstore_core.records.pins import Pins
    from layerstore_core.records.quarantine import QuarantinedReferences
    from layerstore_core.records.snapshots.records import SnapshotRecords
    from layerstore_core.store.catalog import Catalog


class _Unknown:
    """References of which it is not known what they refer to; see `ReferenceSource`."""

    def references_to(self, _chain: ChainID) -> list[str]:
        """Return nothing: it is not known which layers the records referred to."""
        return []

    def all_references(self) -> Collection[ChainID]:
        """Return no layer; see `ReferenceSource`."""
        return ()


class LostRecords(_Unknown):
    """References of writable layers whose records are gone with their directory: they may be to any layer.

    Args:
        db: the records.
        driver: the driver's name on disk.
        strays: lists the driver's layers that no record names.
    """

    def __init__(self, db: LayerDB, driver: str, strays: Callable[[], list[str]]) -> None:
        self._db = db
        self._driver = driver
        self._strays = strays
        self._none_lost = False

    def unreadable(self) -> list[BadRecord]:
        """Return the directories that are missing though the driver has layers that no record names."""
        missing = self._db.missing_directories()
        if not missing or self._none_lost:
            return []
        if not self._strays():
            self._none_lost = True  # there has never been a record: the first writable layer makes the directory
            return []
        return [
            BadRecord(
                path,
                f"the directory is missing, and the driver {self._driver} has layers that no record names; "
                "restore it from a backup, or create it, empty, if nothing that was recorded there is needed",
            )
            for path in missing
        ]

    def require_none(self) -> None:
        """Refuse to create a missing directory again: it would look as if nothing had been recorded there.

        Raises:
            BadRecord: records are lost.
        """
        for bad in self.unreadable():
            raise bad


class LostSnapshots(_Unknown):
    """References of an engine's snapshots whose database is gone: they may be to any layer.

    Args:
        records: the records of snapshots.
        layer_ids: lists the driver's layers.
    """

    def __init__(self, records: SnapshotRecords, layer_ids: Callable[[], list[str] | None]) -> None:
        self._records = records
        self._layer_ids = layer_ids
        self._none_lost = False

    def unreadable(self) -> list[BadRecord]:
        """Return the database if it is missing though the driver has layers of snapshots."""
        try:
            if self._records.exist():
                self._none_lost = False
            elif not self._none_lost:
                # Looked at once: the first snapshot makes the database before the driver makes its layer.
                if lost := self._records.lost(self._layer_ids() or ()):
                    return [lost]
                self._none_lost = True
        except (BadRecord, OSError):  # `SnapshotRecords.unreadable` reports that
            pass
        return []


class LostLayers(_Unknown):
    """References of single records that are gone: those of pinned layers, and those replaced by another kind of file.

    Args:
        db: the records.
        pins: the pins of the same driver's layers.
        quarantined: its quarantine: a record that is there is not lost.
        catalog: the layers that are known.
    """

    def __init__(self, db: LayerDB, pins: Pins, quarantined: QuarantinedReferences, catalog: Catalog) -> None:
        self._db = db
        self._pins = pins
        self._quarantined = quarantined
        self._catalog = catalog
        self._refresh_count = 0
        self._suspects: list[ChainID] = []
        self._displaced: list[Path] = []

    def unreadable(self) -> list[BadRecord]:
        """Return the entries in the place of a record, and the first pin whose layer's record is missing."""
        # Only damage adds to these. So all pins are looked at only when all records are.
        if self._refresh_count != self._catalog.refresh_count:
            self._displaced = self._db.displaced()
            try:
                self._suspects = sorted(set(self._pins) - self._catalog.layers().keys())
            except (BadRecord, OSError):  # `Pins.unreadable` reports that
                return []
            self._refresh_count = self._catalog.refresh_count
        found = [
            BadRecord(path, "it is in the place of a record, and is no directory")
            for path in self._displaced
            if inside.exists(path) and not inside.is_directory(path)
        ]
        pin = next(self._dangling(), None)
        if pin is not None:
            found.append(
                BadRecord(
                    self._pins.path_of(pin),
                    f"the record of layer {pin}, which this pin keeps, is missing, so that its parent is not known; "
                    "`layerstore check --repair --from FILE` registers the layer again, and `--repair --force` "
                    "gives it up",
                )
            )
        return found

    def _dangling(self) -> Iterator[ChainID]:
        for pin in self._suspects:
            # In this order: a layer is pinned after its record is written, and a deletion removes the pin first.
            # What cannot be looked at is damaged or displaced, and reported as that.
            with suppress(BadRecord, OSError):
                if not self._db.has_layer(pin) and pin in self._pins and not self._quarantined.has_record_of(pin):
                    yield pin
