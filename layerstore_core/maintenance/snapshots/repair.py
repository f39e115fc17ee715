"""Repair the database of snapshots and their layers, or give up what cannot be read."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from layerstore_core.base import inside
from layerstore_core.base.atomic import make_directory
from layerstore_core.errors import BadRecord
from layerstore_core.maintenance.snapshots.check import layer_findings, recorded_layer, subject_of
from layerstore_core.records.snapshots import rows
from layerstore_core.records.snapshots.database import create_database, raw_rows
from layerstore_core.records.snapshots.records import SUFFIX
from layerstore_core.snapshots.owner import locking

if TYPE_CHECKING:
    from pathlib import Path

    from layerstore_core.maintenance.finding import Finding
    from layerstore_core.store.context import StoreContext
    from layerstore_core.store.store import LayerStore


def repair_snapshots(store: LayerStore, finding: Finding, *, force: bool) -> str:
    """Repair the database of snapshots, as far as nothing is lost by it.

    Args:
        store: an open store.
        finding: a finding of the database.
        force: give up what cannot be read: the damaged database is put into quarantine, and an empty one is made.

    Returns:
        What was done, in a sentence; empty where nothing was.

    Raises:
        SnapshotsInUse: a server has the snapshots.
        OSError: it could not be repaired.
    """
    if finding.code == "damaged-snapshots" and (done := _rebuild_indexes(store.context)):
        return done
    return _begin_anew(store.context) if force else ""


def repair_snapshot_layer(store: LayerStore, finding: Finding) -> str:
    """Have the driver repair a snapshot's layer; answer as `repair_snapshots`."""
    for row in store.context.snapshots.rows():
        if row.state != rows.READY or not row.has_own_layer or subject_of(row) != finding.subject:
            continue
        recorded = recorded_layer(store, row)
        if any(found.code != "broken-in-driver" for found in layer_findings(store, row)):
            return ""
        done = store.driver.repair_layer(recorded.layer_id, recorded.parent_id, proved=False)
        if any(layer_findings(store, row)):
            # As with an init layer, there is no proof of the parent. The database says what it is, and it is whole.
            done += store.driver.repair_layer(recorded.layer_id, recorded.parent_id, proved=True)
        return "" if any(layer_findings(store, row)) else "; ".join(done) or "its parent is repaired"
    return ""


def _rebuild_indexes(store: StoreContext) -> str:
    """Make a damaged database again from its rows, if all of them can be read; answer as `repair_snapshots`."""
    path = store.snapshots.path
    with locking(store):
        try:
            content = raw_rows(path)
        except (BadRecord, OSError):
            return ""
        # Rows of a damaged page may be missing. Those of layers that the driver has are not.
        named = {value for values in content for value in values if isinstance(value, str)}
        layers = [layer_id for layer_id in store.driver.layer_ids() or () if layer_id.endswith(SUFFIX)]
        if not named.issuperset(layers):
            return ""
        moved = _put_away(store)
        create_database(path, durable=store.config.durability == "full", content=content)
    try:
        store.snapshots.check()
    except (BadRecord, OSError):
        return ""
    return f"its indexes are made again from its rows; the damaged database is {moved}"


def _begin_anew(store: StoreContext) -> str:
    """Put the database into quarantine, if there is one, and make an empty one; answer as `repair_snapshots`."""
    path = store.snapshots.path
    durable = store.config.durability == "full"
    make_directory(path.parent, 0o700, durable=durable)
    with locking(store):
        moved = _put_away(store)
        create_database(path, durable=durable)
    done = "started again, without snapshots"
    return f"{done}; what there was is {moved}" if moved else done


def _put_away(store: StoreContext) -> Path | None:
    """Put the database into quarantine, with its log, which would be taken for that of a new one.

    Returns:
        Its new path; `None` where there is none.
    """
    path = store.snapshots.path
    moved = []
    for name in (path.name, *(f"{path.name}{end}" for end in ("-wal", "-shm", "-journal"))):
        with suppress(FileNotFoundError):
            inside.status(path.with_name(name))
            moved.append(store.quarantine.put(path.with_name(name), name))
    return moved[0] if moved else None
