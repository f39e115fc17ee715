"""Commit an active snapshot: its layer becomes read-only, and can be a parent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from typing import TYPE_CHECKING

from layerstore_core.errors import MaxDepthExceeded, SnapshotExists, WrongSnapshotKind, while_doing
from layerstore_core.log import logger
from layerstore_core.records.snapshots import rows
from layerstore_core.snapshots.create import begin, new_driver_id
from layerstore_core.snapshots.layers import parent_layer_id
from layerstore_core.snapshots.owner import Owner, existing, now
from layerstore_core.snapshots.remove import finish, undo

if TYPE_CHECKING:
    from sqlite3 import Connection

    from layerstore_core.records.snapshots.rows import SnapshotRow


def commit(owner: Owner, name: str, key: str, labels: Mapping[str, str]) -> None:
    """Commit an active snapshot. The caller has locked both keys, and the program that mounted it has unmounted it.

    Until the commit is recorded the snapshot is active. If it fails after the driver has sealed the layer, it can be
    committed again, or removed.

    Args:
        owner: the snapshots.
        name: the new key.
        key: the key of the active snapshot, which does not exist afterwards.
        labels: the labels of the committed one.

    Raises:
        SnapshotDoesNotExist: there is no snapshot `key`.
        WrongSnapshotKind: it is not active.
        SnapshotExists: the name is taken.
        MaxDepthExceeded: it would have more layers below it than the driver can hold.
        OSError: the driver or the disk refuses.
    """
    driver = owner.store.driver
    row = owner.journal.read(lambda database: _committable(database, name, key))
    deepest = driver.capabilities.max_depth
    if deepest is not None and row.depth > deepest:
        raise MaxDepthExceeded(
            f"the snapshot {key!r} is {row.depth} layers deep; the driver {driver.name} can hold {deepest}"
        )
    with owner.flushes.watching() as flush, while_doing(f"committing the snapshot {key!r}"):
        usage = driver.usage(row.driver_id, parent_layer_id(owner.store, row))
        if driver.seal(row.driver_id):
            flush()
            owner.journal.write(lambda database: _rename(database, row, name, labels, usage))
        else:
            _copy(owner, row, name, labels, usage=usage, flush=flush)
    logger.info("committed the snapshot {!r} as {!r}: {} bytes of files", key, name, usage[0])


def _committable(database: Connection, name: str, key: str) -> SnapshotRow:
    row = existing(database, key)
    if (other := rows.find(database, name)) is not None and other.state == rows.READY:
        raise SnapshotExists(f"there is a snapshot {name!r} already")
    if row.kind != rows.ACTIVE:
        raise WrongSnapshotKind(f"the snapshot {key!r} cannot be committed: it is not active, but {_a(row.kind)}")
    return row


def _a(kind: str) -> str:
    return "a view" if kind == rows.VIEW else "committed already"


def _rename(
    database: Connection, row: SnapshotRow, name: str, labels: Mapping[str, str], usage: tuple[int, int]
) -> None:
    if (other := rows.find(database, name)) is not None:  # one that could not be made: see `create.begin`
        rows.change(database, other.number, state=rows.REMOVING)
    _record(database, row, name, labels, usage)


def _record(
    database: Connection, row: SnapshotRow, name: str, labels: Mapping[str, str], usage: tuple[int, int]
) -> None:
    time = now()
    rows.change(
        database,
        row.number,
        key=name,
        kind=rows.COMMITTED,
        labels=rows.as_json(labels),
        created=time,
        updated=time,
        size=usage[0],
        inodes=usage[1],
    )


def _copy(
    owner: Owner,
    row: SnapshotRow,
    name: str,
    labels: Mapping[str, str],
    *,
    usage: tuple[int, int],
    flush: Callable[[], None],
) -> None:
    """Copy an active snapshot into a new layer, which is the committed one. The former layer is removed."""
    from layerstore_core.tar.layer_stream import LayerStream
    from layerstore_core.tar.scanner import TarScanner

    driver, new_id = owner.store.driver, new_driver_id()
    parent_id = parent_layer_id(owner.store, row)
    new = owner.journal.write(
        lambda database: begin(database, name, row.parent, labels, kind=rows.COMMITTED, driver_id=new_id),
        durable=False,
    )
    try:
        driver.create(new_id, parent_id, {})
        with closing(driver.diff(row.driver_id, parent_id)) as tar:
            stream = LayerStream(TarScanner(lambda: tar.read(1 << 20)))
            driver.apply_diff(new_id, parent_id, stream)
        flush()

        def replace(database: Connection) -> None:
            rows.change(database, row.number, state=rows.REMOVING)
            _record(database, new, name, labels, usage)
            rows.change(database, new.number, state=rows.READY)

        owner.journal.write(replace)
    except BaseException:
        undo(owner, new)
        raise
    finish(owner, row)
