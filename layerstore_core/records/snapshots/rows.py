"""Rows of the database of snapshots: what is read, and how it is found."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from layerstore_core.base.digests import ChainID

if TYPE_CHECKING:
    from sqlite3 import Connection

VIEW: Final = "view"
ACTIVE: Final = "active"
COMMITTED: Final = "committed"
#: The states of a row: the driver's layer is being made; the snapshot exists; the driver's layer is being removed.
CREATING: Final = "creating"
READY: Final = "ready"
REMOVING: Final = "removing"

#: How many rows a walk reads at a time.
_PAGE: Final = 200
#: The end of the year 9999, in nanoseconds: no later time can be shown.
_LAST: Final = 253_402_300_800 * 10**9
_DRIVER_ID: Final = re.compile(r"[a-z0-9-]{0,128}", re.ASCII)
_SELECT: Final = (
    "SELECT s.number, s.key, s.parent, p.key, p.driver_id, p.chain_id, s.kind, s.state, s.driver_id, s.chain_id, "
    "s.labels, s.created, s.updated, s.size, s.inodes, s.depth "
    "FROM snapshots AS s LEFT JOIN snapshots AS p ON p.number = s.parent"
)


@dataclass(frozen=True, slots=True)
class SnapshotRow:
    """A snapshot as it is recorded.

    Attributes:
        number: its number, in the order of creation; never used again.
        key: its key.
        parent_number: the number of its parent; `None` for none.
        parent: the key of its parent, `""` for none.
        parent_driver_id: the driver's ID of its parent's layer, `""` for none, as it was when that was recorded.
        parent_chain_id: the layer of the store that its parent is; `None` for none.
        kind: `VIEW`, `ACTIVE` or `COMMITTED`.
        state: `CREATING`, `READY` or `REMOVING`.
        driver_id: the driver's ID of its layer, `""` for a view without one. A layer of the store may have got another
            one since: see `layers.layer_id`.
        chain_id: the layer of the store that it is; `None` for one of its own.
        labels: the caller's labels.
        created: nanoseconds since the epoch; of a committed one, those of its commit.
        updated: the same, of the last change.
        size: the bytes of a committed snapshot's own files; `None` where they have not been counted.
        inodes: their number, likewise.
        depth: how many layers there are from it to its base.
    """

    number: int
    key: str
    parent_number: int | None
    parent: str
    parent_driver_id: str
    parent_chain_id: ChainID | None
    kind: str
    state: str
    driver_id: str
    chain_id: ChainID | None
    labels: Mapping[str, str]
    created: int
    updated: int
    size: int | None
    inodes: int | None
    depth: int

    @property
    def has_own_layer(self) -> bool:
        """Whether the driver has a layer of the snapshot alone, which is removed with it."""
        return bool(self.driver_id) and self.chain_id is None

    @property
    def in_words(self) -> str:
        """What the row is, for a person."""
        return _in_words(self.key, self.state)


def find(database: Connection, key: str) -> SnapshotRow | None:
    """Return the snapshot of a key, ready or being created."""
    return _first(database, "WHERE s.key = ? AND s.state <> 'removing'", key)


def find_number(database: Connection, number: int) -> SnapshotRow | None:
    """Return the row of a number, in any state."""
    return _first(database, "WHERE s.number = ?", number)


def find_remote(database: Connection, chain: str, parent: int | None) -> SnapshotRow | None:
    """Return a snapshot that is ready, and is the layer `chain` of the store with this parent."""
    return _first(database, "WHERE s.chain_id = ? AND s.state = 'ready' AND s.parent IS ?", chain, parent)


def rows_after(database: Connection, number: int) -> list[SnapshotRow]:
    """Return the next rows that are ready, by number: a page of them, empty after the last."""
    return list(_rows(database, "WHERE s.number > ? AND s.state = 'ready' ORDER BY s.number LIMIT ?", number, _PAGE))


def unfinished(database: Connection) -> list[SnapshotRow]:
    """Return what is being created or removed, the last first: children before their parents."""
    # Sorted here: with an ORDER BY, SQLite would look at all rows in that order, and not use the index.
    return sorted(_rows(database, "WHERE s.state <> 'ready'"), key=lambda row: -row.number)


def all_rows(database: Connection) -> list[SnapshotRow]:
    """Return all rows in all states, parents before their children."""
    return list(_rows(database, "ORDER BY s.number"))


def users_of(database: Connection, chain: str) -> list[str]:
    """Return the snapshots, in all states, that are a layer of the store, in words.

    They refer to it also if the rest of their rows is damaged, which is no error here.
    """
    found = database.execute("SELECT key, state FROM snapshots WHERE chain_id = ? ORDER BY number", (chain,))
    return [_in_words(str(key), str(state)) for key, state in found.fetchall()]


def chains(database: Connection) -> set[ChainID]:
    """Return all layers of the store that are snapshots.

    Raises:
        UnreadableRow: a row names something else.
    """
    found = database.execute("SELECT DISTINCT chain_id FROM snapshots WHERE chain_id IS NOT NULL").fetchall()
    try:
        return {ChainID(chain) for (chain,) in found}
    except (ValueError, TypeError) as error:
        raise UnreadableRow(f"the record of a snapshot does not name its layer: {error}") from error


def driver_ids(database: Connection) -> set[str]:
    """Return the driver's IDs of all layers of snapshots, in all states.

    Raises:
        UnreadableRow: a row names something else, so that its layer is not known.
    """
    found = {driver_id for (driver_id,) in database.execute("SELECT driver_id FROM snapshots")} - {""}
    wrong = [one for one in found if not (isinstance(one, str) and _DRIVER_ID.fullmatch(one))]
    if wrong:
        raise UnreadableRow(f"the record of a snapshot does not name its layer, but {wrong[0]!r:.300}")
    return found


def has_children(database: Connection, number: int, *, in_any_state: bool = False) -> bool:
    """Return whether a snapshot has children, also such as are being removed if `in_any_state`."""
    condition = "" if in_any_state else " AND state <> 'removing'"
    found = database.execute(f"SELECT 1 FROM snapshots WHERE parent = ?{condition} LIMIT 1", (number,))
    return found.fetchone() is not None


def insert(
    database: Connection,
    *,
    key: str,
    parent: SnapshotRow | None,
    kind: str,
    state: str,
    driver_id: str,
    labels: Mapping[str, str],
    now: int,
    chain_id: ChainID | None = None,
    depth: int,
) -> SnapshotRow:
    """Add a row, and return it."""
    number = database.execute(
        "INSERT INTO snapshots (key, parent, kind, state, driver_id, chain_id, labels, created, updated, depth) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            key,
            parent.number if parent is not None else None,
            kind,
            state,
            driver_id,
            chain_id,
            as_json(labels),
            now,
            now,
            depth,
        ),
    ).lastrowid
    assert number is not None
    row = find_number(database, number)
    assert row is not None
    return row


def change(database: Connection, number: int, **fields: str | int | None) -> None:
    """Change fields of a row. Their names come from the code, never from input."""
    assignments = ", ".join(f"{name} = ?" for name in fields)
    database.execute(f"UPDATE snapshots SET {assignments} WHERE number = ?", (*fields.values(), number))


def delete(database: Connection, number: int) -> None:
    """Delete a row."""
    database.execute("DELETE FROM snapshots WHERE number = ?", (number,))


def as_json(labels: Mapping[str, str]) -> str:
    """Return labels as they are recorded."""
    return json.dumps(dict(labels), ensure_ascii=False, separators=(",", ":"), sort_keys=True)


class UnreadableRow(ValueError):
    """A row has values that this package has never written."""


def _in_words(key: str, state: str) -> str:
    doing = {CREATING: ", which is being made", REMOVING: ", which is being removed"}
    return f"snapshot {key!r}{doing.get(state, '')}"


def _first(database: Connection, condition: str, *values: Any) -> SnapshotRow | None:
    return next(_rows(database, f"{condition} LIMIT 1", *values), None)


def _rows(database: Connection, condition: str, *values: Any) -> Iterator[SnapshotRow]:
    for row in database.execute(f"{_SELECT} {condition}", values).fetchall():
        yield _row(row)


def _row(values: tuple[Any, ...]) -> SnapshotRow:
    number, key, parent, parent_key, parent_driver_id, parent_chain, *own = values
    kind, state, driver_id, chain, labels, created, updated, size, inodes, depth = own
    damaged = UnreadableRow(f"the record of snapshot {str(key)[:300]!r}, number {number}, is damaged")
    try:
        named = json.loads(labels)
        chain_id = None if chain is None else ChainID(chain)
        parent_chain_id = None if parent_chain is None else ChainID(parent_chain)
        right = (
            isinstance(key, str) and kind in (VIEW, ACTIVE, COMMITTED) and state in (CREATING, READY, REMOVING),
            _DRIVER_ID.fullmatch(driver_id),
            isinstance(named, dict) and all(isinstance(value, str) for value in named.values()),
            parent is None or isinstance(parent_key, str),
            all(type(time) is int and 0 <= time < _LAST for time in (created, updated)) and type(depth) is int,
            all(whole is None or type(whole) is int for whole in (size, inodes)),
        )
    except (ValueError, TypeError, RecursionError) as error:
        raise damaged from error
    if not all(right):
        raise damaged
    return SnapshotRow(
        number,
        key,
        parent,
        parent_key or "",
        parent_driver_id or "",
        parent_chain_id,
        kind,
        state,
        driver_id,
        chain_id,
        named,
        created,
        updated,
        size,
        inodes,
        depth,
    )
