"""The version of the contract that a driver was written for: taken, or refused with what to install."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import layerstore_core
from layerstore_core import DriverContractError, DriverNotSupported, LayerStore, StoreConfig, __version__
from layerstore_core.driver import hookspecs, registry
from layerstore_core.driver.probe import probe
from layerstore_core.driver.select import select_driver
from layerstore_core.sdk import open_driver
from tests.store.drivers import SmallestDriver, open_with

TOP = Path(layerstore_core.__file__).parents[1]


def driver_for(version: object) -> str:
    return f"class Versioned(Driver):\n    contract = {version!r}\n    priority = 1000\n"


def test_a_driver_for_a_newer_contract_is_refused_with_what_to_install(install, tmp_path: Path) -> None:
    install("acme-driver", driver_for(2), drivers="acme = acme_driver:Versioned")
    message = (
        rf"driver 'acme' of package acme-driver 1.2 was written for version 2 of the driver contract, but "
        rf"layerstore-core {__version__} has version 1; install a newer layerstore-core \(pip install -U "
        r"layerstore-core\), or an older version of acme-driver$"
    )
    root = tmp_path / "root"
    with pytest.raises(DriverNotSupported, match=message):
        LayerStore.open(root=root, driver="acme", create=True)
    with pytest.raises(DriverNotSupported, match=message), open_driver(StoreConfig(root=root, driver="acme")):
        pass
    assert not probe("acme", root).works
    assert not (root / "acme").exists()


def test_a_driver_for_a_newer_contract_is_not_chosen(install, only, tmp_path: Path) -> None:
    only("vfs")
    install("acme-driver", driver_for(2), drivers="acme = acme_driver:Versioned")
    assert select_driver(StoreConfig(root=tmp_path / "root")) == "vfs"


def test_a_driver_for_the_contract_is_chosen(install, only, tmp_path: Path) -> None:
    only("vfs")
    install("acme-driver", driver_for(hookspecs.CONTRACT), drivers="acme = acme_driver:Versioned")
    assert select_driver(StoreConfig(root=tmp_path / "root")) == "acme"


def test_a_driver_for_a_contract_that_is_no_longer_taken(
    install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("acme-driver", driver_for(1), drivers="acme = acme_driver:Versioned")
    monkeypatch.setattr(hookspecs, "CONTRACT", 3)
    monkeypatch.setattr(hookspecs, "OLDEST_CONTRACT", 2)
    with pytest.raises(
        DriverNotSupported,
        match=r"written for version 1 .* has version 3, and takes drivers from version 2 on; install a newer version "
        "of acme-driver",
    ):
        LayerStore.open(root=tmp_path / "root", driver="acme", create=True)


@pytest.mark.parametrize("value", [0, -1, "1", True, None, 1.0])
def test_something_else_than_a_version_breaks_the_contract(tmp_path: Path, value: object) -> None:
    wrong = type("Wrong", (SmallestDriver,), {"contract": value})
    with pytest.raises(DriverContractError, match=r"`contract` is .*, not a whole number from 1 on"):
        open_with(wrong, tmp_path / "root")


def test_a_driver_that_declares_nothing_is_for_the_first_version(tmp_path: Path) -> None:
    assert registry.contract(SmallestDriver, "smallest") == 1
    with open_with(SmallestDriver, tmp_path / "root"):
        pass


def test_each_driver_of_the_repository_declares_its_contract() -> None:
    found: dict[str, bool] = {}
    for path in [*TOP.glob("drivers/*/layerstore_*/*.py"), *TOP.glob("examples/*/layerstore_*/*.py")]:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and node.name.endswith("Driver"):
                found[node.name] = "contract" in {
                    target.id
                    for statement in node.body
                    for target in getattr(statement, "targets", [getattr(statement, "target", None)])
                    if isinstance(target, ast.Name)
                }
    assert {"VfsDriver", "OverlayDriver", "BtrfsDriver", "RemoteDriver", "MinimalDriver", "PoolDriver"} <= set(found)
    assert all(found.values()), found


def test_each_new_driver_declares_its_contract() -> None:
    templates = [
        path
        for path in TOP.glob("layerstore_core/new_driver/templates/*/*.py.in")
        if "class $class_name" in path.read_text()
    ]
    assert templates
    assert [
        path for path in templates if not re.search(r"^    contract\b.* = 1$", path.read_text(), re.MULTILINE)
    ] == []
