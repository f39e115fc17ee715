"""Drivers that cannot do all, and what is left when a step fails."""

from __future__ import annotations

import os
from itertools import count

import pytest

from layerstore_core import LayerStore, SnapshotDoesNotExist, SnapshotKind, Snapshots, collect_garbage, hookimpl
from layerstore_core.records.snapshots import rows
from layerstore_core.records.snapshots.journal import SnapshotJournal
from tests.snapshots.mounting import committed, files_in, write
from tests.store.drivers import SmallestDriver, open_with


class ListingDriver(SmallestDriver):
    """The smallest driver that can say which layers it has."""

    @hookimpl
    def layer_ids(self) -> list[str]:
        return os.listdir(self.home)


@pytest.fixture
def store(root):
    with open_with(ListingDriver, root) as opened:
        yield opened


def test_a_driver_without_hooks_copies_on_commit(store: LayerStore):
    with Snapshots(store) as snapshots:
        committed(snapshots, "one", "", {"a": b"a", "b": b"b"})
        committed(snapshots, "two", "one", {"a": None, "c": b"ccc"})
        assert snapshots.usage("two").size == 3
        (spec,) = snapshots.view("look", "two")
        assert spec.options == ("ro", "rbind")
        assert sorted(os.listdir(spec.source)) == ["b", "c"]
        assert files_in(snapshots.prepare("box", "two")) == {"b": b"b", "c": b"ccc"}
        assert len(store.driver.layer_ids() or ()) == 4
        assert collect_garbage(store) == []
        assert files_in(snapshots.mounts("box")) == {"b": b"b", "c": b"ccc"}
        for key in ("box", "look", "two", "one"):
            snapshots.remove(key)
    assert store.driver.layer_ids() == []


def test_a_layer_that_cannot_be_removed_now_is_removed_later(store: LayerStore, monkeypatch):
    with Snapshots(store) as snapshots:
        committed(snapshots, "one", "", {"a": b"a"})
        write(snapshots.prepare("box", "one"), {"b": b"b"})

        def refuse(layer_id):
            raise OSError(16, "busy")

        with monkeypatch.context() as patched:
            patched.setattr(store.driver, "remove", refuse)
            snapshots.remove("box")
            snapshots.prepare("box")  # the key is free
            snapshots.remove("box")
            snapshots.remove("one")
        assert [snapshot.key for snapshot in snapshots.walk()] == []
        assert [row.state for row in store.context.snapshots.rows()] == [rows.REMOVING] * 3
        assert collect_garbage(store) == []
        assert len(store.driver.layer_ids() or ()) == 3
        snapshots.cleanup()
        assert store.driver.layer_ids() == []


def test_a_full_disk_leaves_no_key_taken(store: LayerStore, monkeypatch):
    """Neither the snapshot can be made, nor can that be undone; later it can be made."""
    with Snapshots(store) as snapshots:
        write(snapshots.prepare("b"), {"b": b"b"})
        for call in (snapshots.prepare, snapshots.view, lambda name: snapshots.commit(name, "b")):
            with monkeypatch.context() as patched:
                write_ = SnapshotJournal.write
                calls = count()

                def fail(journal, change, *, durable=True, calls=calls, write_=write_):
                    if next(calls):
                        raise OSError(28, "No space left on device")
                    return write_(journal, change, durable=durable)

                patched.setattr(SnapshotJournal, "write", fail)
                with pytest.raises(OSError, match="No space left"):
                    call("a")
            assert [row.state for row in store.context.snapshots.rows() if row.key == "a"] == [rows.CREATING]
            with pytest.raises(SnapshotDoesNotExist):
                snapshots.stat("a")
            call("a")
            snapshots.remove("a")
            snapshots.cleanup()
            assert store.context.snapshots.rows() == [] or [row.key for row in store.context.snapshots.rows()] == ["b"]
            assert len(store.driver.layer_ids() or ()) == len(store.context.snapshots.rows())


def test_an_interruption_after_the_commit_loses_nothing(store: LayerStore, monkeypatch):
    """The copy is recorded, and the former layer is to be removed: then the copy must not be undone."""
    with Snapshots(store) as snapshots:
        write(snapshots.prepare("b"), {"b": b"b"})
        write_ = SnapshotJournal.write

        def interrupted(journal, change, *, durable=True):
            result = write_(journal, change, durable=durable)
            if durable:
                raise KeyboardInterrupt
            return result

        with monkeypatch.context() as patched:
            patched.setattr(SnapshotJournal, "write", interrupted)
            with pytest.raises(KeyboardInterrupt):
                snapshots.commit("one", "b")
        assert snapshots.stat("one").kind is SnapshotKind.COMMITTED
        assert files_in(snapshots.prepare("box", "one")) == {"b": b"b"}
        snapshots.cleanup()
        assert len(store.driver.layer_ids() or ()) == 2


def test_a_driver_that_refuses_leaves_nothing(store: LayerStore, monkeypatch):
    with Snapshots(store) as snapshots:
        for hook in ("create_read_write", "mounts"):
            with monkeypatch.context() as patched:

                def refuse(*args, **named):
                    raise OSError(28, "full")

                patched.setattr(store.driver, hook, refuse)
                with pytest.raises(OSError, match="full"):
                    snapshots.prepare("box")
            assert store.driver.layer_ids() == []
            assert store.context.snapshots.rows() == []
        snapshots.prepare("box")
