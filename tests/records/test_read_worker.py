"""Reading records with a worker process: the result is the same as without it, also when the worker fails."""

from __future__ import annotations

import os
import select

import pytest

from layerstore_core import BadRecord, DiffID, chain_id
from layerstore_core.records import layerdb, read_worker
from layerstore_core.records.fields import CHUNK
from layerstore_core.records.layer_record import LayerRecord
from layerstore_core.records.layerdb import LayerDB
from layerstore_core.workers.process import WorkerProcess

COUNT = 5 * CHUNK + 7


def write(directory, record):
    """Write a record into a new directory."""
    directory.mkdir(parents=True)
    record.write(directory)


@pytest.fixture
def db(tmp_path):
    """Return a directory with several chunks of records: chains of three, some with descriptors, some damaged."""
    db = LayerDB(tmp_path / "layerdb")
    parent = None
    for number in range(COUNT):
        diff_id = DiffID.of(b"%d" % number)
        parent = parent if number % 3 else None
        name = chain_id(diff_id, parent)
        descriptor = {"digest": "x", "annotations": {"a": "b" * number}} if number % 5 == 0 else None
        write(
            db.layer_path(name),
            LayerRecord(name, diff_id, number << 40 if number < 9 else number, "c" * 64, parent, descriptor),
        )
        parent = name
    damaged = db.list_layers()[::10]
    for number, name in enumerate(damaged):
        path = db.layer_path(name)
        match number % 5:
            case 0:
                (path / "size").write_text("none")
            case 1:
                (path / "diff").unlink()
            case 2:
                (path / "cache-id").write_text("..")
            case 3:
                (path / "descriptor.json").write_text("[]")
            case 4:
                (path / "os").write_text("windows")
    return db


@pytest.fixture(autouse=True)
def always_with_worker(monkeypatch):
    """Use a worker for any number of records, as on a computer with two cores."""
    monkeypatch.setattr(layerdb, "MANY", 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})


def read_alone(db):
    """Read each record without a worker; return the record, or the type and message of the error."""
    found = {}
    for name in db.list_layers():
        try:
            found[name] = db.read(name)
        except (BadRecord, OSError) as error:
            found[name] = type(error), str(error)
    return found


def read_many(db):
    """Do the same with `reading_many`, which uses a worker."""
    found = {}
    names = db.list_layers()
    with db.reading_many(names) as read:
        for name in names:
            try:
                found[name] = read(name)
            except (BadRecord, OSError) as error:
                found[name] = type(error), str(error)
    return found


@pytest.fixture
def answers(monkeypatch):
    """Wait for the worker before each `take`, so that its chunks are used; return the list of these chunks."""
    answers = []
    take = read_worker._ReadWorker.take

    def wait(self):
        select.select([self._out], [], [])
        chunks = take(self)
        answers.extend(chunks)
        return chunks

    monkeypatch.setattr(read_worker._ReadWorker, "take", wait)
    return answers


def test_the_worker_reads_the_same_records(db, answers, nothing_left_open):
    expected = read_alone(db)
    assert read_many(db) == expected
    assert sum(isinstance(one, LayerRecord) for one in expected.values()) < COUNT
    assert answers
    assert any(isinstance(one, tuple) for chunk in answers for one in chunk)
    assert any(one is None for chunk in answers for one in chunk)
    for record in read_many(db).values():
        if isinstance(record, LayerRecord):
            assert type(record.chain_id).__name__ == "ChainID"
            assert type(record.diff_id).__name__ == "DiffID"


def test_records_are_the_same_without_waiting_for_the_worker(db, nothing_left_open):
    """Without waiting, the worker may send all chunks, some or none before the end."""
    expected = read_alone(db)
    for _ in range(5):
        assert read_many(db) == expected


def test_no_worker_is_started_on_one_core(db, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    monkeypatch.setattr(os, "posix_spawn", None)
    assert read_many(db) == read_alone(db)


def test_no_worker_is_started_for_few_records(db, monkeypatch):
    monkeypatch.setattr(layerdb, "MANY", COUNT + 1)
    monkeypatch.setattr(read_worker._ReadWorker, "start", None)
    assert read_many(db) == read_alone(db)


@pytest.mark.parametrize(
    "program",
    [
        "raise SystemExit",
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        "import os; os.write(1, b'1')",
        "import os; os.write(1, (1000).to_bytes(4, 'little') + b'1234')",
        "import time; time.sleep(600)",
        "import os; os.close(1); import time; time.sleep(600)",
    ],
)
def test_a_failing_worker_costs_no_record(db, monkeypatch, program, nothing_left_open):
    monkeypatch.setattr(read_worker, "_CODE", program)
    assert read_many(db) == read_alone(db)


@pytest.mark.parametrize("error", [OSError(11, "no more processes"), AttributeError("memfd_create")])
def test_a_worker_that_cannot_be_started_costs_no_record(db, monkeypatch, error, nothing_left_open):
    def refuse(*_args):
        raise error

    monkeypatch.setattr(WorkerProcess, "start", refuse)
    assert read_many(db) == read_alone(db)


def test_an_interrupt_leaves_no_worker(db, monkeypatch, nothing_left_open):
    def interrupt(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr(read_worker, "read_fields", interrupt)
    with pytest.raises(KeyboardInterrupt):
        read_many(db)


def test_a_record_read_ahead_is_returned_once_and_then_read_again(db):
    names = db.list_layers()
    with db.reading_many(names) as read:
        (db.layer_path(names[1]) / "size").write_text("damaged after it was read")
        assert read(names[1]).chain_id == names[1]
        with pytest.raises(BadRecord, match="size"):
            read(names[1])
