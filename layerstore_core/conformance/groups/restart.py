"""Group "restart": another instance, at the same time or later, finds all layers."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import ClassVar, Final

import pytest

from layerstore_core.conformance.base import ConformanceTests
from layerstore_core.conformance.groups.lifecycle.layers import raw_get, raw_put
from layerstore_core.conformance.instruments.home import status_of_files
from layerstore_core.conformance.leftovers import mounts_below
from layerstore_core.conformance.processes import die, in_child
from layerstore_core.conformance.rig import DriverRig, read_all
from layerstore_core.conformance.tars import directory, file, tar_of, whiteout
from layerstore_core.conformance.trees import must_be

_BASE: Final = [directory(b"d"), file(b"d/one", b"1"), file(b"d/two", b"2")]
_TOP: Final = [file(b"d/three", b"3"), whiteout(b"d/one")]


class RestartTests(ConformanceTests):
    """Tests of a second instance on the same home."""

    group: ClassVar = "restart"

    def test_layers_after_a_restart(self, bench: DriverRig) -> None:
        """A new instance on the same home has every layer, with every file.

        Otherwise images are gone when the service starts again.
        """
        base = bench.layer(_BASE)
        top = bench.layer(_TOP, base)
        trees = [bench.tree(base), bench.tree(top)]
        ids = bench.layer_ids()
        bench.reopen()
        for layer, before in zip((base, top), trees, strict=True):
            assert bench.driver.exists(layer), "a layer does not exist any more"
            must_be(bench.tree(layer), before, "a layer after a restart")
        assert bench.layer_ids() == ids

    def test_writable_layers_after_a_restart(self, bench: DriverRig) -> None:
        """A new instance on the same home has every writable layer, with all of its changes.

        Otherwise containers lose their data when the service starts again.
        """
        base = bench.layer(_BASE)
        layer = bench.writable(base)
        with bench.driver.mounted(layer) as path:
            Path(path, "written").write_text("kept")
            Path(path, "d/one").unlink()
        before, changes, size = (
            bench.tree(layer),
            bench.driver.changes(layer, base),
            bench.driver.diff_size(layer, base),
        )
        diff = bench.diff(layer, base)
        bench.reopen()
        must_be(bench.tree(layer), before, "a writable layer after a restart")
        assert bench.driver.changes(layer, base) == changes
        assert bench.driver.diff_size(layer, base) == size
        assert bench.diff(layer, base) == diff, "the diff of the same changes is another after a restart"

    def test_an_instance_that_only_reads(self, bench: DriverRig) -> None:
        """An instance whose context has `read_only` reads all layers like any other, and writes nothing.

        Otherwise a look at a store by a user who may only read it fails, or changes the store.
        """
        base = bench.layer(_BASE)
        top = bench.layer(_TOP, base)
        writable = bench.writable(top)
        with bench.driver.mounted(writable) as path:
            Path(path, "written").write_text("kept")
        pairs = ((base, ""), (top, base), (writable, top))
        wanted = [_read(bench, layer, parent) for layer, parent in pairs]
        ids = bench.layer_ids()
        bench.close()
        before = status_of_files(bench.driver.home)
        bench.driver = bench.open(read_only=True)
        for (layer, parent), found in zip(pairs, wanted, strict=True):
            assert bench.driver.exists(layer), "a layer does not exist for an instance that only reads"
            assert _read(bench, layer, parent) == found, "an instance that only reads shows another layer"
            bench.driver.metadata(layer)
        assert bench.layer_ids() == ids
        bench.driver.status()
        bench.close()
        after = status_of_files(bench.driver.home)
        changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
        assert not changed, f"an instance with read_only has written: {changed[:5]}"
        bench.driver = bench.open()

    def test_new_children_after_a_restart(self, bench: DriverRig) -> None:
        """A new instance can create children of the layers that a former instance has created, and can remove them.

        Otherwise an image that was pulled yesterday can be neither used nor deleted.
        """
        base = bench.layer(_BASE)
        wanted = bench.tree(bench.layer(_TOP, base))
        bench.reopen()
        top = bench.layer(_TOP, base)
        must_be(bench.tree(top), wanted, "a child of a layer of a former process", root=False)
        bench.driver.remove(top)
        assert not bench.driver.exists(top)

    def test_two_instances_at_once(self, bench: DriverRig) -> None:
        """Each of two instances sees at once what the other creates and removes.

        Otherwise a command that runs next to a service sees an old state, and damages the new one.
        """
        other = bench.open()
        base = bench.layer(_BASE)
        assert other.exists(base), "the other instance does not see a new layer"
        child = bench.new_id()
        other.create_read_write(child, base, "", {})
        with other.mounted(child) as path:
            Path(path, "written").write_text("by the other")
        with bench.driver.mounted(child) as path:
            assert Path(path, "written").read_text() == "by the other"
        bench.driver.remove(child)
        assert not other.exists(child), "the other instance still sees a layer that was removed"

    def test_put_unmounts_the_mount_of_another_instance(self, bench: DriverRig) -> None:
        """`put` unmounts a layer that any process has mounted, and `get` returns the path of an existing mount.

        Otherwise `layerstore rw umount` cannot end the mount of `rw mount`.
        """
        layer = bench.writable(bench.layer(_BASE))
        bench.close()
        ended = in_child(lambda report: report(raw_get(bench, layer, bench.open())))
        assert not ended.error, ended.error
        bench.driver = bench.open()
        assert raw_get(bench, layer) == ended.reported[0], "a mounted layer has another path for another process"
        assert sorted(os.listdir(ended.reported[0])) == ["d"]
        raw_put(bench, layer)
        assert not bench.mounts(), f"after put there is still mounted: {bench.mounts()}"

    def test_the_mount_of_a_killed_process(self, bench: DriverRig) -> None:
        """Opening a store unmounts what a killed process has left mounted, and keeps its data.

        Otherwise each crash leaves mounts that only an administrator finds.
        """
        with bench.store() as store:
            base = store.register(io.BytesIO(tar_of(_BASE)))
            store.pin(base)
            store.create_rw_layer("work", base.chain_id)

        def mount_and_die() -> None:
            with bench.store() as store:
                path = store.get_rw_layer("work").mount()
                Path(path, "written").write_text("before the end")
                die()

        bench.close()
        assert in_child(lambda _: mount_and_die()).killed
        with bench.store() as store:
            assert not mounts_below(bench.root), f"still mounted: {mounts_below(bench.root)}"
            rw = store.get_rw_layer("work")
            with rw.mounted() as path:
                assert Path(path, "written").read_text() == "before the end"
            store.release_rw_layer(rw)
            store.unpin(base.chain_id)
            store.release(store.get(base.chain_id))
        bench.driver = bench.open()

    def test_a_store_that_is_opened_again(self, bench: DriverRig) -> None:
        """A store that is opened again exports every layer bit for bit, and has every writable layer.

        Otherwise registered layers are lost.
        """
        with bench.store() as store:
            base = store.register(io.BytesIO(tar_of(_BASE)))
            top = store.register(io.BytesIO(tar_of(_TOP)), base.chain_id)
            rw = store.create_rw_layer("work", top.chain_id, init=_init)
            with rw.mounted() as path:
                Path(path, "written").write_text("kept")
            names = [base.chain_id, top.chain_id]
        with bench.store() as store:
            exported = [read_all(store.get(name).tar_stream()) for name in names]
            assert exported == [tar_of(_BASE), tar_of(_TOP)]
            rw = store.get_rw_layer("work")
            assert [str(one) for one in rw.changes()] == ["A /written"]
            store.release_rw_layer(rw)

    @pytest.mark.parametrize("what", ["layer", "writable"])
    def test_removed_layers_after_a_restart(self, bench: DriverRig, what: str) -> None:
        """A layer that was removed does not come back with a new instance.

        Otherwise deleted data show again.
        """
        base = bench.layer(_BASE)
        layer = bench.layer(_TOP, base) if what == "layer" else bench.writable(base)
        bench.driver.remove(layer)
        bench.reopen()
        assert not bench.driver.exists(layer)
        assert layer not in (bench.layer_ids() or set())


def _read(bench: DriverRig, layer: str, parent: str) -> tuple[object, ...]:
    """Return all that can be read of a layer."""
    driver = bench.driver
    return (
        bench.tree(layer),
        bench.diff(layer, parent),
        [str(change) for change in driver.changes(layer, parent)],
        driver.usage(layer, parent),
        driver.check_layer(layer, parent),
        driver.parent_of(layer, parent),
    )


def _init(path: str) -> None:
    Path(path, "init").write_text("by the engine")
