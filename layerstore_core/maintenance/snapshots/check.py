"""Check the snapshots of an engine: their database, and the driver's layers that it names.

The content of such a layer cannot be proved: nothing has its tar. What is compared is whether the layers are there,
whole, and on the right parents.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Final

from layerstore_core.errors import BadRecord, LayerStoreError
from layerstore_core.maintenance.check_driver import RecordedLayer
from layerstore_core.maintenance.finding import Finding

if TYPE_CHECKING:
    from layerstore_core.records.snapshots.rows import SnapshotRow
    from layerstore_core.store.store import LayerStore

_DOING: Final = {"creating": "making", "removing": "removing"}
_GIVE_UP: Final = (
    "restore it from a backup; no layer of a snapshot is deleted until then. `layerstore check --repair --force` gives "
    "all snapshots up, and `layerstore gc` then removes their layers"
)
_REMOVE: Final = "remove the snapshot with the engine that made it"


def check_snapshots(store: LayerStore) -> Iterator[Finding]:
    """Yield what is wrong with the snapshots; costs next to nothing where there are none."""
    records = store.context.snapshots
    if (bad := _bad_database(store)) is not None:
        yield bad
        return
    if not records.exist():
        return
    from layerstore_core.snapshots.owner import is_unowned  # lazy: few stores have snapshots

    rows = records.rows()
    unowned = is_unowned(store.context)
    for row in rows:
        if row.state != "ready":
            # A process that owns the snapshots is at work on it.
            found = [_unfinished(row)] if unowned else []
        elif row.chain_id is not None:
            found = [] if store.has_layer(row.chain_id) else [_without_layer(row)]
        else:
            found = list(layer_findings(store, row)) if row.driver_id else []
        # A layer that is being removed has lost its record first.
        if found and _is_current(store, row):
            yield from found


def subject_of(row: SnapshotRow) -> str:
    """Return the name of a snapshot in findings."""
    return f"snapshot {row.key!r}"


def recorded_snapshot_layers(store: LayerStore) -> Iterator[RecordedLayer]:
    """Yield the layers that snapshots alone have, parents before their children; none where they cannot be read."""
    try:
        rows = store.context.snapshots.rows()
    except (BadRecord, OSError):  # a finding of its own
        return
    for row in rows:
        if row.state == "ready" and row.has_own_layer:
            yield recorded_layer(store, row)


def recorded_layer(store: LayerStore, row: SnapshotRow) -> RecordedLayer:
    """Return the layer that a snapshot alone has."""
    from layerstore_core.snapshots.layers import layer_id, parent_layer_id

    context, is_current = store.context, partial(_is_current, store, row)
    return RecordedLayer(None, subject_of(row), layer_id(context, row), parent_layer_id(context, row), is_current)


def layer_findings(store: LayerStore, row: SnapshotRow) -> Iterator[Finding]:
    """Yield what is wrong with the layer that a snapshot alone has."""
    driver, recorded = store.driver, recorded_layer(store, row)
    if not driver.exists(recorded.layer_id):
        yield Finding(
            "missing-in-driver",
            recorded.subject,
            f"the driver {driver.name} has no layer {recorded.layer_id}",
            f"its content is lost; {_REMOVE}",
        )
        return
    try:
        known = driver.parent_of(recorded.layer_id, recorded.parent_id)
        problems = driver.check_layer(recorded.layer_id, recorded.parent_id if known is None else known)
    except (LayerStoreError, OSError) as error:
        known, problems = None, [f"it cannot be read: {error}"]
    if known is not None and known != recorded.parent_id and not _is_former(store, row, known):
        yield Finding(
            "wrong-parent",
            recorded.subject,
            f"its parent is the driver's layer {recorded.parent_id or 'none'} according to the database of snapshots, "
            f"and {known or 'none'} according to the driver {driver.name}",
            f"nothing says which is right; {_REMOVE}",
        )
    for problem in problems:
        yield Finding(
            "broken-in-driver",
            recorded.subject,
            problem,
            f"`layerstore check --repair` repairs it, if the driver is able to; otherwise {_REMOVE}",
        )


def _is_former(store: LayerStore, row: SnapshotRow, layer_id: str) -> bool:
    """Return whether a layer of the driver may be the parent's own, as it was before a repair made it again."""
    if row.parent_chain_id is None or not layer_id:
        return False
    others = {layer.cache_id for layer in store.layers().values()} | store.context.snapshots.driver_ids()
    return layer_id not in others or layer_id == row.parent_driver_id


def _unfinished(row: SnapshotRow) -> Finding:
    return Finding(
        "unfinished-snapshot",
        subject_of(row),
        f"a process that has ended was {_DOING[row.state]} it",
        "`layerstore gc` finishes that, and so does the next start of the engine's server",
    )


def _without_layer(row: SnapshotRow) -> Finding:
    return Finding(
        "missing-in-driver",
        subject_of(row),
        f"it is layer {row.chain_id} of the store, which is missing",
        f"register the layer again (`layerstore pull`, `load` or `register`), or {_REMOVE}",
    )


def _bad_database(store: LayerStore) -> Finding | None:
    records = store.context.snapshots
    try:
        if records.exist():
            records.check()
            return None
        lost = records.lost(store.driver.layer_ids() or ())
    except BadRecord as error:
        path, message = error.path, error.reason
    except (LayerStoreError, OSError) as error:
        path, message = records.path, str(error)
    else:
        return None if lost is None else Finding("lost-snapshots", str(lost.path), lost.reason, _GIVE_UP)
    remedy = f"`layerstore check --repair` makes its indexes again, if only these are damaged; otherwise {_GIVE_UP}"
    return Finding("damaged-snapshots", str(path), message, remedy)


def _is_current(store: LayerStore, row: SnapshotRow) -> bool:
    """Return whether a row is as it was: another process may have changed it meanwhile."""
    now = store.context.snapshots.row(row.number)
    return now is not None and (now.state, now.driver_id) == (row.state, row.driver_id)
