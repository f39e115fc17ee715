"""A store keeps the driver that it was made with, even if others are installed."""

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
    """Install a driver that has priority over vfs, the only other one."""
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
    """Pin a layer and delete all records: only the pin is left."""
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


def record_in_quarantine(store):
    registered = register(store, BASE)
    store.context.quarantine.put(store.context.db.layer_path(registered.chain_id), "layer")
    shutil.rmtree(store.root / "image")


def lost_records(store):
    layer(store)
    shutil.rmtree(store.root / "image")


STATES = [
    layer,
    writable_layer,
    pin,
    image_without_layers,
    name_without_image,
    damaged_names,
    record_in_quarantine,
    lost_records,
]


@pytest.mark.parametrize("driver", ["vfs", "wanted"])
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("noted", [True, False], ids=["", "earlier version"])
def test_a_store_keeps_the_driver_of_its_state(root, driver, state, noted):
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
def test_states_of_two_drivers_are_an_error_that_names_both(root, state):
    with use(root, "vfs") as store:
        state(store)
    if state in (pin, record_in_quarantine, lost_records):  # both drivers share the directory of the records
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


def test_an_emptied_store_of_an_earlier_version_keeps_its_driver(root):
    with use(root, "vfs") as store:
        store.release(register(store, BASE))
    shutil.rmtree(root / "layerstore" / "drivers")
    assert (prior_drivers(root), select(root)) == ([], "vfs")


def test_opening_a_store_without_creating_it_writes_no_driver_note(root):
    with use(root, "vfs") as store:
        layer(store)
    with LayerStore.open(StoreConfig(root=root, driver="wanted"), create=False):
        pass
    with LayerStore.open(StoreConfig(root=root, driver="wanted"), read_only=True):
        pass
    assert os.listdir(root / "layerstore" / "drivers") == ["vfs"]


def test_naming_another_driver_in_a_store_of_an_earlier_version(root):
    """The state of vfs has no note there, but counts."""
    with use(root, "vfs") as store:
        layer(store)
    shutil.rmtree(root / "layerstore" / "drivers")
    with use(root, "wanted") as store:
        layer(store)
    with pytest.raises(AmbiguousDriver, match="vfs, wanted"):
        select(root)


def test_driver_priority_is_for_new_stores_only(root):
    with use(root, "vfs") as store:
        layer(store)
    assert select(root, driver_priority=("wanted", "vfs")) == "vfs"


@pytest.mark.parametrize("state", [layer, lambda store: None], ids=["with layers", "empty"])
def test_the_driver_of_a_store_is_no_longer_installed(root, state, only):
    with use(root, "vfs") as store:
        state(store)
    only()
    with pytest.raises(DriverNotFound, match=r"has the state of driver 'vfs', which cannot be used.*no driver 'vfs'"):
        LayerStore.open(root=root)
    with LayerStore.open(root=root, driver="wanted") as store:
        assert store.chain_ids() == []


def test_the_driver_of_a_store_no_longer_works(root, install):
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


def test_a_driver_whose_entry_point_and_directories_have_different_names(root, install):
    install(
        "named-driver", "class Driver(Driver):\n    driver_name = 'on-disk'\n", drivers="named = named_driver:Driver"
    )
    install("false-driver", "class Driver(Driver):\n    driver_name = 'x'\n", drivers="on-disk = false_driver:Driver")
    with use(root, "named") as store:
        layer(store)
    assert (chosen_drivers(root), select(root)) == (["on-disk"], "named")
    with LayerStore.open(root=root) as store:
        assert len(store.chain_ids()) == 1


class TestRootsOfDocker:
    @pytest.fixture
    def root(self, root):
        """Make a root for which a daemon took vfs, because nothing else worked."""
        with use(root, "vfs") as store:
            layer(store)
        shutil.rmtree(root / "layerstore")
        (root / "volumes").mkdir()
        (root / "volumes" / "metadata.db").touch()
        return root

    def test_the_state_of_vfs_does_not_count(self, root):
        for _ in range(2):
            assert (prior_drivers(root), select(root)) == (["vfs"], "wanted")
            with LayerStore.open(StoreConfig(root=root, driver="vfs"), create=False):
                pass  # creates the lock file
        with LayerStore.open(root=root, durability="none") as store:
            assert store.driver_name == "wanted"
            layer(store)
        assert select(root) == "wanted"

    def test_the_state_of_vfs_does_not_count_if_vfs_is_not_installed(self, root, only):
        only()
        assert select(root) == "wanted"
        with use(root, "wanted") as store:
            layer(store)
        assert select(root) == "wanted"

    def test_the_state_of_vfs_counts_if_a_store_was_made_with_it(self, root):
        with use(root, "vfs"):
            pass
        assert select(root) == "vfs"
        with use(root, "wanted") as store:
            layer(store)
        with pytest.raises(AmbiguousDriver, match="vfs, wanted"):
            select(root)

    def test_a_pin_shows_that_an_earlier_version_made_a_store_with_vfs(self, root):
        (root / "layerstore" / "tmp").mkdir(parents=True)
        assert select(root) == "wanted"
        with LayerStore.open(StoreConfig(root=root, driver="vfs"), create=False) as store:
            (root / "layerstore" / "pins").mkdir()
            (root / "layerstore" / "pins" / store.chain_ids()[0].removeprefix("sha256:")).touch()
        assert select(root) == "vfs"

    def test_the_home_of_another_driver_counts_even_without_layers(self, root, install):
        """A daemon would refuse to start on a root that has another driver's home too."""
        install("own-driver", drivers="own = own_driver:Driver")
        (root / "image" / "own" / "layerdb").mkdir(parents=True)
        (root / "own" / "cache").mkdir(parents=True)
        assert (prior_drivers(root), select(root)) == (["vfs"], "own")

    def test_dockers_containers_are_no_state_of_a_driver(self, root):
        (root / "containers" / ("a" * 64)).mkdir(parents=True)
        assert prior_drivers(root) == ["vfs"]


def test_unexpected_entries_under_a_root_are_no_drivers(root):
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
