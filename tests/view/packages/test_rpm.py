"""The database of rpm: one that rpm has made, headers by hand, and hostile databases."""

from __future__ import annotations

import shutil
import sqlite3
import struct
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from functools import cache
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerstore_core.view.packages import read_packages
from layerstore_core.view.packages.package import Package
from layerstore_core.view.packages.rpm import package_of
from tests.across.chains import d, f, sym
from tests.view.conftest import view_of

PATH = b"usr/lib/sysimage/rpm/rpmdb.sqlite"
TABLE = "CREATE TABLE 'Packages' (hnum INTEGER PRIMARY KEY AUTOINCREMENT,blob BLOB NOT NULL)"
NAME, VERSION, RELEASE, EPOCH, SIZE, ARCHITECTURE, LONG_SIZE = 1000, 1001, 1002, 1003, 1009, 1022, 5009
SPEC = """Name: tiny
Version: 1.2
Release: 3
Epoch: 4
Summary: A package for a test
License: MIT
BuildArch: noarch
%description
%install
mkdir -p %{buildroot}/opt
head -c 12345 /dev/zero >%{buildroot}/opt/tiny
%files
/opt/tiny
"""


def header(*entries: tuple[int, int | str], count: int | None = None, size: int | None = None) -> bytes:
    """Return a header of numbers and strings, as the format of rpm's documentation has it."""
    index, data = b"", b""
    for tag, value in entries:
        if isinstance(value, str):
            kind, payload = 6, value.encode() + b"\0"
        else:
            kind, payload = (5, struct.pack(">Q", value)) if tag == LONG_SIZE else (4, struct.pack(">I", value))
        index += struct.pack(">IIII", tag, kind, len(data), 1)
        data += payload
    numbers = len(entries) if count is None else count, len(data) if size is None else size
    return struct.pack(">II", *numbers) + index + data


def database(tmp_path: Path, statements: Sequence[str], rows: Sequence[object] = ()) -> bytes:
    path = tmp_path / "rpmdb.sqlite"
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as made:
        made.execute("PRAGMA synchronous = OFF")
        for statement in statements:
            made.execute(statement)
        if rows:
            made.executemany("INSERT INTO Packages (blob) VALUES (?)", [(row,) for row in rows])
        made.commit()
    return path.read_bytes()


def packages(data: bytes, path: bytes = PATH) -> tuple[Package, ...]:
    return read_packages(view_of([f(path, data)]))


@pytest.mark.skipif(shutil.which("rpmbuild") is None, reason="rpm is not installed")
def test_a_database_that_rpm_has_made_is_read(tmp_path: Path) -> None:
    (tmp_path / "tiny.spec").write_text(SPEC)

    def run(*command: str | Path) -> None:
        define = ["--define", "_db_backend sqlite", "--define", f"_topdir {tmp_path}"]
        subprocess.run([*command, *define, "--dbpath", tmp_path / "db"], cwd=tmp_path, check=True, capture_output=True)

    run("rpmbuild", "-bb", "tiny.spec")
    run("rpm", "--initdb")
    run("rpm", "--justdb", "--nodeps", "-i", tmp_path / "RPMS" / "noarch" / "tiny-1.2-3.noarch.rpm")
    data = (tmp_path / "db" / "rpmdb.sqlite").read_bytes()
    assert packages(data) == (Package("rpm", "tiny", "4:1.2-3", "noarch", 12345),)


def test_packages_are_read_from_either_path(tmp_path: Path) -> None:
    bash = header((NAME, "bash"), (VERSION, "5.2"), (RELEASE, "1.fc40"), (SIZE, 8_000_000), (ARCHITECTURE, "x86_64"))
    big = header((NAME, "big"), (VERSION, "1"), (RELEASE, "2"), (LONG_SIZE, 5 << 32), (EPOCH, 3))
    key = header((NAME, "gpg-pubkey"), (VERSION, "a"), (RELEASE, "b"))
    data = database(tmp_path, [TABLE], [bash, key, b"damaged", big, 17, "text"])
    expected = (Package("rpm", "bash", "5.2-1.fc40", "x86_64", 8_000_000), Package("rpm", "big", "3:1-2", "", 5 << 32))
    assert packages(data) == packages(data, b"var/lib/rpm/rpmdb.sqlite") == expected
    both = [d(b"usr/lib/sysimage/rpm"), sym(b"var/lib/rpm", b"../../usr/lib/sysimage/rpm"), f(PATH, data)]
    assert read_packages(view_of(both)) == expected


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"\0" * 7,
        b"\xff" * 8,
        header((NAME, "a"), count=2),
        header((NAME, "a"), size=3),
        header((NAME, "a"), count=1 << 31),
        header((NAME, "a"))[:-1],
        header((NAME, "")),
        header((NAME, 17)),
        header((VERSION, "1")),
        struct.pack(">IIIIII", 1, 2, NAME, 6, 99, 1) + b"a\0",
    ],
)
def test_a_broken_header_is_left_out(damaged: bytes) -> None:
    assert package_of(damaged) is None


