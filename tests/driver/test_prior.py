"""A store stays with the driver that it was made with, whatever else is installed."""

from __future__ import annotations

import io
import os
import shutil

import pytest

from layerstore_core import AmbiguousDriver, DriverNotFound, DriverNotSupported, LayerStore, StoreConfig
from layerstore_core.driver.prior import chosen_drivers, note_driver, prior_drivers
from layerstore_core.driver.select import select_driver
from layerstore_core.images import Images
from tests.images.archives import ImageSpec, docker_archive
from tests.store.layers import BASE, register


@pytest.fixture
def root(tmp_path):
    return tmp_path / "store"


@pytest.fixture(autouse=True)
def wanted(install, only):
    """Beside vfs there is a driver that is chosen before it, where nothing else decides."""
    only("vfs")
    install("wanted-driver", "class Driver(Driver):\n    priority = 100\n", drivers="wanted = wanted_driver:Driver")


def select(root, **settings):
    return select_driver(StoreConfig(root=root, **settings))


def use(root, driver, **settings):
    return LayerStore.open(StoreConfig(root=root, driver=driver, durability="none", **settings))


def layer(store):
    register(store, BASE)


def writable_layer(store):
    store.create_rw_layer("box")


def pin(store):
    """The records are lost."""
    store.pin(register(store, BASE))
    shutil.rmtree(store.root / "image")
    shutil.rmtree(store.driver.home)


def image_without_layers(store):
    Images(store).load(io.BytesIO(docker_archive(ImageSpec([], names=["empty:1"]))))
    assert store.chain_ids() == []


def name_without_image(store):
    image_without_layers(store)
    shutil.rmtree(store.root / "image" / store.driver_name / "imagedb")


def damaged_names(store):
    store.context.image_db.path.mkdir(parents=True, exist_ok=True)
    store.context.image_db.names_path.write_text("{")


def set_aside(store):
    made = register(store, BASE)
    store.context.quarantine.put(store.context.db.layer_path(made.chain_id), "layer")
    shutil.rmtree(store.root / "image")


def lost_records(store):
    layer(store)
    shutil.rmtree(store.root / "image")


STATES = [
    layer, writable_layer, pin, image_without_layers, name_without_image, damaged_names, set_aside, lost_records,
]  # fmt: skip


@pytest.mark.parametrize("driver", ["vfs", "wanted"])
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("noted", [True, False], ids=["", "earlier version"])
def test_one_driver_s_state(root, driver, state, noted):
    with use(root, driver) as store:
        state(store)
    if not noted:
        shutil.rmtree(root / "layerstore" / "drivers")
        (root / "layerstore" / "tmp").mkdir(exist_ok=True)
    assert prior_drivers(root) == chosen_drivers(root) == [driver]
    assert select(root) == driver
    with LayerStore.open(root=root) as store:
        assert store.driver_name == driver


@pytest.mark.parametrize("state", STATES)
def test_two_drivers_states_are_an_error_that_names_both(root, state):
    with use(root, "vfs") as store:
        state(store)
    if state in (pin, set_aside, lost_records):  # the records' directory is both drivers'
        (root / "image" / "wanted" / "layerdb" / "sha256" / "something").mkdir(parents=True)
    else:
        with use(root, "wanted") as store:
            layer(store)
    with pytest.raises(AmbiguousDriver, match="several drivers: vfs, wanted; name the one"):
        select(root)
    for driver in ("vfs", "wanted"):
        assert select(root, driver=driver) == driver


def test_an_empty_store_stays_with_its_driver_until_another_has_state(root):
    with use(root, "vfs"):
        pass
    assert (prior_drivers(root), select(root)) == ([], "vfs")
    with use(root, "wanted") as store:
        layer(store)
    assert select(root) == "wanted"
    with use(root, "wanted") as store:
        store.release(store.get(store.chain_ids()[0]))
    with pytest.raises(AmbiguousDriver, match="vfs, wanted"):
        select(root)


def test_an_emptied_store_of_an_earlier_version_stays_with_its_driver(root):
    with use(root, "vfs") as store:
        store.release(register(store, BASE))
    shutil.rmtree(root / "layerstore" / "drivers")
    assert (prior_drivers(root), select(root)) == ([], "vfs")


def test_opening_a_store_that_is_not_to_be_made_notes_nothing(root):
    with use(root, "vfs") as store:
        layer(store)
    with LayerStore.open(StoreConfig(root=root, driver="wanted"), create=False):
        pass
    with LayerStore.open(StoreConfig(root=root, driver="wanted"), read_only=True):
        pass
    assert os.listdir(root / "layerstore" / "drivers") == ["vfs"]


def test_naming_another_driver_in_a_store_of_an_earlier_version(root):
    """Whose vfs state has no note, and counts all the same."""
    with use(root, "vfs") as store:
        layer(store)
    shutil.rmtree(root / "layerstore" / "drivers")
    with use(root, "wanted") as store:
        layer(store)
    with pytest.raises(AmbiguousDriver, match="vfs, wanted"):
        select(root)


