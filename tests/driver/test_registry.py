"""The registry: installed drivers and wrappers, missing ones, and broken ones."""

from __future__ import annotations

import pytest

from layerstore_core import AmbiguousDriver, DriverContractError, DriverNotFound, LayerStore, log
from layerstore_core.driver import registry
from layerstore_core.driver.probe import Probe, probe


def installed(name):
    return [driver for driver in registry.installed_drivers() if driver.name == name]


def test_a_driver_is_found_by_its_entry_point(install):
    install("acme-driver", drivers="acme = acme_driver:Driver")
    assert [(driver.distribution, driver.version) for driver in installed("acme")] == [("acme-driver", "1.2")]
    assert registry.load_driver("acme").__name__ == "Driver"
    assert registry.package_of(registry.load_driver("acme")) == "acme_driver"


def test_drivers_are_sorted_by_name(install):
    install("acme-driver", drivers="zzz = acme_driver:Driver\naaa = acme_driver:Driver")
    names = [driver.name for driver in registry.installed_drivers()]
    assert names == sorted(names)
    assert {"aaa", "vfs", "zzz"} <= set(names)


def test_loading_a_driver_that_is_not_installed(install):
    with pytest.raises(
        DriverNotFound, match=r"no driver 'nowhere' is installed .*vfs.*pip install layerstore-driver-nowhere"
    ):
        registry.load_driver("nowhere")


@pytest.mark.parametrize("name", ["Vfs", "vffs"])
def test_drivers_with_similar_names_are_suggested(name):
    with pytest.raises(DriverNotFound, match=r"no driver .* is installed .*; did you mean vfs") as caught:
        registry.load_driver(name)
    assert "pip" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "../x", "x y; reboot"])
def test_no_package_is_suggested_for_an_invalid_driver_name(name):
    with pytest.raises(DriverNotFound, match="is installed") as caught:
        registry.load_driver(name)
    assert "pip" not in str(caught.value)


BROKEN = {
    "raises": "raise RuntimeError('cannot be')",
    "imports": "import a_module_that_is_nowhere",
    "syntax": "def (",
    "exits": "raise SystemExit(3)",
    "lacks": "del Driver",
}


@pytest.mark.parametrize("source", BROKEN.values(), ids=BROKEN)
def test_the_error_of_a_broken_package_differs_from_that_of_a_missing_one(install, tmp_path, source):
    install("broken-driver", source, drivers="broken = broken_driver:Driver")
    assert len(installed("broken")) == 1
    with pytest.raises(
        DriverNotFound, match=r"driver 'broken' of package broken-driver 1\.2 is installed, but cannot be imported"
    ):
        registry.load_driver("broken")
    found = probe("broken", tmp_path)
    assert not found.works
    assert "cannot be imported" in found.reason
    assert probe("vfs", tmp_path).works


def test_an_entry_point_that_is_not_callable(install):
    install("odd-driver", "Driver = 3", drivers="odd = odd_driver:Driver")
    with pytest.raises(DriverNotFound, match="neither a class nor a function"):
        registry.load_driver("odd")


@pytest.mark.parametrize("metadata", ["", "garbage", "Name: x\n", "\xff\0"])
def test_a_package_without_proper_metadata(install, metadata):
    install("bare-driver", drivers="bare = bare_driver:Driver", metadata=metadata)
    [driver] = installed("bare")
    assert driver.version
    assert driver.distribution
    assert registry.load_driver("bare")


@pytest.mark.parametrize(
    "entry_points",
    [
        "garbage",
        "[layerstore.drivers]\nno equals sign\n",
        "[layerstore.drivers]\nx = \n",
        "[layerstore.drivers]\n = y\n",
        "[",
        "\0",
    ],
)
def test_a_package_with_broken_entry_points_does_not_hide_the_others(install, tmp_path, entry_points):
    install("bad-driver", entry_points=entry_points)
    assert len(installed("vfs")) == 1
    for driver in registry.installed_drivers():
        probe(driver.name, tmp_path)
    assert registry.load_driver("vfs")


