"""One root with the layers of several drivers: an operation with one driver does not change the state of the others."""

from __future__ import annotations

import gzip
import io
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from layerstore_core import BadRecord, LayerDoesNotExist, LayerStore, StoreConfig
from layerstore_core.images import Images
from layerstore_core.images.keep.compressed import CompressedLayers
from layerstore_core.maintenance.check import check_store, repair
from layerstore_core.maintenance.gc import collect_garbage
from layerstore_core.store.strays import Strays
from tests.driver_roots import btrfs_file_system, mounts_below, remove_root, why_not
from tests.images.archives import ImageSpec, oci_files, tar_files
from tests.store.layers import BASE, MIDDLE, TOP, chain, export, register, tar_of

OTHER = tar_of({"other": b"a layer that only one driver has"})


class Root:
    """A root, with functions that open its stores and find the state of each driver."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        self.path = path
        self._stack = stack

    def open(self, driver: str, *, read_only: bool = False) -> LayerStore:
        """Open the store of a driver; the fixture closes it."""
        config = StoreConfig(root=self.path, driver=driver, durability="none")
        return self._stack.enter_context(LayerStore.open(config, read_only=read_only))

    def state(self, kind: str, driver: str = "") -> Path:
        """Return the directory of layerstore's own state of a driver; without a driver, the one of earlier versions."""
        return self.path / "layerstore" / kind / driver

    def make_old(self, kind: str, driver: str) -> None:
        """Move the state of a driver to where earlier versions had it, which did not record the driver."""
        shutil.rmtree(self.state("drivers"), ignore_errors=True)
        for path in self.state(kind, driver).iterdir():
            path.rename(self.state(kind) / path.name)
        self.state(kind, driver).rmdir()


