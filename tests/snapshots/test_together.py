"""Many threads, many snapshots, several processes: nothing is lost, and nothing costs more than it has to."""

from __future__ import annotations

import errno
import os
import random
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from layerstore_core import (
    LayerStore,
    LayerStoreError,
    ReadOnlyStore,
    SnapshotDoesNotExist,
    SnapshotExists,
    SnapshotHasChildren,
    Snapshots,
    SnapshotsInUse,
    check_store,
    collect_garbage,
)
from layerstore_core.base import inside
from layerstore_core.base.durability import FlushPoint
from layerstore_core.records.snapshots import rows
from layerstore_core.snapshots.flushes import JoinedFlushes
from tests.conftest import needs_root
from tests.store.layers import BASE, register

REF = "containerd.io/snapshot.ref"
MANY = 10_000
FEW = 40


@pytest.fixture
def driver() -> str:
    return "vfs"


def test_a_change_is_not_confirmed_if_the_file_system_accepts_no_more(open_store, monkeypatch):
    """SQLite's flush succeeds though the journal of the file system was aborted: see `inside.confirm_flush`."""
    confirmed = []

    def refuse(directory_fd):
        confirmed.append(os.readlink(f"/proc/self/fd/{int(directory_fd)}"))
        raise OSError(errno.EIO, "the file system accepts no changes any more")

    store = open_store(durability="full")
    with Snapshots(store) as snapshots:
        snapshots.prepare("a", "")
        monkeypatch.setattr(inside, "confirm_flush", refuse)
        with pytest.raises(OSError, match="accepts no changes any more"):
            snapshots.commit("one", "a")
        assert confirmed == [str(store.root / "layerstore" / "snapshots" / "vfs")]


def test_one_of_many_threads_gets_a_key(store):
    """Of all that ask for the same thing at once one succeeds, and the others hear why not."""

    def outcome(call: Callable[[], object]) -> str:
        try:
            call()
        except LayerStoreError as error:
            return type(error).__name__
        return "done"

    with Snapshots(store) as snapshots, ThreadPoolExecutor(16) as pool:

        def at_once(*calls: Callable[[], object]) -> list[str]:
            return sorted(pool.map(outcome, calls))

        lost = ["SnapshotExists"] * 15
        assert at_once(*[lambda: snapshots.prepare("a")] * 16) == [*lost, "done"]
        for number in range(16):
            snapshots.prepare(f"b{number}")
        commits = [lambda number=number: snapshots.commit("one", f"b{number}") for number in range(16)]
        assert at_once(*commits) == [*lost, "done"]
        gone = ["SnapshotDoesNotExist"] * 15
        assert at_once(*[lambda: snapshots.commit("two", "a")] * 16) == [*gone, "done"]
        assert at_once(*[lambda: snapshots.remove("two")] * 16) == [*gone, "done"]
        # A parent that is removed while children are made on it: one of both is refused.
        results = at_once(
            lambda: snapshots.remove("one"), *[lambda n=n: snapshots.view(f"v{n}", "one") for n in range(9)]
        )
        views = [snapshot for snapshot in snapshots.walk() if snapshot.kind.value == "view"]
        assert results in (
            ["SnapshotDoesNotExist"] * (9 - len(views)) + ["done"] * (1 + len(views)),
            ["SnapshotHasChildren"] + ["done"] * 9,
        )
        for view in views:
            assert snapshots.stat(view.parent)
    assert check_store(store) == []


def test_threads_at_random_lose_nothing(store, open_store):
    """Each thread knows its own snapshots; another store collects garbage meanwhile, and calls are walked through."""
    layer = register(store, BASE)
    ended = threading.Event()

    def worker(snapshots: Snapshots, number: int) -> set[str]:
        chance = random.Random(number)
        mine: dict[str, list[str]] = {}
        parents = {"base": 0}
        for turn in range(40):
            key = f"{number}-{turn}"
            parent = chance.choice(list(parents))
            match chance.randrange(5):
                case 0 | 1:
                    Path(snapshots.prepare(key, parent)[0].source, "file").write_text(key)
                    parents[parent] += 1
                    mine[key] = [parent, "active"]
                case 2:
                    snapshots.view(key, parent)
                    parents[parent] += 1
                    mine[key] = [parent, "view"]
                case 3:
                    active = [one for one, (_, kind) in mine.items() if kind == "active"]
                    if active:
                        chosen = chance.choice(active)
                        snapshots.commit(key, chosen)
                        mine[key] = [mine.pop(chosen)[0], "committed"]
                        parents[key] = 0
                case _:
                    for chosen in list(mine):
                        if parents.get(chosen):
                            with pytest.raises(SnapshotHasChildren):
                                snapshots.remove(chosen)
                        else:
                            snapshots.remove(chosen)
                            parents[mine.pop(chosen)[0]] -= 1
                            parents.pop(chosen, None)
                            break
            with pytest.raises(SnapshotExists):
                snapshots.prepare(f"remote {key}", "", {REF: layer.chain_id})
        return set(mine)

    def collect() -> None:
        with open_store() as other:
            while not ended.is_set():
                collect_garbage(other)
                assert check_store(other) == []

    with Snapshots(store) as snapshots, ThreadPoolExecutor(10) as pool:
        snapshots.prepare("x")
        snapshots.commit("base", "x")
        collector = pool.submit(collect)
        workers = [pool.submit(worker, snapshots, number) for number in range(6)]
        try:
            while not all(one.done() for one in workers):
                assert all(snapshot.key for snapshot in snapshots.walk())
            mine = set().union(*(one.result() for one in workers))
        finally:
            ended.set()
        collector.result()
        known = {snapshot.key for snapshot in snapshots.walk() if snapshot.chain_id is None}
        assert known == mine | {"base"}
        remote = [snapshot for snapshot in snapshots.walk() if snapshot.chain_id]
        assert len(remote) == 1
    assert check_store(store) == []


