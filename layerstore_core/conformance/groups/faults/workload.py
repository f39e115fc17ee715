"""What the tests of faults do with a store until a fault stops them, and what must be there afterwards."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Final

from layerstore_core.conformance.leftovers import mounts_below
from layerstore_core.conformance.processes import Report
from layerstore_core.conformance.rig import DriverRig, read_all
from layerstore_core.conformance.tars import directory, file, tar_of, whiteout
from layerstore_core.maintenance.check import check_store
from layerstore_core.maintenance.gc import collect_garbage
from layerstore_core.store.store import LayerStore

BASE: Final = tar_of([directory(b"d"), file(b"d/one", b"1" * 3000), file(b"d/two", b"2")])
TOP: Final = tar_of([file(b"d/three", b"3" * 3000), whiteout(b"d/two")])
OTHER: Final = tar_of([file(b"other", b"o" * 3000)])


def use_store(store: LayerStore, report: Report) -> None:
    """Use all that a store can do. Report a line for each operation that has succeeded and must not be lost."""
    base = store.register(io.BytesIO(BASE))
    store.pin(base)
    report(f"layer {base.chain_id}")
    top = store.register(io.BytesIO(TOP), base.chain_id)
    store.pin(top)
    report(f"layer {top.chain_id}")
    rw = store.create_rw_layer("work", top.chain_id, init=_init)
    report("writable work")
    with rw.mounted() as path:
        Path(path, "written").write_bytes(b"w" * 3000)
        Path(path, "d/one").unlink()
    report("written work")
    rw.changes()
    rw.size()
    with rw.tar_stream() as stream:
        committed = store.register(stream, top.chain_id)
    store.pin(committed)
    report(f"layer {committed.chain_id}")
    spare = store.create_rw_layer("spare", base.chain_id)
    report("deleting spare")
    store.release_rw_layer(spare)
    report("deleted spare")
    doomed = store.register(io.BytesIO(OTHER), base.chain_id)
    store.release(doomed)
    report(f"deleted {doomed.chain_id}")
    read_all(top.tar_stream())


def _init(path: str) -> None:
    Path(path, "init").write_bytes(b"by the engine")


def check_root(bench: DriverRig, root: Path, reported: list[str], after: str) -> None:
    """Open the root again, collect garbage, and check that all that was reported is there, and nothing else."""
    with bench.store(root=root) as store:
        collect_garbage(store)
        layers = store.layers()
        for line in reported:
            what, _, name = line.partition(" ")
            if what == "layer":
                assert name in layers, f"after {after}: the layer {name} is lost, though its registration had returned"
            elif what == "writable":
                assert name in store.rw_layers(), f"after {after}: the writable layer {name!r} is lost"
            elif what == "written":
                with store.get_rw_layer(name) as rw, rw.mounted() as path:
                    assert Path(path, "written").read_bytes() == b"w" * 3000, f"after {after}: written data are lost"
                    assert not Path(path, "d/one").exists(), f"after {after}: a deleted file is back"
            elif what == "deleted":
                assert name not in layers and name not in store.rw_layers(), f"after {after}: {name} is back"
        # A deletion that has failed may be half done: the record is still there for another attempt.
        deleting = {
            f"writable layer {line.removeprefix('deleting ')!r}" for line in reported if line.startswith("deleting ")
        }
        findings = [finding for finding in check_store(store, full=True) if finding.subject not in deleting]
        assert not findings, f"after {after}, and gc: {findings[0]}"
        _nothing_is_left(store, after)
        mounts = mounts_below(root)
        assert not mounts, f"after {after}: still mounted: {mounts}"
        _remove_all(store)
        _nothing_is_left(store, f"{after}, and all layers were removed")


def _nothing_is_left(store: LayerStore, after: str) -> None:
    """Check that the driver has the layers of the store, those of its writable layers, and nothing else."""
    found = store.driver.layer_ids()
    if found is None:
        return
    wanted = {layer.cache_id for layer in store.layers().values()}
    writable: set[str] = set()
    for name in store.rw_layers():
        record = store.context.db.read_mount(name)
        writable |= {record.mount_id, *([record.init_id] if record.init_id else [])}
    stray, lost = sorted(set(found) - wanted - writable), sorted(wanted - set(found))
    assert not stray, f"after {after}, and gc: the driver still has {stray[0]}, which no record names"
    assert not lost, f"after {after}: the driver does not have {lost[0]}, which a record names"


def _remove_all(store: LayerStore) -> None:
    for name in store.rw_layers():
        store.release_rw_layer(store.get_rw_layer(name))
    for pin in store.pins():
        store.unpin(pin)
    collect_garbage(store)
    assert store.layers() == {}, "layers without a reference are left"
