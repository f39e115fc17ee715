"""What other parts of the store read about snapshots: the driver's layers that they need, and those of the store."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from layerstore_core.base import inside
from layerstore_core.base.digests import ChainID
from layerstore_core.errors import BadRecord, LayerStoreError
from layerstore_core.log import logger
from layerstore_core.records.own_state import state_directory

if TYPE_CHECKING:
    from sqlite3 import Connection

    from layerstore_core.records.snapshots.rows import SnapshotRow

_T = TypeVar("_T")

#: The end of the driver's IDs of snapshots' own layers. It tells them from layers of the store also where the database
#: is missing: then nothing else would say that they are no strays.
SUFFIX: Final = "-snapshot"


class SnapshotRecords:
    """The snapshots of one driver, for reading. Any process may read them, also while a server makes snapshots.

    Args:
        root: the store's directory.
        driver: the driver's name on disk.

    Attributes:
        path: the database.
    """

    def __init__(self, root: Path, driver: str) -> None:
        self.path: Final = state_directory(root, "snapshots", driver) / "snapshots.db"

    def exist(self) -> bool:
        """Return whether there is a database. Costs one look for a file."""
        return inside.exists(self.path)

    def rows(self) -> list[SnapshotRow]:
        """Return all rows, in all states, parents before their children; none where there is no database.

        Raises:
            BadRecord, OSError: the database cannot be read.
        """

        def query(database: Connection) -> list[SnapshotRow]:
            from layerstore_core.records.snapshots.rows import all_rows

            return all_rows(database)

        return self._read(query, list)

    def ready(self) -> list[SnapshotRow]:
        """Return all snapshots that exist, parents before their children; none, with a warning, if they cannot be read.

        This is for lists: what is read to delete or to keep something must not take this for an answer.
        """
        try:
            return [row for row in self.rows() if row.state == "ready"]
        except (LayerStoreError, OSError) as error:
            logger.warning("the snapshots are left out: {}; `layerstore check` says more", error)
            return []

    def row(self, number: int) -> SnapshotRow | None:
        """Return one row by its number, `None` where there is none; errors as `rows`."""

        def query(database: Connection) -> SnapshotRow | None:
            from layerstore_core.records.snapshots.rows import find_number

            return find_number(database, number)

        return self._read(query, lambda: None)

    def check(self) -> None:
        """Read the whole database, and check that it is consistent.

        Raises:
            BadRecord, OSError: it is not, or cannot be read.
        """

        def query(database: Connection) -> list[str]:
            from layerstore_core.records.snapshots.rows import all_rows

            all_rows(database)
            return [str(problem) for (problem,) in database.execute("PRAGMA integrity_check(10)")]

        problems = self._read(query, lambda: ["ok"])
        if problems != ["ok"]:
            raise BadRecord(self.path, f"the database of snapshots is damaged: {'; '.join(problems)}")

    def driver_ids(self) -> set[str]:
        """Return the driver's IDs of all layers that snapshots have, or may have; errors as `rows`."""

        def query(database: Connection) -> set[str]:
            from layerstore_core.records.snapshots.rows import driver_ids

            return driver_ids(database)

        return self._read(query, set)

    def lost(self, layer_ids: Collection[str]) -> BadRecord | None:
        """Return the error for a database that is missing though the driver has layers of snapshots; else `None`.

        Args:
            layer_ids: the layers that the driver has.
        """
        count = sum(layer_id.endswith(SUFFIX) for layer_id in layer_ids)
        if not count or self.exist():
            return None
        return BadRecord(
            self.path,
            f"the database of snapshots is missing, and the driver has {count} layers of snapshots; restore it from a "
            "backup, or give them up with `layerstore check --repair --force`",
        )

    def references_to(self, chain: ChainID) -> list[str]:
        """Return the snapshots that are a layer of the store, in words; see `ReferenceSource`."""

        def query(database: Connection) -> list[str]:
            from layerstore_core.records.snapshots.rows import users_of

            return users_of(database, chain)

        try:
            return self._read(query, list)
        except (BadRecord, OSError):
            return []  # `unreadable` reports it

    def all_references(self) -> Collection[ChainID]:
        """Return all layers of the store that are snapshots; see `ReferenceSource`; errors as `rows`."""

        def query(database: Connection) -> set[ChainID]:
            from layerstore_core.records.snapshots.rows import chains

            return chains(database)

        return self._read(query, set)

    def unreadable(self) -> list[BadRecord]:
        """Return the database if it cannot be read: it may refer to any layer."""
        try:
            self.all_references()
        except BadRecord as error:
            return [error]
        except OSError as error:
            return [BadRecord(self.path, f"the database of snapshots cannot be read: {error.strerror}")]
        return []

    def _read(self, query: Callable[[Connection], _T], without: Callable[[], _T]) -> _T:
        if not self.exist():
            return without()
        from layerstore_core.records.snapshots.database import reading_database  # lazy: few stores have snapshots

        try:
            with reading_database(self.path) as database:
                return query(database)
        except FileNotFoundError:
            return without()
