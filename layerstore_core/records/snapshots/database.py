"""The database of one driver's snapshots: SQLite, `<root>/layerstore/snapshots/<driver>/snapshots.db`.

It is made whole, under another name, and then renamed: a file of this name has all tables, or is damaged. It is in WAL
mode, so that readers in other processes and the one writer do not wait for each other. What is written survives the end
of the process; `SnapshotJournal` says what survives a power cut.

Nothing else may open the file: SQLite's locks are POSIX locks, and a process loses these with the first descriptor of
the file that it closes (sqlite.org/howtocorrupt.html, 2.2).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from layerstore_core.base import inside
from layerstore_core.base.atomic import replacing
from layerstore_core.errors import BadRecord, LayerStoreError, while_doing
from layerstore_core.records.snapshots.rows import UnreadableRow

if TYPE_CHECKING:
    from sqlite3 import Connection
    from sqlite3 import Error as DatabaseError

#: In the header of the file: it says whose database this is ("LSsn").
_APPLICATION: Final = 0x4C53736E
_VERSION: Final = 1
#: How long to wait, in seconds, for another process, which can only be one that recovers the log of a killed writer.
_PATIENCE: Final = 60
#: How often a database is copied that is being changed meanwhile.
_TRIES: Final = 10

#: The longest row, in bytes: a longer one is refused before it is in memory. The labels of a snapshot have at most
#: 1 MiB, which JSON may make six times as long.
_LONGEST: Final = 16 << 20

#: A key is unique among the snapshots that exist; those that are being removed have lost theirs. `parent` is the number
#: of another snapshot. `driver_id` is the driver's layer: empty for a view without one of its own.
_SCHEMA: Final = (
    """CREATE TABLE snapshots (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL,
    parent INTEGER,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    driver_id TEXT NOT NULL,
    chain_id TEXT,
    labels TEXT NOT NULL,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    size INTEGER,
    inodes INTEGER,
    depth INTEGER NOT NULL
)""",
    "CREATE UNIQUE INDEX snapshots_by_key ON snapshots (key) WHERE state <> 'removing'",
    "CREATE INDEX snapshots_by_parent ON snapshots (parent)",
    "CREATE INDEX snapshots_by_chain ON snapshots (chain_id) WHERE chain_id IS NOT NULL",
    "CREATE INDEX snapshots_unready ON snapshots (state) WHERE state <> 'ready'",
)

#: SQLite's own table for AUTOINCREMENT. Its name alone proves nothing: a trigger can have it, too.
_COUNTER: Final = "CREATE TABLE sqlite_sequence(name,seq)"


def create_database(path: Path, *, durable: bool, content: Iterable[tuple[Any, ...]] = ()) -> None:
    """Create a database, whole or not at all.

    Args:
        path: where; the directory is made.
        durable: whether it must be on disk when the call returns.
        content: its rows, as `raw_rows` returns them.

    Raises:
        BadRecord: another user may put links there.
        OSError: it cannot be written.
    """
    _require_own(path)
    with (
        replacing(path, durable=durable) as partial,
        translating_errors(path),
        closing(_connect(partial)) as database,
    ):
        # WAL mode comes last, and the file header keeps it: the file is complete and on disk when it gets its name, and
        # never has a rollback journal, which a reader could not apply after a power cut.
        database.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA:
            database.execute(statement)
        for values in content:
            database.execute(f"INSERT INTO snapshots VALUES ({', '.join('?' * len(values))})", values)
        database.execute(f"PRAGMA application_id = {_APPLICATION}")
        database.execute(f"PRAGMA user_version = {_VERSION}")
        database.execute("COMMIT")
        database.execute("PRAGMA journal_mode = WAL")


def raw_rows(path: Path) -> list[tuple[Any, ...]]:
    """Return all rows of a database whose indexes may be damaged, and write its log back; errors as `open_database`."""
    with translating_errors(path), closing(open_database(path)) as database:
        return database.execute("SELECT * FROM snapshots NOT INDEXED ORDER BY number").fetchall()


def open_database(path: Path) -> Connection:
    """Open an existing database for writing.

    Returns:
        The connection, for any thread, without transactions that begin by themselves.

    Raises:
        BadRecord: it is damaged, or not one of ours, or another user may put links there.
        OSError: it does not exist, or cannot be opened.
    """
    _check_files(path)
    _require_own(path)
    with translating_errors(path):
        database = _connect(path)
        try:
            _check(database, path)
            database.execute("PRAGMA journal_mode = WAL")
        except BaseException:
            database.close()
            raise
        return database


@contextmanager
def reading_database(path: Path) -> Iterator[Connection]:
    """Open an existing database for reading, for a block; quick, and possible while another process writes.

    Errors of the block are those of `open_database`, too.
    """
    _check_files(path)
    with translating_errors(path), _connected_for_reading(path) as database:
        yield database


@contextmanager
def _connected_for_reading(path: Path) -> Iterator[Connection]:
    import sqlite3

    log, journal = (path.with_name(f"{path.name}{end}") for end in ("-wal", "-journal"))
    if _other_user(path) is None:
        with closing(_connect(path, "mode=ro")) as database:
            try:
                _check(database, path)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
                    raise
            else:
                yield database
                return
        # On a root that cannot be written SQLite cannot make the file that readers share.
        if not _size(log) and not _size(journal):
            with closing(_connect(path, "mode=ro&immutable=1")) as database:
                _check(database, path)
                yield database
            return
    with _copied(path, log, journal) as copy, closing(_connect(copy)) as database:
        _check(database, path)
        yield database


@contextmanager
def _copied(path: Path, *logs: Path) -> Iterator[Path]:
    """Copy a database and its logs into a temporary directory for a block, without following links.

    SQLite follows links, and has to write to read both.
    """
    import shutil
    import tempfile

    def state() -> list[tuple[int, int]]:
        found = [inside.status(file) for file in (path, *logs) if inside.exists(file)]
        return [(status.st_mtime_ns, status.st_size) for status in found]

    for _ in range(_TRIES):
        with tempfile.TemporaryDirectory(prefix="layerstore-") as directory:
            before = state()
            for file in (path, *logs):
                if _size(file):
                    with open(file, "rb", opener=inside.opener) as source, open(Path(directory, file.name), "xb") as to:
                        shutil.copyfileobj(source, to)
            if state() == before:  # otherwise a writer may have changed one between the two
                yield Path(directory, path.name)
                return
    raise OSError(errno.EAGAIN, "the database of snapshots is being changed all the time; try again", os.fspath(path))


def _size(file: Path) -> int:
    return inside.status(file).st_size if inside.exists(file) else 0


def _require_own(path: Path) -> None:
    if (other := _other_user(path)) is not None:
        raise BadRecord(
            other[0],
            f"it belongs to user {other[1]}, and this is user {os.geteuid()}: SQLite follows links, which that user "
            "can put there at any moment; work as that user, or change the owner of the directory",
        )


def _other_user(path: Path) -> tuple[Path, int] | None:
    """Return a directory from the root down to the database that another user owns, and the user; `None` for none.

    That user could put a link in the place of a file while SQLite opens it, which follows links.
    """
    for directory in reversed(path.parents[:4]):
        if (owner := inside.status(directory).st_uid) != os.geteuid():
            return directory, owner
    return None


def _connect(path: Path, options: str = "") -> Connection:
    import sqlite3  # lazy: few stores have snapshots

    name = os.fsencode(path)
    for special in b"%?#":
        name = name.replace(bytes((special,)), b"%%%02x" % special)
    database = sqlite3.connect(
        os.fsdecode(b"file:" + name + b"?" + options.encode()),
        timeout=_PATIENCE,
        isolation_level=None,
        check_same_thread=False,
        uri=True,
    )
    try:
        database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST)
        database.execute("PRAGMA trusted_schema = OFF")
        database.execute("PRAGMA cell_size_check = ON")
    except BaseException:
        database.close()
        raise
    return database


def _check_files(path: Path) -> None:
    """Refuse files that are not regular files of one name. SQLite follows links, and the root may be another user's."""
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm", f"{path.name}-journal"):
        file = path.with_name(name)
        try:
            status = inside.status(file)
        except FileNotFoundError:
            if file == path:
                raise
            continue
        if not stat.S_ISREG(status.st_mode):
            raise BadRecord(file, "it is no regular file, which a database and its log have to be")
        if status.st_nlink != 1:
            raise BadRecord(file, "it has other names, which may be outside of the store's root; remove those")