@pytest.fixture(params=[("vfs", "overlay2"), ("overlay2", "vfs"), ("btrfs", "vfs")], ids="-".join)
def pair(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Return the driver with which operations are done, and the driver whose state must not change."""
    for driver in request.param:
        if reason := why_not(driver):
            pytest.skip(f"{driver}: {reason}")
    pair: tuple[str, str] = request.param
    return pair


@pytest.fixture
def root(pair: tuple[str, str], tmp_path: Path) -> Iterator[Root]:
    with ExitStack() as stack:
        top = stack.enter_context(btrfs_file_system()) if "btrfs" in pair else tmp_path
        stack.callback(remove_root, top / "root")
        yield Root(top / "root", stack.enter_context(ExitStack()))


@pytest.fixture
def here(root: Root, pair: tuple[str, str]) -> LayerStore:
    return root.open(pair[0])


@pytest.fixture
def there(root: Root, pair: tuple[str, str]) -> LayerStore:
    return root.open(pair[1])


def collected(store: LayerStore) -> list[str]:
    """Collect garbage and return the names of what was removed."""
    return [removed.name for removed in collect_garbage(store)]


class TestPins:
    def test_a_pin_keeps_the_layer_of_one_driver(self, here: LayerStore, there: LayerStore) -> None:
        (base,), (same,) = chain(here, BASE), chain(there, BASE)
        here.pin(base)
        there.pin(same)
        there.pin(register(there, OTHER))
        assert here.pins() == {base.chain_id}
        here.unpin(base.chain_id)
        assert [gone.chain_id for gone in here.release(base)] == [base.chain_id]
        assert there.release(same) == []
        assert collected(there) == []
        assert len(there.pins()) == 2

    def test_a_check_reports_nothing_of_another_driver(self, here: LayerStore, there: LayerStore) -> None:
        there.pin(register(there, BASE))
        there.create_rw_layer("box")
        for full in (False, True):
            assert check_store(here, full=full) == []
        assert collected(here) == []
        assert check_store(there, full=True) == []
        assert (len(there.pins()), there.rw_layers()) == (1, ["box"])

    def test_an_old_pin_keeps_the_layer_in_each_driver_that_has_it(
        self, root: Root, pair: tuple[str, str], here: LayerStore, there: LayerStore
    ) -> None:
        layer = register(here, BASE)
        other = register(there, OTHER)
        here.pin(layer)
        there.pin(other)
        for driver in pair:
            root.make_old("pins", driver)
        same = register(there, BASE)
        assert here.pins() == {layer.chain_id}
        assert there.pins() == {same.chain_id, other.chain_id}
        for store, handle in ((here, layer), (there, same)):
            assert store.holders(handle.chain_id) == ["its pin", "1 open handle(s)"]
            assert store.release(handle) == []
            assert collected(store) == []
            assert check_store(store) == []
        with pytest.raises(LayerDoesNotExist):
            here.unpin(other.chain_id)
        here.unpin(layer.chain_id)
        assert collected(here) == [layer.chain_id]
        assert there.pins() == {same.chain_id, other.chain_id}
        assert os.listdir(root.state("pins", pair[1])) == [same.chain_id.removeprefix("sha256:")]
        there.unpin(same.chain_id)
        assert collected(there) == [same.chain_id]

    def test_an_old_pin_is_dangling_only_if_no_driver_has_the_layer(
        self, root: Root, pair: tuple[str, str], here: LayerStore, there: LayerStore
    ) -> None:
        layer = register(there, BASE)
        there.pin(layer)
        root.make_old("pins", pair[1])
        for store in (here, there):
            assert check_store(store) == []
        there.close()
        shutil.rmtree(root.path / "image" / pair[1])
        findings = check_store(here)
        assert [(finding.code, finding.subject) for finding in findings] == [("dangling-pin", layer.chain_id)]
        assert repair(here, findings) == []
        assert check_store(here) == []

    def test_no_pin_is_dangling_if_all_records_are_lost(self, root: Root, pair: tuple[str, str]) -> None:
        """The records may be restored from a backup, and need their pins then."""
        store = root.open(pair[0])
        store.pin(register(store, BASE))
        store.close()
        os.rename(root.path / "image", root.path / "backup")
        store = root.open(pair[0])
        findings = check_store(store)
        assert {finding.code for finding in findings} == {"records-lost", "unreadable-reference"}
        repair(store, findings)
        store.close()
        os.rename(root.path / "backup", root.path / "image")
        store = root.open(pair[0])
        assert (len(store.pins()), collected(store), check_store(store)) == (1, [], [])

    def test_an_unpin_that_cannot_keep_the_pin_of_the_other_driver_changes_nothing(
        self, root: Root, pair: tuple[str, str], here: LayerStore, there: LayerStore
    ) -> None:
        layer, same = register(here, BASE), register(there, BASE)
        here.pin(layer)
        root.make_old("pins", pair[0])
        root.state("pins", pair[1]).rmdir()
        root.state("pins", pair[1]).write_text("in the way")
        with pytest.raises(BadRecord):
            here.unpin(layer.chain_id)
        assert here.holders(layer.chain_id) == ["its pin", "1 open handle(s)"]
        assert there.holders(same.chain_id)[0].startswith("perhaps a pin, which cannot be read")


class TestHandles:
    def test_a_handle_keeps_only_the_layer_of_its_driver(self, here: LayerStore, there: LayerStore) -> None:
        layer, same = register(here, BASE), register(there, BASE)
        assert here.holders(layer.chain_id) == ["1 open handle(s)"]
        assert [gone.chain_id for gone in here.release(layer)] == [layer.chain_id]
        assert export(same) == BASE

    def test_drivers_have_separate_locks_for_writable_layers_and_image_records(
        self, here: LayerStore, there: LayerStore
    ) -> None:
        def meanwhile(path: str) -> None:
            there.create_rw_layer("box")
            with there.context.changing_images():
                pass

        with here.context.changing_images():
            here.create_rw_layer("box", init=meanwhile)
        assert here.mount_id("box") != there.mount_id("box")


class TestMounts:
    def test_opening_a_store_unmounts_nothing_of_another_driver(
        self, root: Root, pair: tuple[str, str], here: LayerStore, there: LayerStore
    ) -> None:
        """The file that records the mount stays too, because the other driver needs it to unmount."""
        there.create_rw_layer("box").mount()
        mount_id = there.mount_id("box")
        # As if the process had died: no process uses the mount, and only the file in `mounts` records it.
        there.context.locks.release(f"mounted {mount_id}", there.driver._mounts)
        mounted = mounts_below(root.path)
        root.open(pair[0]).cleanup()
        assert mounts_below(root.path) == mounted
        assert os.listdir(root.state("mounts", pair[1])) == [mount_id]
        root.open(pair[1])
        assert mounts_below(root.path) == []
        assert os.listdir(root.state("mounts", pair[1])) == []

    @pytest.mark.parametrize("kept", [False, True])
    def test_an_old_record_of_a_mount_belongs_to_the_driver_with_the_layer(
        self, root: Root, pair: tuple[str, str], here: LayerStore, there: LayerStore, kept: bool
    ) -> None:
        rw = there.create_rw_layer("box")
        rw.mount(keep=kept)
        mount_id = there.mount_id("box")
        if not kept:
            there.context.locks.release(f"mounted {mount_id}", there.driver._mounts)
        root.make_old("mounts", pair[1])
        mounted = mounts_below(root.path)
        root.open(pair[0]).cleanup()
        assert mounts_below(root.path) == mounted
        assert os.listdir(root.state("mounts")) == [mount_id]
        again = root.open(pair[1])
        assert mounts_below(root.path) == (mounted if kept else [])
        if kept:
            again.get_rw_layer("box").unmount()
            assert mounts_below(root.path) == []
        assert os.listdir(root.state("mounts")) == [pair[1]]
        assert os.listdir(root.state("mounts", pair[1])) == []

    def test_a_read_only_store_does_not_unmount_an_old_kept_mount(
        self, root: Root, pair: tuple[str, str], there: LayerStore
    ) -> None:
        there.create_rw_layer("box").mount(keep=True)
        root.make_old("mounts", pair[1])
        mounted = mounts_below(root.path)
        with root.open(pair[1], read_only=True).driver.mounted(there.mount_id("box")):
            pass
        assert mounts_below(root.path) == mounted


class TestRecipes:
    @pytest.fixture
    def archive(self) -> bytes:
        packed = gzip.compress(BASE, mtime=7)
        return tar_files(oci_files(ImageSpec((BASE,), ("a:1",), (packed,))))

    @pytest.mark.parametrize("old", [False, True])
    def test_removing_an_image_keeps_the_recipes_of_another_driver(
        self, root: Root, pair: tuple[str, str], here: LayerStore, there: LayerStore, archive: bytes, old: bool
    ) -> None:
        for store in (here, there):
            Images(store).load(io.BytesIO(archive))
        if old:
            root.make_old("recipes", pair[0])
            root.make_old("recipes", pair[1])
        Images(here).remove("a:1")
        [layer] = there.layers().values()
        recipe = CompressedLayers(there).recipes.get(layer.diff_id)
        assert recipe is not None
        assert gzip.decompress(b"".join(recipe.encode([BASE]))) == BASE

    def test_an_old_recipe_is_used_and_deleted_with_its_layer(
        self, root: Root, pair: tuple[str, str], there: LayerStore, archive: bytes
    ) -> None:
        images = Images(there)
        images.load(io.BytesIO(archive))
        root.make_old("recipes", pair[1])
        [layer] = there.layers().values()
        assert CompressedLayers(there).recipes.get(layer.diff_id) is not None
        images.load(io.BytesIO(archive))
        assert not root.state("recipes", pair[1]).exists()
        images.remove("a:1")
        assert os.listdir(root.state("recipes")) == []


class TestQuarantine:
    @pytest.mark.parametrize("old", [False, True])
    def test_a_record_in_quarantine_keeps_its_driver_layer(
        self, root: Root, pair: tuple[str, str], here: LayerStore, there: LayerStore, old: bool
    ) -> None:
        layer = register(there, BASE)
        record = there.context.db.layer_path(layer.chain_id)
        cache_id = layer.cache_id
        there.close()
        there = root.open(pair[1])
        there.context.quarantine.put(record, "layer")
        if old:
            root.make_old("quarantine", pair[1])
        assert (Strays(there.context).ids, collected(there)) == ([], [])
        assert (check_store(there), check_store(here)) == ([], [])
        [kept] = there.context.quarantine.entries() if old else root.state("quarantine", pair[1]).iterdir()
        shutil.rmtree(kept)
        assert collected(there) == [cache_id]


class TestInterruptedChecks:
    @pytest.mark.parametrize("old", [False, True])
    def test_a_check_of_another_driver_does_not_disturb_the_journal(
        self, root: Root, pair: tuple[str, str], here: LayerStore, there: LayerStore, old: bool
    ) -> None:
        class Interrupted(Exception):
            pass

        def interrupt(done: int, total: int) -> None:
            if done == 2:
                raise Interrupted

        for store in (here, there):
            chain(store, BASE, MIDDLE, TOP)
        with pytest.raises(Interrupted):
            check_store(there, full=True, progress=interrupt)
        journal = root.state("verified", pair[1])
        known = len(journal.read_text().splitlines())
        assert known
        if old:
            journal.rename(root.path / "journal")
            journal.parent.rmdir()
            (root.path / "journal").rename(journal.parent)
        assert check_store(here, full=True) == []
        reported: list[tuple[int, int]] = []
        assert check_store(there, full=True, resume=True, progress=lambda *count: reported.append(count)) == []
        assert reported[0] == (known, 3)
        assert not journal.parent.exists()


def test_unfinished_work_of_another_driver_is_left_alone(
    root: Root, pair: tuple[str, str], here: LayerStore, there: LayerStore
) -> None:
    """The other driver has an unfinished deletion, and a layer that no record names."""
    layer = register(there, BASE)
    with there.context.db.begin_deletion(layer.chain_id):
        pass
    there.driver.create("a" * 64, "", {})
    before = sorted(os.listdir(there.context.db.path / "sha256"))
    again = root.open(pair[0])
    again.cleanup()
    assert (collected(again), check_store(again, full=True)) == ([], [])
    assert sorted(os.listdir(there.context.db.path / "sha256")) == before
    assert there.driver.exists(layer.cache_id)
    assert there.driver.exists("a" * 64)
