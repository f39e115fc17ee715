"""The database of rpm, in SQLite: Fedora, RHEL from 9 on, openSUSE.

The table "Packages" has the header of each package. The format of a header is that of rpm's documentation, "RPM V4
Package format": two numbers, an index of entries of 16 bytes each, and the data; all numbers are big-endian. The older
databases, in Berkeley DB and NDB, are not read.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import struct
import tempfile
from collections.abc import Iterator
from contextlib import closing
from typing import Final

from layerstore_core.view.packages.package import MAX_DATABASE, MAX_PACKAGES, MAX_TEXT, Package, open_first
from layerstore_core.view.tree import TreeView

_PATHS: Final = (b"usr/lib/sysimage/rpm/rpmdb.sqlite", b"var/lib/rpm/rpmdb.sqlite")
_NAME: Final = 1000
_VERSION: Final = 1001
_RELEASE: Final = 1002
_EPOCH: Final = 1003
_SIZE: Final = 1009
_ARCHITECTURE: Final = 1022
_LONG_SIZE: Final = 5009
_WANTED: Final = frozenset((_NAME, _VERSION, _RELEASE, _EPOCH, _SIZE, _ARCHITECTURE, _LONG_SIZE))
_INT32: Final = 4
_INT64: Final = 5
_STRING: Final = 6
#: The most entries and bytes of a header that rpm itself accepts are some ten times larger.
_MAX_ENTRIES: Final = 1 << 16
_MAX_HEADER: Final = 32 << 20
#: The most bytes of a statement that makes a table, and steps of SQLite's machine: some ten for each package.
_MAX_STATEMENT: Final = 1 << 16
_MAX_STEPS: Final = 5_000_000
_STEPS_AT_ONCE: Final = 10_000
#: The statement that has made the table. A view, or a column that is computed, could take any time: both need
#: parentheses.
_TABLE: Final = rb"(?i)CREATE TABLE ['\"`]?Packages['\"`]? ?\([\w\s,]*\)"
#: Keys of packages' signatures, which have no files.
_KEYS: Final = "gpg-pubkey"


def read_rpm(view: TreeView) -> Iterator[Package]:
    """Yield the packages that rpm has installed.

    Raises:
        IntegrityError: a layer is damaged.
    """
    file = open_first(view, _PATHS)
    if file is None:
        return
    with file, tempfile.NamedTemporaryFile(prefix="layerstore-") as copy:
        shutil.copyfileobj(file, copy)
        copy.flush()
        yield from _read_database(copy.name)


def _read_database(path: str) -> Iterator[Package]:
    """Yield the packages of a database. One that is damaged ends there."""
    uri = f"file:{os.path.abspath(path)}?mode=ro&immutable=1"
    try:
        with closing(sqlite3.connect(uri, uri=True)) as database:
            database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_HEADER)
            database.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, _MAX_STATEMENT)
            left = iter(range(_MAX_STEPS // _STEPS_AT_ONCE))
            database.set_progress_handler(lambda: next(left, None) is None, _STEPS_AT_ONCE)
            database.text_factory = bytes  # text of a hostile file need not be UTF-8
            database.execute("PRAGMA trusted_schema = OFF")
            made_by = database.execute("SELECT type, sql FROM sqlite_master WHERE name = 'Packages'").fetchall()
            if len(made_by) != 1 or made_by[0][0] != b"table" or not re.fullmatch(_TABLE, made_by[0][1] or b""):
                return
            # In a damaged file the same page may be part of many rows.
            size = 0
            for (blob,) in database.execute("SELECT blob FROM Packages LIMIT ?", (MAX_PACKAGES,)):
                package = package_of(blob) if isinstance(blob, bytes) else None
                if package is not None:
                    yield package
                size += len(blob) if isinstance(blob, bytes) else 0
                if size > MAX_DATABASE:
                    return
    except sqlite3.Error:
        return


def package_of(header: bytes) -> Package | None:
    """Return the package that a header describes; `None` if it is damaged, or is that of a key.

    Args:
        header: a header as the database has it, without the magic bytes of a package's file.
    """
    if len(header) < 8:
        return None
    count, size = struct.unpack_from(">II", header)
    start = 8 + 16 * count
    if count > _MAX_ENTRIES or start + size > len(header):
        return None
    data = header[start : start + size]
    values: dict[int, str | int] = {}
    for tag, kind, offset, _ in struct.iter_unpack(">IIII", header[8:start]):
        if tag not in _WANTED or offset >= size:
            continue
        if kind == _STRING:
            end = data.find(b"\0", offset, offset + MAX_TEXT)
            values[tag] = data[offset : end if end >= 0 else offset + MAX_TEXT].decode(errors="replace")
        elif kind == _INT32 and offset + 4 <= size:
            (values[tag],) = struct.unpack_from(">I", data, offset)
        elif kind == _INT64 and offset + 8 <= size:
            (values[tag],) = struct.unpack_from(">Q", data, offset)
    name = values.get(_NAME)
    if not isinstance(name, str) or not name or name == _KEYS:
        return None
    version = f"{values.get(_VERSION, '')}-{values.get(_RELEASE, '')}"
    epoch = values.get(_EPOCH, 0)
    taken = values.get(_LONG_SIZE, values.get(_SIZE, 0))
    return Package(
        "rpm",
        name,
        f"{epoch}:{version}" if epoch else version,
        str(values.get(_ARCHITECTURE, "")),
        taken if isinstance(taken, int) else 0,
    )
