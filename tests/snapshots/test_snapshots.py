"""Snapshots: making, mounting, committing, removing and listing them, over all drivers."""

from __future__ import annotations

import os

import pytest

from layerstore_core import (
    InvalidSnapshot,
    LayerStore,
    SnapshotDoesNotExist,
    SnapshotExists,
    SnapshotHasChildren,
    SnapshotKind,
    Snapshots,
    SnapshotsInUse,
    SnapshotUsage,
    WrongSnapshotKind,
    collect_garbage,
)
from tests.conftest import needs_root
from tests.snapshots.mounting import committed, files_in, mounted, write
from tests.store.layers import BASE, MIDDLE, register

REF = "containerd.io/snapshot.ref"


@pytest.fixture
def snapshots(store: LayerStore):
    with Snapshots(store) as opened:
        yield opened


def keys(snapshots: Snapshots) -> list[str]:
    return [snapshot.key for snapshot in snapshots.walk()]


@needs_root
def test_a_chain_is_written_committed_and_shown(store, snapshots):
    write(snapshots.prepare("default/1/extract one", "", {"a": "1"}), {"etc/hosts": b"one", "gone": b""})
    first = snapshots.stat("default/1/extract one")
    assert (first.kind, first.parent, dict(first.labels), first.chain_id) == (SnapshotKind.ACTIVE, "", {"a": "1"}, None)
    snapshots.commit("default/2/sha256:one", "default/1/extract one", {"b": "2"})
    with pytest.raises(SnapshotDoesNotExist, match="extract one"):
        snapshots.stat("default/1/extract one")
    one = snapshots.stat("default/2/sha256:one")
    assert (one.kind, dict(one.labels)) == (SnapshotKind.COMMITTED, {"b": "2"})
    assert first.created < one.created == one.updated

    committed(snapshots, "two", "default/2/sha256:one", {"etc/hosts": b"two", "gone": None})
    assert files_in(snapshots.view("look", "two")) == {"etc/hosts": b"two"}
    assert files_in(snapshots.view("look below", "default/2/sha256:one")) == {"etc/hosts": b"one", "gone": b""}
    write(snapshots.prepare("box", "two"), {"mine": b"mine"})
    assert files_in(snapshots.mounts("box")) == {"etc/hosts": b"two", "mine": b"mine"}
    assert snapshots.mounts("look") == snapshots.mounts("look")
    assert keys(snapshots) == ["default/2/sha256:one", "two", "look", "look below", "box"]

    with mounted(snapshots.mounts("look")) as top, pytest.raises(OSError, match="Read-only file system"):
        (top / "new").touch()


@needs_root
def test_usage_is_of_own_files_only(snapshots):
    committed(snapshots, "one", "", {"a": b"12345"})
    assert snapshots.usage("one") == SnapshotUsage(5, 1)
    write(snapshots.prepare("box", "one"), {"dir/b": b"123"})
    assert snapshots.usage("box") == SnapshotUsage(3, 2)
    write(snapshots.mounts("box"), {"c": b"1"})
    assert snapshots.usage("box") == SnapshotUsage(4, 3)
    snapshots.view("look", "one")
    assert snapshots.usage("look") == SnapshotUsage(0, 0)
    snapshots.commit("two", "box")
    assert snapshots.usage("two") == SnapshotUsage(4, 3)
    with pytest.raises(SnapshotDoesNotExist):
        snapshots.usage("box")


def test_what_cannot_be_is_refused_and_changes_nothing(store, snapshots):
    snapshots.prepare("active")
    snapshots.view("view")
    snapshots.prepare("a")
    snapshots.commit("committed", "a")
    before = list(snapshots.walk()), store.driver.layer_ids()
    for make in (snapshots.prepare, snapshots.view):
        with pytest.raises(SnapshotExists, match="'active'"):
            make("active")
        with pytest.raises(SnapshotExists):
            make("committed")
        with pytest.raises(SnapshotDoesNotExist, match="parent snapshot 'none'"):
            make("new", "none")
        with pytest.raises(InvalidSnapshot, match="cannot be a parent: it is an active one"):
            make("new", "active")
        with pytest.raises(InvalidSnapshot, match="it is a view"):
            make("new", "view")
        for key in ("", "k" * 32769, "\udcff"):
            with pytest.raises(InvalidSnapshot):
                make(key)
        for labels in ({"a": "b" * (1 << 20)}, {"a": 1}, {"a": "\udcff"}):
            with pytest.raises(InvalidSnapshot):
                make("new", "", labels)
    with pytest.raises(SnapshotExists, match="'view'"):
        snapshots.commit("view", "active")
    with pytest.raises(SnapshotExists):
        snapshots.commit("active", "active")
    with pytest.raises(SnapshotDoesNotExist):
        snapshots.commit("new", "none")
    with pytest.raises(WrongSnapshotKind, match="not active, but a view"):
        snapshots.commit("new", "view")
    with pytest.raises(WrongSnapshotKind, match="committed already"):
        snapshots.commit("new", "committed")
    with pytest.raises(WrongSnapshotKind, match="make a view of it"):
        snapshots.mounts("committed")
    for call in (snapshots.mounts, snapshots.stat, snapshots.usage, snapshots.remove):
        with pytest.raises(SnapshotDoesNotExist, match="'none'"):
            call("none")
    with pytest.raises(SnapshotDoesNotExist):
        snapshots.update("none", {})
    assert (list(snapshots.walk()), store.driver.layer_ids()) == before


