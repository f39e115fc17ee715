"""Remove snapshots, and finish or undo what was interrupted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layerstore_core.errors import BadRecord, LayerStoreError, SnapshotHasChildren
from layerstore_core.log import logger
from layerstore_core.records.snapshots import rows
from layerstore_core.snapshots.owner import Owner, existing, is_unowned, owning_for_a_moment

if TYPE_CHECKING:
    from sqlite3 import Connection

    from layerstore_core.records.snapshots.rows import SnapshotRow
    from layerstore_core.store.context import StoreContext


def remove(owner: Owner, key: str) -> None:
    """Remove a snapshot. The caller has locked the key.

    From the moment that its removal is recorded it does not exist. If the driver cannot remove its layer now, this is
    logged, and left to `finish_all`.

    Raises:
        SnapshotDoesNotExist: there is none of this key.
        SnapshotHasChildren: it is the parent of others.
    """
    row = owner.journal.write(lambda database: _begin(database, key))
    finish(owner, row)
    logger.info("removed the snapshot {!r}", key)


def undo(owner: Owner, row: SnapshotRow) -> None:
    """Remove what there is of a snapshot that could not be made; what fails is logged, and left to `finish_all`.

    If it was recorded as ready after all, as when the caller was interrupted after that, it stays.
    """

    def doom(database: Connection) -> bool:
        current = rows.find_number(database, row.number)
        if current is None or current.state != rows.CREATING:
            return False
        rows.change(database, row.number, state=rows.REMOVING)
        return True

    try:
        doomed = owner.journal.write(doom, durable=False)
    except (LayerStoreError, OSError) as error:
        logger.error("the record of snapshot {!r} remains until the snapshots are opened again: {}", row.key, error)
        return
    if doomed:
        finish(owner, row)


def finish(owner: Owner, row: SnapshotRow) -> bool:
    """Remove the driver's layer of a snapshot that is being removed, then its record, then parents that wait for that.

    Returns:
        Whether it is gone.
    """
    current: SnapshotRow | None = row
    while current is not None and _finish_one(owner, current):
        current = _waiting_parent(owner, current)
    return current is not row


def _finish_one(owner: Owner, row: SnapshotRow) -> bool:
    """Remove the layer and the record of one snapshot, unless it has children that wait for their own removal."""
    with owner.removals.locking(str(row.number)):
        # The driver removes children before their parents.
        if owner.journal.read(lambda database: rows.has_children(database, row.number, in_any_state=True)):
            return False
        if row.has_own_layer:
            try:
                owner.store.driver.remove(row.driver_id)
            except Exception as error:  # a driver may raise anything
                logger.error("layer {} of the removed snapshot {!r} remains for now: {}", row.driver_id, row.key, error)
                return False
        owner.journal.write(lambda database: rows.delete(database, row.number), durable=False)
        return True


def _waiting_parent(owner: Owner, row: SnapshotRow) -> SnapshotRow | None:
    """Return the parent of a snapshot that is gone, if it waits for that to be removed itself."""
    number = row.parent_number
    if number is None:
        return None
    parent = owner.journal.read(lambda database: rows.find_number(database, number))
    return parent if parent is not None and parent.state == rows.REMOVING else None


def finish_all(owner: Owner) -> list[SnapshotRow]:
    """Finish all removals that were left, as far as possible.

    Returns:
        Those that are finished now.
    """
    left = [row for row in owner.journal.read(rows.unfinished) if row.state == rows.REMOVING]
    return [row for row in left if finish(owner, row)]


def recover(owner: Owner) -> list[SnapshotRow]:
    """Undo what an owner that has ended was making, and finish its removals. No other thread has the owner yet.

    Returns:
        What was removed.
    """

    def doom(database: Connection) -> None:
        for row in rows.unfinished(database):
            if row.state == rows.CREATING:
                rows.change(database, row.number, state=rows.REMOVING)

    if not owner.journal.read(rows.unfinished):
        return []
    owner.journal.write(doom)
    removed = finish_all(owner)
    for row in removed:
        logger.info("removed what was left of the snapshot {!r}", row.key)
    return removed


def finish_left(store: StoreContext, *, dry_run: bool) -> list[SnapshotRow]:
    """Finish or undo what an owner that was killed has left, if there is no owner now.

    Args:
        store: an open store.
        dry_run: change nothing.

    Returns:
        The snapshots that were removed, or would be. None if the records cannot be read, which is logged.
    """
    try:
        if dry_run:
            return [row for row in store.snapshots.rows() if row.state != rows.READY] if is_unowned(store) else []
        with owning_for_a_moment(store) as owner:
            return recover(owner) if owner is not None else []
    except (BadRecord, OSError) as error:
        logger.warning("snapshots that were left unfinished are not looked for: {}", error)
        return []


def _begin(database: Connection, key: str) -> SnapshotRow:
    row = existing(database, key)
    if rows.has_children(database, row.number):
        raise SnapshotHasChildren(f"the snapshot {key!r} has children: remove these first")
    rows.change(database, row.number, state=rows.REMOVING)
    return row
