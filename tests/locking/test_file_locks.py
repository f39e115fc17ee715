"""Locks of open files: they exclude other open files, by range, and end with the file."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from layerstore_core.locking.file_locks import is_locked, set_lock, try_lock, unlock


def test_one_open_file_has_an_exclusive_lock(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("w") as one, path.open("r+") as other:
        assert try_lock(one.fileno())
        assert try_lock(one.fileno())
        assert (is_locked(one.fileno()), is_locked(other.fileno())) == (False, True)
        assert not try_lock(other.fileno())
        with pytest.raises(OSError, match="unavailable"):
            set_lock(other.fileno(), fcntl.F_WRLCK)
        unlock(one.fileno())
        assert try_lock(other.fileno())


def test_a_lock_ends_when_the_file_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("w") as other:
        with path.open("r+") as one:
            assert try_lock(one.fileno())
        assert not is_locked(other.fileno())


def test_ranges_and_shared_locks(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("w+") as one, path.open("r+") as other:
        assert try_lock(one.fileno(), start=10, length=1)
        assert not is_locked(other.fileno(), start=11, length=1)
        assert is_locked(other.fileno(), start=10)
        assert try_lock(one.fileno(), fcntl.F_RDLCK, start=10, length=1)
        assert try_lock(other.fileno(), fcntl.F_RDLCK, start=10, length=1)
        assert not try_lock(other.fileno(), start=10, length=1)