def test_removal_is_from_the_top(store, snapshots):
    snapshots.prepare("a")
    snapshots.commit("one", "a")
    snapshots.prepare("b", "one")
    snapshots.commit("two", "b")
    snapshots.view("look", "two")
    for key in ("one", "two"):
        with pytest.raises(SnapshotHasChildren, match=f"'{key}' has children"):
            snapshots.remove(key)
    for key in ("look", "two", "one"):
        snapshots.remove(key)
        with pytest.raises(SnapshotDoesNotExist):
            snapshots.stat(key)
    assert store.driver.layer_ids() == []
    assert keys(snapshots) == []


def test_labels_are_updated_as_the_fields_say(snapshots):
    snapshots.prepare("a", "", {"x": "1", "y.z": "2"})
    assert dict(snapshots.update("a", {"n": "3"}).labels) == {"n": "3"}
    assert dict(snapshots.update("a", {"x": "1", "y.z": "2", "w": "0"}, ["labels"]).labels) == {
        "x": "1",
        "y.z": "2",
        "w": "0",
    }
    after = snapshots.update("a", {"x": "5", "y.z": "6"}, ["labels.y.z", "labels.w"])
    assert dict(after.labels) == {"x": "1", "y.z": "6"}
    assert after.updated > after.created
    assert snapshots.stat("a") == after
    for fields in (["parent"], ["labels."], ["labelsx"], ["labels.x", "kind"]):
        with pytest.raises(InvalidSnapshot, match="cannot be changed"):
            snapshots.update("a", {"x": "9"}, fields)
    assert snapshots.stat("a") == after


def test_all_is_the_same_after_it_was_opened_again(store, open_store):
    with Snapshots(store) as snapshots:
        mounts = snapshots.prepare("a", "", {"x": "ü/ : \0 \n"})
        snapshots.prepare("b")
        snapshots.commit("name / : \0", "b", {})
        before = list(snapshots.walk())
        with pytest.raises(SnapshotsInUse, match=str(store.root)):
            Snapshots(store)
        with pytest.raises(SnapshotsInUse):
            Snapshots(open_store())
    with Snapshots(open_store()) as snapshots:
        assert list(snapshots.walk()) == before
        assert snapshots.mounts("a") == mounts


def test_a_layer_of_the_store_is_offered_and_kept(store, snapshots):
    base = register(store, BASE)
    middle = register(store, MIDDLE, base)
    labels = {REF: base.chain_id, "other": "1"}
    with pytest.raises(SnapshotExists, match=base.chain_id):
        snapshots.prepare("extract 1", "", labels)
    (one,) = snapshots.walk()
    assert (one.kind, one.parent, dict(one.labels), one.chain_id) == (SnapshotKind.COMMITTED, "", labels, base.chain_id)
    with pytest.raises(SnapshotExists):
        snapshots.prepare("extract 2", "", labels)
    assert keys(snapshots) == [one.key]  # another name space gets the same

    snapshots.prepare("unpacked", "", {})
    snapshots.commit(f"default/5/{base.chain_id}", "unpacked")
    for parent in (one.key, f"default/5/{base.chain_id}"):
        with pytest.raises(SnapshotExists):
            snapshots.prepare("extract 3", parent, {REF: middle.chain_id})
        top = list(snapshots.walk())[-1]
        assert (top.parent, top.chain_id) == (parent, middle.chain_id)
    assert snapshots.usage(top.key).size == middle.diff_size

    # What is not that layer is made as usual.
    snapshots.prepare("wrong parent", "", {REF: middle.chain_id})
    snapshots.prepare("unknown", "", {REF: f"sha256:{'0' * 64}"})
    snapshots.prepare("no digest", "", {REF: "x"})

    for layer in (middle, base):
        layer.close()
    assert collect_garbage(store) == []
    assert store.holders(middle.chain_id)[0] == f"snapshot {keys(snapshots)[2]!r}"
    snapshots.prepare("box", top.key)
    with mounted(snapshots.mounts("box")) as path:
        if store.driver_name != "overlay2" or os.geteuid() == 0:
            assert (path / "opt/tool").read_bytes() == b"tool" * 1000
    snapshots.remove("box")
    for snapshot in reversed(list(snapshots.walk())):
        snapshots.remove(snapshot.key)
    assert sorted(found.name for found in collect_garbage(store)) == sorted([base.chain_id, middle.chain_id])
    assert store.driver.layer_ids() == []


def test_layers_of_snapshots_are_no_strays(store, open_store):
    with Snapshots(store) as snapshots:
        snapshots.prepare("a")
        snapshots.commit("one", "a")
        snapshots.prepare("box", "one")
        snapshots.view("empty")
        assert collect_garbage(open_store()) == []
    assert collect_garbage(store) == []
    with Snapshots(store) as snapshots:
        snapshots.mounts("box")
        assert snapshots.view("look", "one")
