"""The choice of a store's driver: by setting, by the state under the root, by priority."""

from __future__ import annotations

import pytest

from layerstore_core import AmbiguousDriver, DriverNotFound, DriverNotSupported, LayerStore, StoreConfig, load_config
from layerstore_core.driver.prior import prior_drivers
from layerstore_core.driver.select import select_driver

NEEDS_MORE = """class Driver(Driver):
    priority = 50
    @classmethod
    def probe(cls, context):
        raise DriverNotSupported('needs more')
"""


def with_priority(value):
    return f"class Driver(Driver):\n    priority = {value}\n"


@pytest.fixture
def root(tmp_path):
    return tmp_path / "store"


def state(root, name, part="sha256"):
    """Create the state of a driver whose store has a layer, or a writable layer."""
    (root / "image" / name / "layerdb" / part / "something").mkdir(parents=True)


def select(root, **settings):
    return select_driver(StoreConfig(root=root, **settings))


def test_the_driver_setting_takes_precedence(root, install, only):
    only("vfs")
    install("high-driver", with_priority(100), drivers="high = high_driver:Driver")
    state(root, "high")
    state(root, "other")
    assert select(root, driver="vfs") == "vfs"
    assert select(root, driver="whatever") == "whatever"


@pytest.mark.parametrize("source", ["argument", "environment", "file"])
def test_the_sources_of_the_driver_setting(root, tmp_path, monkeypatch, install, source):
    install("set-driver", drivers="set = set_driver:Driver")
    given = {}
    if source == "argument":
        given = {"driver": "set"}
    elif source == "environment":
        monkeypatch.setenv("LAYERSTORE_DRIVER", "set")
    else:
        (tmp_path / "config.toml").write_text('driver = "set"\n')
        monkeypatch.setenv("LAYERSTORE_CONFIG", str(tmp_path / "config.toml"))
    assert select_driver(load_config(root=root, **given)) == "set"
    with LayerStore.open(root=root, **given) as store:
        assert store.driver_name == "set"
        assert store.config.sources["driver"].startswith(source)


@pytest.mark.parametrize("part", ["sha256", "mounts"])
def test_a_store_keeps_its_driver(root, install, part):
    install("prior-driver", drivers="prior = prior_driver:Driver")
    state(root, "prior", part)
    assert select(root) == "prior"


def test_an_empty_records_directory_is_no_state(root, install, only):
    only("vfs")
    install("prior-driver", drivers="prior = prior_driver:Driver")
    (root / "image" / "prior" / "layerdb" / "sha256").mkdir(parents=True)
    (root / "image" / "file").write_text("")
    assert prior_drivers(root) == []
    assert select(root) == "vfs"


def test_the_state_of_two_drivers_is_an_error_that_names_both(root, install):
    install("one-driver", drivers="one = one_driver:Driver")
    install("two-driver", drivers="two = two_driver:Driver")
    state(root, "one")
    state(root, "two")
    state(root, "vfs")
    with pytest.raises(AmbiguousDriver, match="one, two; name the one to use"):
        select(root)
    assert select(root, driver="two") == "two"


def test_the_state_of_a_missing_driver_is_named_too(root, install):
    install("one-driver", drivers="one = one_driver:Driver")
    state(root, "one")
    state(root, "missing")
    with pytest.raises(AmbiguousDriver, match="missing, one"):
        select(root)


def test_the_state_of_vfs_does_not_count_in_a_root_of_docker(root, install, only):
    only("vfs")
    install("one-driver", with_priority(5), drivers="one = one_driver:Driver")
    state(root, "vfs")
    assert select(root) == "one"
    state(root, "one")
    assert select(root) == "one"


def test_no_other_driver_is_used_if_the_driver_of_the_state_is_missing(root):
    state(root, "missing")
    with pytest.raises(
        DriverNotFound, match=r"has the state of driver 'missing'.*not installed|no driver 'missing'"
    ) as caught:
        select(root)
    assert str(root) in str(caught.value)
    assert select(root, driver="vfs") == "vfs"


def test_no_other_driver_is_used_if_the_driver_of_the_state_is_broken(root, install):
    install("broken-driver", "raise RuntimeError('x')", drivers="broken = broken_driver:Driver")
    state(root, "broken")
    with pytest.raises(DriverNotFound, match="cannot be imported"):
        select(root)


def test_no_other_driver_is_used_if_the_driver_of_the_state_does_not_work(root, install):
    source = NEEDS_MORE + "    def __init__(self, context):\n        raise DriverNotSupported('needs more')\n"
    install("more-driver", source, drivers="more = more_driver:Driver")
    state(root, "more")
    with pytest.raises(DriverNotSupported, match="needs more"):
        LayerStore.open(root=root)


def test_the_first_driver_by_priority_that_works_is_chosen(root, install, only):
    only("vfs")
    assert select(root) == "vfs"
    install("low-driver", with_priority(1), drivers="low = low_driver:Driver")
    assert select(root) == "low"
    install("high-driver", with_priority(10), drivers="high = high_driver:Driver")
    assert select(root) == "high"
    install("more-driver", NEEDS_MORE, drivers="more = more_driver:Driver")
    install("broken-driver", "raise RuntimeError('x')", drivers="broken = broken_driver:Driver")
    install("quiet-driver", drivers="quiet = quiet_driver:Driver")  # has no priority: must be named
    assert select(root) == "high"


def test_the_setting_driver_priority(root, install, only):
    only("vfs")
    install("low-driver", drivers="low = low_driver:Driver")
    install("more-driver", NEEDS_MORE, drivers="more = more_driver:Driver")
    assert select(root, driver_priority=("more", "nowhere", "low", "vfs")) == "low"
    with pytest.raises(DriverNotSupported, match=r"more: needs more\. nowhere: no driver 'nowhere' is installed"):
        select(root, driver_priority=("more", "nowhere"))


def test_select_without_any_driver(root, only):
    only()
    with pytest.raises(DriverNotFound, match="pip install layerstore-driver-vfs"):
        select(root)


def test_a_driver_with_an_alias_is_probed_once(root, install, only):
    only()
    source = NEEDS_MORE.replace("priority = 50", "priority = 50\n    driver_name = 'real'")
    install("alias-driver", source, drivers="real = alias_driver:Driver\nalias = alias_driver:Driver")
    with pytest.raises(DriverNotSupported) as caught:
        select(root)
    assert str(caught.value).count("needs more") == 1


def test_a_driver_with_an_alias_has_one_name_on_disk(root, install):
    install(
        "alias-driver",
        "class Driver(Driver):\n    driver_name = 'real'\n",
        drivers="real = alias_driver:Driver\nalias = alias_driver:Driver",
    )
    with LayerStore.open(root=root, driver="alias") as store:
        assert store.driver_name == "real"
        store.create_rw_layer("box")
    assert select(root) == "real"
    with LayerStore.open(root=root) as store:
        assert store.rw_layers() == ["box"]