def test_two_packages_with_a_driver_of_one_name(install, tmp_path):
    install("one-driver", drivers="same = one_driver:Driver")
    install("other-driver", drivers="same = other_driver:Driver")
    with pytest.raises(AmbiguousDriver, match=r"one-driver and other-driver|other-driver and one-driver"):
        registry.load_driver("same")
    assert not probe("same", tmp_path).works


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("raise DriverNotSupported('needs another kernel')", "needs another kernel"),
        ("raise OSError(13, 'Permission denied', '/dev/x')", "Permission denied"),
        ("raise KeyError('bug')", "its probe failed: KeyError"),
        ("raise ConfigError('x')", "x"),
    ],
)
def test_errors_of_a_probe(install, tmp_path, body, reason):
    install(
        "no-driver",
        f"class No(Driver):\n    @classmethod\n    def probe(cls, context):\n        {body}",
        drivers="no = no_driver:No",
    )
    result = probe("no", tmp_path)
    assert (result.works, reason in result.reason) == (False, True)


def test_a_driver_without_a_probe_is_assumed_to_work(install, tmp_path):
    install("easy-driver", drivers="easy = easy_driver:Driver")
    assert probe("easy", tmp_path) == Probe(True)
    assert list((tmp_path / "store").glob("*")) == []


@pytest.mark.parametrize("driver", ["vfs", "overlay2", "btrfs"])
def test_a_probe_leaves_nothing(driver, tmp_path):
    (tmp_path / "root").mkdir()
    probe(driver, tmp_path / "root")
    probe(driver, tmp_path / "root" / "below" / "what is not there")
    assert list((tmp_path / "root").iterdir()) == []


def test_the_attributes_that_a_driver_declares(install):
    install(
        "full-driver",
        "class Full(Driver):\n    driver_name = 'on-disk'\n    priority = 7\n    last_resort = True",
        drivers="full = full_driver:Full\nplain = full_driver:Driver",
    )
    full, plain = registry.load_driver("full"), registry.load_driver("plain")
    assert (registry.driver_name(full, "full"), registry.priority(full), registry.is_last_resort(full)) == (
        "on-disk",
        7,
        True,
    )
    assert (registry.driver_name(plain, "plain"), registry.priority(plain), registry.is_last_resort(plain)) == (
        "plain",
        None,
        False,
    )


def test_installed_wrappers_are_created(install):
    install(
        "wrap-one", "class Wrapper:\n    pass\nplugin = object()", wrappers="b = wrap_one:Wrapper\na = wrap_one:plugin"
    )
    wrappers = [(name, plugin) for name, plugin in registry.load_wrappers() if name in ("a", "b")]
    assert [name for name, _ in wrappers] == ["a", "b"]
    assert type(wrappers[1][1]).__name__ == "Wrapper"


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("raise RuntimeError('x')", DriverNotFound),
        ("class Wrapper:\n    def __init__(self, more): pass", DriverContractError),
    ],
)
def test_a_wrapper_that_cannot_be_created(install, source, error):
    install("bad-wrap", source, wrappers="bad = bad_wrap:Wrapper")
    with pytest.raises(error, match=r"wrapper 'bad' of package bad-wrap 1\.2"):
        registry.load_wrappers()


def test_a_drivers_log_is_silent_until_it_is_enabled(install, capsys):
    from loguru import logger

    install(
        "chatty-driver",
        "from loguru import logger\ndef talk(logger): logger.warning('hear me')",
        drivers="x = chatty_driver:Driver",
    )
    registry.load_driver("x")
    import chatty_driver

    heard = []
    sink = logger.add(lambda message: heard.append(message.record["extra"]), level="DEBUG")
    try:
        bound = log.driver_logger("x", "chatty_driver")
        chatty_driver.talk(bound)
        assert heard == []
        log.enable()
        chatty_driver.talk(bound)
        assert heard == [{"driver": "x"}]
    finally:
        logger.remove(sink)
        log.silence()


@pytest.mark.parametrize(
    "name",
    [
        "a" * 64,
        "image",
        "layerstore",
        "..",
        ".hidden",
        "a/b",
        "a b",
        "a\n",
        "-a",
        "ä",
        "0",
        "20260101T000000Z-x",
        f"{'0' * 64}-init",
    ],
)
def test_names_that_a_driver_may_not_have_on_disk(name, install, tmp_path):
    install("named-driver", f"class Driver(Driver):\n    driver_name = {name!r}", drivers="named = named_driver:Driver")
    with pytest.raises(DriverContractError, match="cannot be its name on disk"):
        registry.driver_name(registry.load_driver("named"), "named")
    assert not probe("named", tmp_path).works
    with pytest.raises(DriverContractError, match="cannot be its name on disk"):
        LayerStore.open(root=tmp_path / "root", driver="named")


@pytest.mark.parametrize("name", ["a" * 63, "overlay2", "fuse-overlayfs", "Mine_2.0", "x"])
def test_names_that_a_driver_may_have_on_disk(name):
    assert registry.driver_name(object, name) == name
