"""Tests of the group "faults": the power is cut, and all that is not on the disk is lost."""

from __future__ import annotations

import gc
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Final

import pytest

from layerstore_core.conformance.base import ConformanceTests
from layerstore_core.conformance.instruments import disks
from layerstore_core.conformance.rig import DriverRig, read_all
from layerstore_core.conformance.tars import directory, file, tar_of, whiteout
from layerstore_core.conformance.trees import Tree, must_be, read_tree
from layerstore_core.maintenance.check import check_store
from layerstore_core.maintenance.gc import collect_garbage
from layerstore_core.store.store import LayerStore

_TARS: Final = [
    tar_of([directory(b"d"), *(file(b"d/%02d" % number, b"%d" % number * 1000) for number in range(20))]),
    tar_of([file(b"d/00", b"changed" * 1000), whiteout(b"d/01"), file(b"new", b"n" * 100_000)]),
]
_WRITABLE: Final = "work"


class PowerTests(ConformanceTests):
    """Tests of durability."""

    group: ClassVar = "faults"

    def test_the_power_is_cut(self, bench: DriverRig) -> None:
        """With `durability = "full"`, a layer that was registered is complete after a power cut, also if it was used.

        Otherwise a power cut damages images that were pulled long ago. The store flushes the driver's file system
        before it commits a layer: what a driver writes later in a committed layer, it has to flush itself.
        """
        if reason := disks.why_not(bench.root):
            pytest.skip(f"power cuts: {reason}")
        with disks.small_disk(bench.root) as disk:
            cuts: list[tuple[Path, dict[str, Tree]]] = []
            with disk.mounted() as mount:
                with bench.store(root=mount / "store", durability="full") as store:
                    for promised in _use(store):
                        _write_metadata(mount)
                        cuts.append((disk.copy(), promised))
                gc.collect()
            for image, promised in cuts:
                disk.replace_by(image)
                with disk.mounted() as mount:
                    with bench.store(root=mount / "store", durability="full") as store:
                        _check(store, promised)
                    gc.collect()


def _use(store: LayerStore) -> Iterator[dict[str, Tree]]:
    """Use a store. After each step, yield the layers that it has promised to keep, with their trees."""
    promised: dict[str, Tree] = {}
    parent = ""
    for tar in _TARS:
        layer = store.register(io.BytesIO(tar), parent)
        store.pin(layer)
        parent = layer.chain_id
        with store.driver.mounted(layer.cache_id) as path:
            promised[parent] = read_tree(path)
        yield dict(promised)
    rw = store.create_rw_layer(_WRITABLE, parent)
    with rw.mounted() as path:
        promised[_WRITABLE] = read_tree(path)
    yield dict(promised)


def _check(store: LayerStore, promised: dict[str, Tree]) -> None:
    collect_garbage(store)
    layers = store.layers()
    for number, (name, wanted) in enumerate(promised.items()):
        if name == _WRITABLE:
            assert name in store.rw_layers(), "a writable layer is lost after a power cut"
            with store.get_rw_layer(name) as rw, rw.mounted() as path:
                must_be(read_tree(path), wanted, "a new writable layer after a power cut")
            continue
        assert name in layers, f"layer {number} of a chain, whose registration had returned, is lost after a power cut"
        with store.get(name) as layer, store.driver.mounted(layer.cache_id) as path:
            must_be(read_tree(path), wanted, f"layer {number} of a chain after a power cut")
            assert read_all(layer.tar_stream()) == _TARS[number], (
                f"layer {number} is exported wrongly after a power cut"
            )
    findings = check_store(store, full=True)
    assert not findings, f"after a power cut, and gc: {next(iter(findings))}"


def _write_metadata(mount: Path) -> None:
    """Flush another file. File systems with a journal then write all metadata, but not the data of other files."""
    with open(mount / "another", "wb", buffering=0) as stream:
        stream.write(os.urandom(16))
        os.fsync(stream.fileno())