def _check(database: Connection, path: Path) -> None:
    """Refuse a database that is not one of ours: one with triggers would do more than statements say."""
    (application,) = database.execute("PRAGMA application_id").fetchone()
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if application != _APPLICATION:
        raise BadRecord(path, "it is no database of snapshots; restore it from a backup")
    if version != _VERSION:
        raise LayerStoreError(
            f"{path}: the database of snapshots has version {version}, and this layerstore knows {_VERSION}: use a "
            "newer layerstore"
        )
    found = {sql for (sql,) in database.execute("SELECT sql FROM sqlite_master")}
    if found != {*_SCHEMA, _COUNTER}:
        raise BadRecord(path, "its tables are not those of snapshots; restore it from a backup")


@contextmanager
def translating_errors(path: Path) -> Iterator[None]:
    """Raise SQLite's errors in a block as `BadRecord` where the database is damaged, and otherwise as `OSError`."""
    import sqlite3

    try:
        with while_doing(f"using the database of snapshots {path}"):
            yield
    except sqlite3.Error as error:
        raise _translated(path, error) from error
    except UnreadableRow as error:
        raise BadRecord(path, f"{error}; restore it from a backup") from error


def _translated(path: Path, error: DatabaseError) -> Exception:
    import sqlite3

    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    numbers = {
        sqlite3.SQLITE_FULL: errno.ENOSPC,
        sqlite3.SQLITE_IOERR: errno.EIO,
        sqlite3.SQLITE_READONLY: errno.EROFS,
        sqlite3.SQLITE_PERM: errno.EACCES,
        sqlite3.SQLITE_CANTOPEN: errno.EACCES,
        sqlite3.SQLITE_NOMEM: errno.ENOMEM,
        sqlite3.SQLITE_BUSY: errno.EAGAIN,
        sqlite3.SQLITE_LOCKED: errno.EAGAIN,
    }
    if code in numbers:
        return OSError(numbers[code], f"the database of snapshots cannot be used: {error}", os.fspath(path))
    return BadRecord(path, f"the database of snapshots is damaged: {error}; restore it from a backup")
