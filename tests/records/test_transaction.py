"""Transactions and their locks, while other processes look at or remove the same directories."""

from __future__ import annotations

import fcntl
import os
import threading
from itertools import count, takewhile
from pathlib import Path

import pytest

from layerstore_core.base.digests import DiffID, chain_id
from layerstore_core.records.layer_record import LayerRecord, MountRecord, read_driver_id
from layerstore_core.records.layerdb import LayerDB
from layerstore_core.records.transaction import Transaction, WriteSet, stale_transactions
from tests.store.faults import FaultySystem


def test_gc_between_creation_and_lock_of_a_transaction_does_no_harm(tmp_path, monkeypatch):
    """The directory of a transaction is created before it is locked: until then `gc` may take it as stale."""
    real = Path.chmod
    taken = []

    def collected(path, mode):
        if not taken and path.name.startswith("write-set-"):
            taken.append(path)
            path.rmdir()
        real(path, mode)

    monkeypatch.setattr(Path, "chmod", collected)
    with WriteSet(tmp_path / "db", durable=False) as files:
        assert files.path.is_dir()
        assert files.path not in taken


def test_a_fifo_in_place_of_a_file_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "size")
    assert read_driver_id(tmp_path / "size") is None


@pytest.mark.parametrize("becomes", ["removed", "renamed"])
def test_a_lock_counts_only_if_the_directory_still_has_its_name(tmp_path, monkeypatch, becomes):
    """Another process may remove or rename a directory between opening and locking it."""
    real = fcntl.flock
    taken = []

    def locked_late(fd, operation):
        if not taken:
            path = Path(os.readlink(f"/proc/self/fd/{fd}"))
            taken.append(path)
            if becomes == "removed":
                path.rmdir()
            else:
                path.rename(path.with_name("elsewhere"))
        real(fd, operation)

    monkeypatch.setattr(fcntl, "flock", locked_late)
    with WriteSet(tmp_path / "db", durable=False) as files:
        assert files.path not in taken
        assert files.path.is_dir()
    scratch = tmp_path / "db" / "tmp"
    if becomes == "renamed":
        (scratch / "elsewhere").rmdir()
    (scratch / "write-set-stale").mkdir()
    taken.clear()
    assert stale_transactions(tmp_path / "db") == []


def test_a_process_that_only_looks_at_a_transaction_is_waited_for(tmp_path, monkeypatch):
    """A check locks each directory that it finds for a moment; this does not make the transaction stale."""
    real = Path.chmod
    looking = []

    def looked_at(path, mode):
        real(path, mode)
        if path.name.startswith("write-set-") and not looking:
            looking.append(os.open(path, os.O_RDONLY | os.O_DIRECTORY))
            fcntl.flock(looking[0], fcntl.LOCK_EX)
            threading.Timer(0.05, os.close, looking).start()

    monkeypatch.setattr(Path, "chmod", looked_at)
    with WriteSet(tmp_path / "db", durable=False) as files:
        assert os.listdir(tmp_path / "db" / "tmp") == [files.path.name]


def test_the_driver_s_id_is_on_disk_before_the_driver_acts(tmp_path, monkeypatch):
    flushed = []
    real = os.fsync

    def noted(fd):
        flushed.append(Path(os.readlink(f"/proc/self/fd/{fd}")))
        real(fd)

    monkeypatch.setattr(os, "fsync", noted)
    with Transaction(tmp_path / "db", "a" * 64, durable=True) as transaction:
        assert {transaction.path / "cache-id", transaction.path, transaction.path.parent} <= set(flushed)
        assert flushed.index(transaction.path / "cache-id") < flushed.index(transaction.path)


def write_layer(db):
    record = LayerRecord(chain_id(DiffID.of(b"tar"), None), DiffID.of(b"tar"), 3, "1" * 64)
    with db.begin(record.cache_id) as transaction:
        transaction.write(record)
        transaction.open_tar_split().close()
        transaction.commit(record.chain_id)


def write_and_remove_mount(db):
    with db.begin_mount(MountRecord("work", "2" * 64)) as files:
        files.publish(db.mount_path("work"))
    with db.begin_mount_deletion("work") as files:
        files.cancel()


@pytest.mark.parametrize("work", [write_layer, write_and_remove_mount])
def test_no_error_names_a_temporary_file(tmp_path, work):
    """The name would say nothing to a user, and the file is gone when the message is read."""

    def error_at(step):
        with pytest.MonkeyPatch.context() as patch:
            FaultySystem(patch, step)
            try:
                work(LayerDB(tmp_path / str(step)))
            except OSError as error:
                return error
        return None

    errors = list(takewhile(lambda error: error is not None, map(error_at, count())))
    assert len(errors) > 10
    for step, error in enumerate(errors):
        assert str(error.filename).startswith(str(tmp_path / str(step)))
        assert "write-set" not in f"{error.filename} {error.filename2} {getattr(error, '__notes__', '')}"