def test_a_call_costs_the_same_with_ten_thousand_snapshots(store):
    """Counted are the steps of SQLite's machine: each statement takes about as many, so it finds rows by an index."""
    costs: dict[int, dict[str, int]] = {}
    with Snapshots(store) as snapshots:
        journal = snapshots._owner.journal
        layer = register(store, BASE)
        total = 0
        for size in (FEW, MANY):

            def add(database, first=total, last=size) -> None:
                database.executemany(
                    "INSERT INTO snapshots (key, parent, kind, state, driver_id, chain_id, labels, created, updated, "
                    "depth) VALUES (?, ?, 'committed', 'ready', '', ?, '{}', 0, 0, 1)",
                    [(f"s{n}", 1 if n % 3 else None, f"sha256:{n:064x}") for n in range(first, last)],
                )

            journal.write(add)
            total = size
            steps = [0]

            def step(steps=steps) -> int:
                steps[0] += 1
                return 0

            def cost(call: Callable[[], object], steps=steps) -> int:
                steps[0] = 0
                call()
                return steps[0]

            def offer(size=size) -> None:
                with pytest.raises(SnapshotExists):
                    snapshots.prepare(f"x{size}", "", {REF: layer.chain_id})

            for connection in (journal._reader, journal._writer):
                connection.set_progress_handler(step, 1)
            costs[size] = {
                "prepare": cost(lambda size=size: snapshots.prepare(f"p{size}")),
                "stat": cost(lambda: snapshots.stat("s7")),
                "mounts": cost(lambda size=size: snapshots.mounts(f"p{size}")),
                "update": cost(lambda: snapshots.update("s7", {"a": "b"})),
                "commit": cost(lambda size=size: snapshots.commit(f"c{size}", f"p{size}")),
                "view": cost(lambda size=size: snapshots.view(f"v{size}", f"c{size}")),
                "remove": cost(lambda size=size: snapshots.remove(f"v{size}")),
                "offer": cost(offer),
                "cleanup": cost(snapshots.cleanup),
            }
            for connection in (journal._reader, journal._writer):
                connection.set_progress_handler(None, 1)
        assert len(list(snapshots.walk())) > MANY
    assert all(costs[FEW].values())
    for call, steps_of_many in costs[MANY].items():
        assert steps_of_many <= costs[FEW][call] * 1.5, (call, costs)


def test_flushes_are_joined():
    """While one flush runs, all others that are asked for become one."""
    running, may_end, calls = threading.Event(), threading.Event(), []

    def flush() -> None:
        calls.append(1)
        running.set()
        may_end.wait(60)

    flushes = JoinedFlushes(flush)

    def work() -> None:
        with flushes.watching() as mine:
            mine()

    with ThreadPoolExecutor(20) as pool:
        first = pool.submit(work)
        running.wait(60)
        others = [pool.submit(work) for _ in range(19)]
        while flushes._asked < 20:
            time.sleep(0.001)
        may_end.set()
        for one in (first, *others):
            one.result()
    assert len(calls) == 2


def test_an_error_of_a_flush_reaches_all_that_wrote_before():
    failing = [False]

    def flush() -> None:
        if failing.pop():
            raise OSError(5, "the disk has failed")

    flushes = JoinedFlushes(flush)
    with flushes.watching() as before, flushes.watching() as other:
        failing[:] = [True]
        with pytest.raises(OSError, match="failed"):
            before()
        failing[:] = [False]
        # The kernel reports the error once only; what `other` wrote may have been lost, too.
        with pytest.raises(OSError, match="failed"):
            other()
    failing[:] = [False]
    with flushes.watching() as after:
        after()


def test_a_durable_call_flushes_before_it_is_recorded(open_store, monkeypatch):
    """The layer's files are on disk before the database says that the snapshot is ready."""
    store = open_store(durability="full")
    seen = []
    original = FlushPoint.flush
    with Snapshots(store) as snapshots:

        def flush(point) -> None:
            original(point)
            seen.append([(row.key, row.kind, row.state) for row in store.context.snapshots.rows()])

        monkeypatch.setattr(snapshots._owner.flushes, "_flush_all", lambda: flush(point))
        point = FlushPoint(store.root)
        with point:
            snapshots.prepare("a")
            snapshots.commit("one", "a")
        assert seen == [[("a", rows.ACTIVE, rows.CREATING)], [("a", rows.ACTIVE, rows.READY)]]
        (level,) = snapshots._owner.journal._writer.execute("PRAGMA synchronous").fetchone()
        assert level == 2  # FULL: the log is flushed before the call returns


