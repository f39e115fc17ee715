"""Snapshots in check, repair, gc and references: damaged and missing databases, lost and broken layers."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from layerstore_core import (
    BadRecord,
    LayerStore,
    RepairSource,
    SnapshotExists,
    Snapshots,
    check_store,
    collect_garbage,
    repair,
)
from layerstore_core.records.snapshots import rows
from tests.conftest import needs_root
from tests.snapshots.mounting import committed, files_in, write
from tests.store.layers import BASE, MIDDLE, register

REF = "containerd.io/snapshot.ref"


@pytest.fixture
def driver() -> str:
    return "vfs"


@pytest.fixture
def used(store: LayerStore) -> LayerStore:
    """Return a store with two layers, a snapshot of the lower one, one committed, one active, and a view."""
    base = register(store, BASE)
    middle = register(store, MIDDLE, base)
    with Snapshots(store) as snapshots:
        with pytest.raises(SnapshotExists):
            snapshots.prepare("x", "", {REF: base.chain_id})
        remote = next(snapshots.walk()).key
        committed(snapshots, "one", remote, {"a": b"a"})
        snapshots.prepare("box", "one")
        snapshots.view("look", "one")
    middle.close()
    base.close()
    assert codes(store) == []
    return store


def database(store: LayerStore) -> Path:
    return store.root / "layerstore" / "snapshots" / store.driver_name / "snapshots.db"


def codes(store: LayerStore) -> list[str]:
    return [finding.code for finding in check_store(store)]


def layers(store: LayerStore) -> list[str]:
    return sorted(store.driver.layer_ids() or ())


def cut_off(path: Path) -> None:
    os.truncate(path, 5000)


def replace_by_text(path: Path) -> None:
    path.write_bytes(b"no database")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def remove(path: Path) -> None:
    path.unlink()


def remove_all(path: Path) -> None:
    shutil.rmtree(path.parent.parent)


def replace_by_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def link_again(path: Path) -> None:
    os.link(path, path.with_name("other"))


def replace_by_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def link_the_log(path: Path) -> None:
    log = path.with_name("snapshots.db-wal")
    log.unlink(missing_ok=True)  # a process that reads may have left it, empty
    log.symlink_to(path.parents[3] / "somewhere")


def add_trigger(path: Path) -> None:
    with closing(sqlite3.connect(path)) as opened:
        opened.execute("CREATE TRIGGER t AFTER INSERT ON snapshots BEGIN DELETE FROM snapshots; END")
        opened.commit()


def add_trigger_with_the_name_of_a_table(path: Path) -> None:
    """SQLite keeps this name for a table of its own, which all of our databases have."""
    with closing(sqlite3.connect(path)) as opened:
        opened.execute("PRAGMA writable_schema = ON")
        opened.execute(
            "INSERT INTO sqlite_master VALUES ('trigger', 'sqlite_sequence', 'snapshots', 0, "
            "'CREATE TRIGGER sqlite_sequence AFTER INSERT ON snapshots BEGIN DELETE FROM snapshots; END')"
        )
        opened.commit()


def spoil_the_layers(path: Path) -> None:
    with closing(sqlite3.connect(path)) as opened:
        opened.execute("UPDATE snapshots SET driver_id = 'x/' || driver_id")
        opened.commit()


def spoil_the_labels(path: Path) -> None:
    with closing(sqlite3.connect(path)) as opened:
        opened.execute("UPDATE snapshots SET labels = '?'")
        opened.commit()


def make_a_key_too_long(path: Path) -> None:
    with closing(sqlite3.connect(path)) as opened:
        opened.execute("UPDATE snapshots SET key = printf('%.20000000c', 'x') WHERE number = 1")
        opened.commit()


def spoil_a_reference(path: Path) -> None:
    with closing(sqlite3.connect(path)) as opened:
        opened.execute("UPDATE snapshots SET chain_id = 'sha256:0' WHERE chain_id IS NOT NULL")
        opened.commit()


@pytest.mark.parametrize(
    "damage",
    [
        cut_off,
        replace_by_text,
        empty,
        remove,
        remove_all,
        replace_by_link,
        link_again,
        replace_by_fifo,
        link_the_log,
        add_trigger,
        add_trigger_with_the_name_of_a_table,
    ],
)
def test_a_database_that_cannot_be_read_is_not_taken_for_empty(used: LayerStore, open_store, damage, said):
    before = layers(used)
    used.close()
    damage(database(used))
    store = open_store()
    code = "lost-snapshots" if damage in (remove, remove_all) else "damaged-snapshots"
    assert codes(store) == [code]
    assert str(database(store)) in str(check_store(store)[0])
    assert not (store.root / "somewhere").exists()
    with pytest.raises(BadRecord, match=str(database(store))):
        Snapshots(store)

    assert [str(bad.path).removesuffix("-wal") for bad in store.unreadable()] == [str(database(store))]
    assert collect_garbage(store) == []
    assert any("layers of snapshots, which are kept" in record["message"] for record in said)
    assert codes(open_store()) == [code]
    assert layers(store) == before
    # A stray of another kind can still be told from them.
    store.driver.create("0" * 64, "", {})
    assert [found.name for found in collect_garbage(store)] == ["0" * 64]

    assert [finding.code for finding in repair(store, check_store(store))] == [code]
    assert repair(store, check_store(store), force=True) == []
    if code == "damaged-snapshots":
        assert any("snapshots.db" in name for name in os.listdir(store.context.quarantine.path))
    assert {found.kind for found in collect_garbage(store)} == {"layer", "stray driver layer"}
    assert layers(store) == []
    with Snapshots(store) as snapshots:
        assert list(snapshots.walk()) == []


@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize("kind", ["link", "file"])
def test_another_thing_in_place_of_the_directory_is_no_absence(used: LayerStore, open_store, tmp_path, level, kind):
    before = layers(used)
    used.close()
    directory = database(used).parents[level]
    elsewhere = tmp_path / "elsewhere"
    shutil.move(directory, elsewhere)
    directory.symlink_to(elsewhere) if kind == "link" else directory.write_bytes(b"")
    store = open_store()
    assert codes(store) == ["damaged-snapshots"]
    assert collect_garbage(store) == []
    assert collect_garbage(store, dry_run=True) == []
    assert layers(store) == before
    with pytest.raises(BadRecord, match=str(directory)):
        Snapshots(store)
    assert (elsewhere / "snapshots.db").exists() or (elsewhere / "vfs" / "snapshots.db").exists()


@needs_root
def test_in_a_root_of_another_user_sqlite_opens_a_copy(used: LayerStore, open_store, monkeypatch):
    """That user could put a link in the place of a file while SQLite opens it."""
    keys = [row.key for row in used.context.snapshots.rows()]
    os.chown(used.root / "layerstore", 65534, 65534)
    opened = []
    original = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda name, **named: opened.append(name) or original(name, **named))
    assert [row.key for row in used.context.snapshots.rows()] == keys
    assert codes(used) == []
    with pytest.raises(BadRecord, match="layerstore: it belongs to user 65534, and this is user 0"):
        Snapshots(used)
    assert opened
    assert not [name for name in opened if str(used.root) in name]
    os.chown(used.root / "layerstore", 0, 0)
    with Snapshots(used) as snapshots:
        snapshots.remove("box")
        os.chown(used.root, 65534, 65534)  # the log is copied, too
        assert [row.key for row in open_store().context.snapshots.rows()] == [key for key in keys if key != "box"]
        os.chown(used.root, 0, 0)


def test_a_damaged_reference_keeps_all_layers(used: LayerStore, open_store):
    before = layers(used)
    used.close()
    spoil_a_reference(database(used))
    store = open_store()
    assert codes(store) == ["damaged-snapshots"]
    assert collect_garbage(store) == []
    assert layers(store) == before
    with Snapshots(store) as snapshots, pytest.raises(BadRecord, match=r"the record of snapshot .* is damaged"):
        list(snapshots.walk())


@pytest.mark.parametrize("damage", [spoil_the_layers, spoil_the_labels])
def test_a_damaged_row_still_keeps_its_layers(used: LayerStore, open_store, damage):
    """What the row refers to, and what may be its own layer of the driver."""
    rows_before = used.context.snapshots.rows()
    used.close()
    damage(database(used))
    store = open_store()
    assert "damaged-snapshots" in codes(store)
    collect_garbage(store)
    assert {row.driver_id for row in rows_before} - {""} == set(layers(store))
    chain = rows_before[0].chain_id
    assert chain is not None
    assert store.context.db.has_layer(chain)


def test_a_row_that_is_too_long_is_not_read_into_memory(used: LayerStore):
    make_a_key_too_long(database(used))
    (finding,) = check_store(used)
    assert finding.code == "damaged-snapshots"
    assert "too big" in str(finding)
    with Snapshots(used) as snapshots, pytest.raises(BadRecord, match="too big"):
        list(snapshots.walk())


def test_strays_are_removed_from_the_top(store: LayerStore):
    """The driver removes children before their parents, also where only the driver knows which is which.

    That no layer was ever registered, so that its directory is missing, does not make them records that are lost.
    """
    with Snapshots(store) as snapshots:
        parent = ""
        for number in range(6):
            snapshots.prepare(f"x{number}", parent)
            snapshots.commit(parent := f"c{number}", f"x{number}")
    ids = [row.driver_id for row in store.context.snapshots.rows()]
    with closing(sqlite3.connect(database(store))) as opened:
        opened.execute("DELETE FROM snapshots")
        opened.commit()
    assert codes(store) == ["stray-in-driver"] * 6
    register(store, BASE).close()
    assert [found.name for found in collect_garbage(store) if found.kind != "layer"] == ids[::-1]


def test_damaged_indexes_are_made_again(used: LayerStore, open_store):
    """The page of an index is overwritten: the rows are whole."""
    used.close()
    path = database(used)
    with closing(sqlite3.connect(path)) as opened:
        (page,) = opened.execute("SELECT rootpage FROM sqlite_master WHERE name = 'snapshots_by_key'").fetchone()
        (size,) = opened.execute("PRAGMA page_size").fetchone()
    content = bytearray(path.read_bytes())
    content[(page - 1) * size + 8 : page * size] = bytes(size - 8)
    path.write_bytes(content)
    store = open_store()
    assert codes(store) == ["damaged-snapshots"]
    assert repair(store, check_store(store)) == []
    assert codes(store) == []
    with Snapshots(store) as snapshots:
        assert [snapshot.key for snapshot in snapshots.walk()][1:] == ["one", "box", "look"]
        assert snapshots.stat("one").key == "one"


@pytest.mark.parametrize("driver", ["vfs", pytest.param("overlay2", marks=needs_root)])
def test_what_a_snapshot_is_on_may_be_made_again(store: LayerStore, driver: str):
    """A layer of the store is rebuilt as another layer of the driver: snapshots on it go on with that."""
    base = register(store, BASE)
    with Snapshots(store) as snapshots:
        with pytest.raises(SnapshotExists):
            snapshots.prepare("x", "", {REF: base.chain_id})
        remote = next(snapshots.walk()).key
        committed(snapshots, "one", remote, {"a": b"a"})
        snapshots.prepare("old", "one")
    former = base.cache_id
    base.close()
    with store.driver.mounted(former) as path:
        Path(path, "etc", "hosts").write_text("changed")
    found = check_store(store, full=True)
    assert [finding.code for finding in found] == ["damaged"]
    archive = store.root / "base.tar"
    archive.write_bytes(BASE)
    with RepairSource(store, archive) as source:
        assert repair(store, found, source=source) == []
    assert store.find(base.chain_id).cache_id != former
    assert codes(store) == []
    with Snapshots(store) as snapshots:
        assert snapshots.usage(remote).inodes == 4
        write(snapshots.prepare("box", remote), {"b": b"b"})
        for key in ("old", "box"):
            shown = files_in(snapshots.mounts(key))
            assert shown["etc/hosts"] == b"127.0.0.1 localhost\n" or (driver, key) == ("vfs", "old")  # a copy
        assert collect_garbage(store) == []
        for snapshot in reversed(list(snapshots.walk())):
            snapshots.remove(snapshot.key)


def test_a_lost_layer_is_found(used: LayerStore):
    (row,) = [row for row in used.context.snapshots.rows() if row.key == "box"]
    used.driver.remove(row.driver_id)
    (finding,) = check_store(used)
    assert (finding.code, finding.subject) == ("missing-in-driver", "snapshot 'box'")
    assert repair(used, [finding], force=True) == [finding]
    with Snapshots(used) as snapshots:
        snapshots.remove("box")
    assert codes(used) == []


def test_a_snapshot_of_a_layer_that_is_gone_is_found(used: LayerStore):
    base = next(row.chain_id for row in used.context.snapshots.rows() if row.chain_id)
    shutil.move(used.context.db.layer_path(base), used.root / "elsewhere")
    found = check_store(used)
    assert ("missing-in-driver", used.context.snapshots.rows()[0].key) in {
        (finding.code, finding.subject.removeprefix("snapshot ").strip("'")) for finding in found
    }
    assert f"layer {base} of the store, which is missing" in str(found)


def test_gc_finishes_what_a_killed_owner_left(used: LayerStore):
    with Snapshots(used) as snapshots:
        used.context.snapshots  # noqa: B018
        snapshots.prepare("unfinished")
    with closing(sqlite3.connect(database(used))) as opened:
        opened.execute("UPDATE snapshots SET state = 'creating' WHERE key = 'unfinished'")
        opened.execute("UPDATE snapshots SET state = 'removing' WHERE key = 'box'")
        opened.commit()
    assert codes(used) == ["unfinished-snapshot", "unfinished-snapshot"]
    would = collect_garbage(used, dry_run=True)
    assert [(found.kind, found.name) for found in would if found.kind != "layer"] == [
        ("unfinished snapshot", "box"),
        ("unfinished snapshot", "unfinished"),
    ]
    assert sorted(map(str, collect_garbage(used))) == sorted(map(str, would))
    assert codes(used) == []
    assert [row.state for row in used.context.snapshots.rows()] == [rows.READY] * 3


def test_a_layer_of_a_snapshot_is_held_and_not_pruned(used: LayerStore):
    base = next(row.chain_id for row in used.context.snapshots.rows() if row.chain_id)
    with used.get(base) as layer:
        used.release(layer)
    assert used.has_layer(base)
    assert [found.kind for found in collect_garbage(used)] == ["layer"]  # the one above it
    assert used.has_layer(base)