def test_a_header_whose_fields_have_other_types_is_read_as_far_as_possible() -> None:
    numbers = struct.pack(">II", 2, 4) + struct.pack(">IIII", NAME, 6, 0, 1) + struct.pack(">IIII", SIZE, 4, 2, 1)
    assert package_of(numbers + b"a\0\0\0") == Package("rpm", "a", "-", "", 0)
    endless = struct.pack(">II", 1, 9000) + struct.pack(">IIII", NAME, 6, 0, 1) + b"a" * 9000
    found = package_of(endless)
    assert found is not None
    assert len(found.name) == 4096


#: One step of SQLite's machine that takes hours.
ENDLESS = "instr(zeroblob(16000000), zeroblob(8000000) || 1)"
HOSTILE = {
    "a view that never ends": [
        "CREATE VIEW Packages AS WITH RECURSIVE n(blob) AS (VALUES (1) UNION ALL SELECT 1 FROM n) SELECT * FROM n"
    ],
    "a view with one step that takes hours": [f"CREATE VIEW Packages AS SELECT {ENDLESS} AS blob"],
    "a column that is computed": [
        "CREATE TABLE Packages (hnum INTEGER)",
        "INSERT INTO Packages (hnum) VALUES (1)",
        "PRAGMA writable_schema = ON",
        f"UPDATE sqlite_master SET sql = 'CREATE TABLE Packages (hnum INTEGER, blob AS ({ENDLESS}))'",
    ],
    "a virtual table": ["CREATE VIRTUAL TABLE Packages USING fts5(blob)"],
    "another table": ["CREATE TABLE Packages (a INTEGER)"],
    "no table": ["CREATE TABLE Others (a INTEGER)"],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_schema_is_refused(tmp_path: Path, name: str) -> None:
    data = database(tmp_path, HOSTILE[name])
    started = time.process_time()
    assert packages(data) == ()
    assert time.process_time() - started < 5


def test_a_schema_of_very_many_tables_is_given_up(tmp_path: Path) -> None:
    good = header((NAME, "a"), (VERSION, "1"), (RELEASE, "1"))
    data = database(tmp_path, [TABLE, *(f"CREATE TABLE t{number} (a)" for number in range(200))], [good])
    assert len(packages(data)) == 1
    with (
        mock.patch("layerstore_core.view.packages.rpm._MAX_STEPS", 300),
        mock.patch("layerstore_core.view.packages.rpm._STEPS_AT_ONCE", 100),
    ):
        assert packages(data) == ()


def test_rows_of_more_bytes_than_a_database_has_are_not_read(tmp_path: Path) -> None:
    good = [header((NAME, f"a{number}"), (VERSION, "1" * 90), (RELEASE, "1")) for number in range(9)]
    data = database(tmp_path, [TABLE], good)
    with mock.patch("layerstore_core.view.packages.rpm.MAX_DATABASE", 3 * len(good[0]) - 1):
        assert len(packages(data)) == 3
    with mock.patch("layerstore_core.view.packages.rpm.MAX_PACKAGES", 4):
        assert len(packages(data)) == 4


@given(data=st.data())
def test_any_header_is_read_without_an_error(data: st.DataObject) -> None:
    entries = st.tuples(
        st.sampled_from([NAME, VERSION, SIZE, EPOCH, LONG_SIZE]), st.integers(0, 99) | st.text(max_size=3)
    )
    good = bytearray(header(*data.draw(st.lists(entries, max_size=5))))
    for place, value in data.draw(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=6)):
        if place < len(good):
            good[place] = value
    found = package_of(bytes(good))
    assert found is None or (found.name and found.size >= 0)
    package_of(data.draw(st.binary(max_size=64)))


@cache
def sound() -> bytes:
    rows = [header((NAME, f"a{number}"), (VERSION, "1"), (RELEASE, "1")) + bytes(900 * number) for number in range(9)]
    with tempfile.TemporaryDirectory() as directory:
        return database(Path(directory), [TABLE, "CREATE INDEX x ON Packages (blob)"], rows)


@given(changes=st.lists(st.tuples(st.integers(0, 1 << 16), st.binary(min_size=1, max_size=8)), max_size=8))
def test_a_damaged_database_is_read_without_an_error(changes: list[tuple[int, bytes]]) -> None:
    damaged = bytearray(sound())
    for place, value in changes:
        at = place % len(damaged)
        damaged[at : at + len(value)] = value
    for one in packages(bytes(damaged)):
        assert one.name
