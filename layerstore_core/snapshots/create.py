"""Make active snapshots and views, and say how they are mounted."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING

from layerstore_core.errors import InvalidSnapshot, SnapshotExists, WrongSnapshotKind, while_doing
from layerstore_core.log import logger
from layerstore_core.records.snapshots import rows
from layerstore_core.records.snapshots.records import SUFFIX
from layerstore_core.snapshots.layers import parent_layer_id
from layerstore_core.snapshots.owner import Owner, existing, now
from layerstore_core.snapshots.remove import undo

if TYPE_CHECKING:
    from sqlite3 import Connection

    from layerstore_core.driver.mount_spec import MountSpec
    from layerstore_core.records.snapshots.rows import SnapshotRow


def create(owner: Owner, key: str, parent: str, labels: Mapping[str, str], kind: str) -> list[MountSpec]:
    """Make an active snapshot or a view. The caller has locked the key.

    Args:
        owner: the snapshots.
        key: the new key.
        parent: the key of a committed snapshot, `""` for none.
        labels: the labels.
        kind: `ACTIVE` or `VIEW`.

    Returns:
        How it is mounted.

    Raises:
        SnapshotExists: the key is taken.
        SnapshotDoesNotExist: there is no such parent.
        InvalidSnapshot: the parent is not committed.
        OSError: the driver or the disk refuses; nothing of it is left.
    """
    driver = owner.store.driver
    # A view of a parent that can be mounted by another program needs no layer of its own.
    own_layer = not (kind == rows.VIEW and parent and driver.gives_mounts)
    driver_id = new_driver_id() if own_layer else ""
    with owner.flushes.watching() as flush:
        row = owner.journal.write(
            lambda database: begin(database, key, parent, labels, kind=kind, driver_id=driver_id), durable=False
        )
        try:
            if own_layer:
                with while_doing(f"creating a layer for the snapshot {key!r} in {driver.home}"):
                    driver.create_read_write(driver_id, parent_layer_id(owner.store, row), "", {})
            found = instructions(owner, row)
            if own_layer:
                flush()
            owner.journal.write(lambda database: rows.change(database, row.number, state=rows.READY))
        except BaseException:
            undo(owner, row)
            raise
    logger.info("made the {} snapshot {!r} on {!r}: layer {}", kind, key, parent, driver_id or "of its parent")
    return found


def begin(
    database: Connection, key: str, parent: str, labels: Mapping[str, str], *, kind: str, driver_id: str
) -> SnapshotRow:
    """Record that a snapshot is being made; errors as `create`. From now on its parent cannot be removed."""
    parent_row = committed_parent(database, parent)
    if (other := rows.find(database, key)) is not None:
        if other.state != rows.CREATING:
            raise SnapshotExists(f"there is a snapshot {key!r} already")
        # The caller has locked the key, so no thread is making it: it failed, and so did undoing it, as on a full disk.
        rows.change(database, other.number, state=rows.REMOVING)
    return rows.insert(
        database,
        key=key,
        parent=parent_row,
        kind=kind,
        state=rows.CREATING,
        driver_id=driver_id,
        labels=labels,
        now=now(),
        depth=parent_row.depth + 1 if parent_row is not None else 1,
    )


def committed_parent(database: Connection, parent: str) -> SnapshotRow | None:
    """Return the snapshot that is to be a parent, `None` for `""`; errors as `create`."""
    if not parent:
        return None
    row = existing(database, parent, "parent snapshot")
    if row.kind != rows.COMMITTED:
        raise InvalidSnapshot(f"the snapshot {parent!r} cannot be a parent: it is {_a(row.kind)}, and not committed")
    return row


def mounts(owner: Owner, key: str) -> list[MountSpec]:
    """Return how a snapshot is mounted. The caller has locked the key.

    Raises:
        SnapshotDoesNotExist: there is none of this key.
        WrongSnapshotKind: it is committed.
        OSError: it was sealed for a commit that failed after that.
    """
    row = owner.find(key)
    if row.kind == rows.COMMITTED:
        raise WrongSnapshotKind(f"the snapshot {key!r} is committed, and cannot be mounted: make a view of it")
    with while_doing(f"asking how to mount the snapshot {key!r}"):
        return instructions(owner, row)


def instructions(owner: Owner, row: SnapshotRow) -> list[MountSpec]:
    """Return how the layer of a snapshot, or for a view without one that of its parent, is mounted."""
    shown = row.driver_id or parent_layer_id(owner.store, row)
    return owner.store.driver.mounts(shown, read_only=row.kind == rows.VIEW)


def new_driver_id() -> str:
    """Return an ID for a new layer of the driver."""
    return secrets.token_hex(32) + SUFFIX


def _a(kind: str) -> str:
    return "an active one" if kind == rows.ACTIVE else f"a {kind}"