def test_a_second_owner_is_told_what_to_do(store, store_root, open_store):
    with Snapshots(store):
        child = os.fork()
        if not child:
            status = 1
            try:
                with LayerStore.open(root=store_root, driver="vfs") as other:
                    Snapshots(other)
            except SnapshotsInUse as error:
                status = 0 if str(store_root) in str(error) and "stop the other server" in str(error) else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with Snapshots(open_store()), pytest.raises(SnapshotsInUse):
        Snapshots(store)


def test_a_forked_child_does_no_harm(store):
    """A child that ends tidily closes what it has inherited: that must not take the parent's locks and log."""
    with Snapshots(store) as snapshots:
        snapshots.prepare("a")
        child = os.fork()
        if not child:
            status = 1
            try:
                try:
                    snapshots.prepare("b")
                except LayerStoreError as error:
                    status = 0 if "belongs to process" in str(error) else 2
                snapshots.close()
                del snapshots
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert store.context.snapshots.path.with_name("snapshots.db-wal").exists()
        snapshots.prepare("c")
        with pytest.raises(SnapshotsInUse):
            Snapshots(store)
        assert [row.key for row in store.context.snapshots.rows()] == ["a", "c"]


def test_a_store_for_reading_has_no_owner(store, store_root):
    with Snapshots(store) as snapshots:
        snapshots.prepare("a")
    with LayerStore.open(root=store_root, driver="vfs", read_only=True) as reader:
        with pytest.raises(ReadOnlyStore):
            Snapshots(reader)
        assert [row.key for row in reader.context.snapshots.rows()] == ["a"]
        assert check_store(reader) == []


@needs_root
def test_a_root_that_cannot_be_written_is_read(store, store_root, tmp_path):
    """Also with the log of a killed owner, and without the file that readers share, as in a copy of the root."""
    child = os.fork()
    if not child:
        with LayerStore.open(root=store_root, driver="vfs") as opened, Snapshots(opened) as snapshots:
            snapshots.prepare("a")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    store.close()
    point = tmp_path / "read-only"
    point.mkdir()
    log, shared = (store.context.snapshots.path.with_name(f"snapshots.db-{end}") for end in ("wal", "shm"))
    assert log.stat().st_size

    def read() -> list[str]:
        subprocess.run(["mount", "--bind", store_root, point], check=True)
        try:
            subprocess.run(["mount", "-o", "remount,bind,ro", point], check=True)
            with LayerStore.open(root=point, driver="vfs", read_only=True) as reader:
                assert check_store(reader) == []
                return [row.key for row in reader.context.snapshots.rows()]
        finally:
            subprocess.run(["umount", point], check=True)

    assert read() == ["a"]
    shared.unlink()
    assert read() == ["a"]
    with LayerStore.open(root=store_root, driver="vfs") as opened, Snapshots(opened):
        pass
    assert not log.exists()
    assert read() == ["a"]


def test_a_journal_that_a_power_cut_left_is_read(store, store_root):
    """The database was cut off in the middle of a change that was not in WAL mode, as SQLite itself may make one."""
    with Snapshots(store) as snapshots:
        snapshots.prepare("a")
    path = store.context.snapshots.path
    files = path, path.with_name("snapshots.db-journal")
    with closing(sqlite3.connect(path, isolation_level=None)) as opened:
        opened.execute("PRAGMA journal_mode = DELETE")
        opened.execute("PRAGMA cache_size = 1")  # so that changes are written before the transaction ends
        opened.execute("BEGIN IMMEDIATE")
        opened.execute("UPDATE snapshots SET key = 'wrong'")
        opened.executemany("INSERT INTO sqlite_sequence VALUES ('filler', ?)", [(n,) for n in range(5000)])
        contents = [file.read_bytes() for file in files]
        opened.execute("ROLLBACK")
    for file, content in zip(files, contents, strict=True):
        file.write_bytes(content)
    assert b"wrong" in contents[0]
    assert [row.key for row in store.context.snapshots.rows()] == ["a"]
    assert collect_garbage(store) == []
    with Snapshots(store) as snapshots:
        assert [snapshot.key for snapshot in snapshots.walk()] == ["a"]


def test_all_calls_end_with_the_store(open_store):
    store = open_store()
    snapshots = Snapshots(store)
    snapshots.prepare("a")
    store.close()
    for call in (lambda: snapshots.prepare("b"), lambda: snapshots.stat("a"), lambda: next(snapshots.walk())):
        with pytest.raises(LayerStoreError, match="is closed"):
            call()
    snapshots.close()
    snapshots.close()
    with Snapshots(open_store()) as again:
        assert again.stat("a")
        with pytest.raises(SnapshotDoesNotExist):
            again.stat("b")
