"""One root with the layers of several drivers: what is done under one of them leaves the others' alone."""

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
from layerstore_core.maintenance.check import check_store, repair
from layerstore_core.maintenance.gc import collect_garbage
from layerstore_core.store.strays import Strays
from tests.driver_roots import btrfs_file_system, mounts_below, remove_root, why_not
from tests.images.archives import ImageSpec, oci_files, tar_files
from tests.store.layers import BASE, MIDDLE, TOP, chain, export, register, tar_of

OTHER = tar_of({"other": b"a layer that the other driver has not"})


class Root:
    """A root, and its stores by driver."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        self.path = path
        self._stack = stack

    def open(self, driver: str, *, read_only: bool = False) -> LayerStore:
        config = StoreConfig(root=self.path, driver=driver, durability="none")
        return self._stack.enter_context(LayerStore.open(config, read_only=read_only))

    def state(self, kind: str, driver: str = "") -> Path:
        """Where our own state of a driver is; without a driver, where earlier versions had it."""
        return self.path / "layerstore" / kind / driver

    def make_old(self, kind: str, driver: str) -> None:
        """Let the state of a driver lie where earlier versions had it, which noted no driver."""
        shutil.rmtree(self.state("drivers"), ignore_errors=True)
        for path in self.state(kind, driver).iterdir():
            path.rename(self.state(kind) / path.name)
        self.state(kind, driver).rmdir()


@pytest.fixture(params=[("vfs", "overlay2"), ("overlay2", "vfs"), ("btrfs", "vfs")], ids="-".join)
def pair(request: pytest.FixtureRequest) -> tuple[str, str]:
    """The driver under which something is done, and the one whose state must not notice."""
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
    return [removed.name for removed in collect_garbage(store)]


class TestPins:
    def test_a_pin_is_of_one_driver_s_layer(self, here: LayerStore, there: LayerStore) -> None:
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

    def test_a_check_tells_nothing_of_another_s(self, here: LayerStore, there: LayerStore) -> None:
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

    def test_an_old_pin_dangles_only_where_no_driver_has_the_layer(
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

    def test_no_pin_dangles_where_the_records_are_lost(self, root: Root, pair: tuple[str, str]) -> None:
        """They may be put back from a backup, and need their pins then."""
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

    def test_an_unpin_that_cannot_pin_for_the_others_changes_nothing(
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
    def test_a_handle_keeps_its_own_driver_s_layer(self, here: LayerStore, there: LayerStore) -> None:
        layer, same = register(here, BASE), register(there, BASE)
        assert here.holders(layer.chain_id) == ["1 open handle(s)"]
        assert [gone.chain_id for gone in here.release(layer)] == [layer.chain_id]
        assert export(same) == BASE

    def test_names_of_writable_layers_and_image_records_are_locked_apart(
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
    def test_opening_ends_no_mount_of_another_s(
        self, root: Root, pair: tuple[str, str], here: LayerStore, there: LayerStore
    ) -> None:
        """Not even its note goes, which the other needs to end it."""
        there.create_rw_layer("box").mount()
        mount_id = there.mount_id("box")
        # As if the process had died: nobody has the mount in use, and only the note tells of it.
        there.context.locks.release(f"mounted {mount_id}", there.driver._mounts)
        mounted = mounts_below(root.path)
        root.open(pair[0]).cleanup()
        assert mounts_below(root.path) == mounted
        assert os.listdir(root.state("mounts", pair[1])) == [mount_id]
        root.open(pair[1])
        assert mounts_below(root.path) == []
        assert os.listdir(root.state("mounts", pair[1])) == []

    @pytest.mark.parametrize("kept", [False, True])
    def test_an_old_note_is_the_driver_s_that_has_the_layer(
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

    def test_an_old_kept_mount_is_not_ended_by_a_reader(
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
    def test_removing_an_image_forgets_no_recipe_of_another_s(
        self, root: Root, pair: tuple[str, str], here: LayerStore, there: LayerStore, archive: bytes, old: bool
    ) -> None:
        for store in (here, there):
            Images(store).load(io.BytesIO(archive))
        if old:
            root.make_old("recipes", pair[0])
            root.make_old("recipes", pair[1])
        Images(here).remove("a:1")
        [layer] = there.layers().values()
        recipe = Images(there)._recipes.get(layer.diff_id)
        assert recipe is not None
        assert gzip.decompress(b"".join(recipe.encode([BASE]))) == BASE

    def test_an_old_recipe_is_used_and_goes_with_the_layer(
        self, root: Root, pair: tuple[str, str], there: LayerStore, archive: bytes
    ) -> None:
        images = Images(there)
        images.load(io.BytesIO(archive))
        root.make_old("recipes", pair[1])
        [layer] = there.layers().values()
        assert images._recipes.get(layer.diff_id) is not None
        images.load(io.BytesIO(archive))
        assert not root.state("recipes", pair[1]).exists()
        images.remove("a:1")
        assert os.listdir(root.state("recipes")) == []


class TestQuarantine:
    @pytest.mark.parametrize("old", [False, True])
    def test_what_was_set_aside_keeps_its_layers(
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
    def test_another_s_check_is_gone_on_with(
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
        told: list[tuple[int, int]] = []
        assert check_store(there, full=True, resume=True, progress=lambda *count: told.append(count)) == []
        assert told[0] == (known, 3)
        assert not journal.parent.exists()


def test_half_done_things_are_the_driver_s_that_began_them(
    root: Root, pair: tuple[str, str], here: LayerStore, there: LayerStore
) -> None:
    """Transactions and deletions that were left, and layers that no record names."""
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