def test_the_order_of_priority_is_for_new_stores(root):
    with use(root, "vfs") as store:
        layer(store)
    assert select(root, driver_priority=("wanted", "vfs")) == "vfs"


@pytest.mark.parametrize("state", [layer, lambda store: None], ids=["with layers", "empty"])
def test_a_driver_that_is_not_installed_any_more(root, state, only):
    with use(root, "vfs") as store:
        state(store)
    only()
    with pytest.raises(DriverNotFound, match=r"has the state of driver 'vfs', which cannot be used.*no driver 'vfs'"):
        LayerStore.open(root=root)
    with LayerStore.open(root=root, driver="wanted") as store:
        assert store.chain_ids() == []


def test_a_driver_that_does_not_work_here_any_more(root, install):
    source = """
        class Driver(Driver):
            def __init__(self, context):
                super().__init__(context)
                if (self.home / "broken").exists():
                    raise DriverNotSupported("needs more")
    """
    install("moody-driver", source, drivers="moody = moody_driver:Driver")
    with use(root, "moody") as store:
        layer(store)
    (root / "moody" / "broken").touch()
    with pytest.raises(DriverNotSupported, match="needs more") as caught:
        LayerStore.open(root=root)
    assert "has the state of driver 'moody'" in "".join(caught.value.__notes__)


def test_a_driver_whose_entry_point_has_another_name_than_its_directories(root, install):
    install("told-driver", "class Driver(Driver):\n    driver_name = 'on-disk'\n", drivers="told = told_driver:Driver")
    install("false-driver", "class Driver(Driver):\n    driver_name = 'x'\n", drivers="on-disk = false_driver:Driver")
    with use(root, "told") as store:
        layer(store)
    assert (chosen_drivers(root), select(root)) == (["on-disk"], "told")
    with LayerStore.open(root=root) as store:
        assert len(store.chain_ids()) == 1


class TestRootsOfDocker:
    @pytest.fixture
    def root(self, root):
        """A daemon took vfs for it, when nothing else worked."""
        with use(root, "vfs") as store:
            layer(store)
        shutil.rmtree(root / "layerstore")
        (root / "volumes").mkdir()
        (root / "volumes" / "metadata.db").touch()
        return root

    def test_vfs_state_does_not_count(self, root):
        for _ in range(2):
            assert (prior_drivers(root), select(root)) == (["vfs"], "wanted")
            with LayerStore.open(StoreConfig(root=root, driver="vfs"), create=False):
                pass  # makes the lock file
        with LayerStore.open(root=root, durability="none") as store:
            assert store.driver_name == "wanted"
            layer(store)
        assert select(root) == "wanted"

    def test_nor_where_vfs_is_not_installed(self, root, only):
        only()
        assert select(root) == "wanted"
        with use(root, "wanted") as store:
            layer(store)
        assert select(root) == "wanted"

    def test_vfs_state_of_a_store_that_was_made_with_it_counts(self, root):
        with use(root, "vfs"):
            pass
        assert select(root) == "vfs"
        with use(root, "wanted") as store:
            layer(store)
        with pytest.raises(AmbiguousDriver, match="vfs, wanted"):
            select(root)

    def test_a_pin_tells_of_an_earlier_version(self, root):
        (root / "layerstore" / "tmp").mkdir(parents=True)
        assert select(root) == "wanted"
        with LayerStore.open(StoreConfig(root=root, driver="vfs"), create=False) as store:
            (root / "layerstore" / "pins").mkdir()
            (root / "layerstore" / "pins" / store.chain_ids()[0].removeprefix("sha256:")).touch()
        assert select(root) == "vfs"

    def test_another_driver_s_home_counts_though_it_has_no_layers(self, root, install):
        """A daemon would refuse to start on a root with another driver's beside it."""
        install("own-driver", drivers="own = own_driver:Driver")
        (root / "image" / "own" / "layerdb").mkdir(parents=True)
        (root / "own" / "cache").mkdir(parents=True)
        assert (prior_drivers(root), select(root)) == (["vfs"], "own")

    def test_containers_are_no_driver(self, root):
        (root / "containers" / ("a" * 64)).mkdir(parents=True)
        assert prior_drivers(root) == ["vfs"]


def test_what_else_is_under_a_root_is_no_driver(root):
    with use(root, "vfs") as store:
        layer(store)
    (root / "lost+found" / ("a" * 64)).mkdir(parents=True)
    (root / "else" / "where").mkdir(parents=True)
    (root / "image" / "file").write_text("")
    (root / "layerstore" / "drivers" / ".hidden").touch()
    assert prior_drivers(root) == chosen_drivers(root) == ["vfs"]


def test_a_driver_note_that_cannot_be_written_is_logged(root, said):
    with use(root, "vfs") as store:
        layer(store)
    shutil.rmtree(root / "layerstore" / "drivers")
    (root / "layerstore" / "drivers").write_text("in the way")
    note_driver(root, "vfs", durable=True)
    assert [record["message"] for record in said] and "was not written" in said[0]["message"]
    assert select(root) == "vfs"
