"""Garbage that `gc` collects, and findings that a check reports and a repair removes."""

from __future__ import annotations

import pytest

from layerstore_core.maintenance.check import check_store, repair
from layerstore_core.maintenance.gc import Removed, collect_garbage
from layerstore_core.records.transaction import StaleTransaction
from tests.store.faults import FailingCall, around
from tests.store.layers import BASE, MIDDLE, TOP, chain, export, register, tree, warm


def test_a_sound_store_has_no_findings_and_no_garbage(store):
    layers = chain(store, BASE, MIDDLE)
    store.create_rw_layer("box", layers[1].chain_id)
    reported = []
    assert check_store(store, full=True, progress=lambda done, total: reported.append((done, total))) == []
    assert reported == [(0, 2), (1, 2)]
    assert repair(store, []) == []
    assert collect_garbage(store) == []


def test_unreferenced_layers_are_collected(store, store_root):
    warm(store)
    before = tree(store_root)
    for layer in chain(store, BASE, MIDDLE, TOP):
        layer.close()
    found = collect_garbage(store, dry_run=True)
    assert [(one.kind, one.bytes) for one in found] == [("layer", 5), ("layer", 4014), ("layer", 1220)]
    assert len(store.layers()) == 3
    assert collect_garbage(store) == found
    assert tree(store_root) == before
    assert collect_garbage(store) == []


@pytest.mark.parametrize("reference", ["handle", "child's handle", "pin", "child's pin", "writable layer"])
def test_referenced_layers_are_not_collected(store, reference):
    base, top = chain(store, BASE, MIDDLE)
    if reference == "pin":
        store.pin(base)
    elif reference == "child's pin":
        store.pin(top)
    elif reference == "writable layer":
        store.create_rw_layer("box", base.chain_id).close()
    if reference != "handle":
        base.close()
    if reference != "child's handle":
        top.close()
    collected = [] if reference.startswith("child") else [Removed("layer", top.chain_id, 4014)]
    assert collect_garbage(store) == collected
    assert base.chain_id in store.layers()


def test_entries_that_another_collector_removes_meanwhile_have_no_size(store, monkeypatch):
    """A kill storm found this: `gc` asked for the size of a file that was already deleted."""
    stale = store.context.db.path / "tmp" / "write-set-gone"
    record = store.context.image_db.names_path.with_name(".tmp-gone")
    monkeypatch.setattr(type(store.context.db), "stale_transactions", lambda _: [StaleTransaction(stale, ())])
    monkeypatch.setattr(type(store.context.image_db), "half_done", lambda *_: [record])
    assert collect_garbage(store) == [Removed("half-done image record", str(record), 0)]


def test_an_interrupted_deletion_is_found_and_finished(store):
    layer = register(store, BASE)
    with around(store, "remove", before=FailingCall(OSError(16, "busy"))), pytest.raises(OSError, match="busy"):
        store.release(layer)
    [finding] = check_store(store)
    assert finding.code == "unfinished-removal"
    assert repair(store, [finding]) == []
    assert check_store(store) == []


def test_a_deletion_that_cannot_be_finished_stays_a_finding(store):
    layer = register(store, BASE)
    with around(store, "remove", before=FailingCall(OSError(16, "busy"), times=5)):
        with pytest.raises(OSError, match="busy"):
            store.release(layer)
        findings = check_store(store)
        assert repair(store, findings) == findings
        with pytest.raises(OSError, match="busy"):
            collect_garbage(store)
    assert [one.kind for one in collect_garbage(store)] == ["unfinished removal"]


def test_a_layer_missing_in_the_driver_is_found(store):
    layer = register(store, BASE)
    store.create_rw_layer("box")
    store.driver.remove(layer.cache_id)
    store.driver.remove(store.mount_id("box"))
    findings = check_store(store)
    assert [(finding.code, finding.subject) for finding in findings] == [
        ("missing-in-driver", layer.chain_id),
        ("missing-in-driver", "writable layer 'box'"),
    ]
    assert repair(store, findings) == findings
    assert all(finding.remedy and finding.code in str(finding) for finding in findings)


def test_a_changed_layer_is_found_by_a_full_check(store):
    layer, good = register(store, BASE), register(store, TOP)
    with store.driver.mounted(layer.cache_id) as path, open(f"{path}/etc/hosts", "w") as file:
        file.write("0.0.0.0 elsewhere\n")
    assert check_store(store) == []
    [finding] = check_store(store, full=True)
    assert (finding.code, finding.subject) == ("damaged", layer.chain_id)
    assert export(good) == TOP


def test_a_pin_without_its_layer_is_found(store):
    layer = register(store, BASE)
    store.pin(layer)
    store.driver.remove(layer.cache_id)
    path = store.context.db.begin_deletion(layer.chain_id)
    with path:
        path.finish()
    layer.close()
    [finding] = check_store(store)
    assert (finding.code, finding.subject) == ("dangling-pin", layer.chain_id)
    assert repair(store, [finding]) == []
    assert store.pins() == set()
