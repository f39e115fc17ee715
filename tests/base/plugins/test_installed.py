"""The entry points of installed packages: they are read once for each state of Python's path."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from layerstore_core.base.plugins import DRIVERS, WRAPPERS, entry_point_names, installed


def install(site: Path, package: str, driver: str) -> Path:
    """Put a package's metadata into a directory, as pip does."""
    info = site / f"{package}-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[{DRIVERS}]\n{driver} = {package}:Driver\n")
    # In the same tick of the kernel's clock, a change would not be seen: that is so for all of importlib.metadata.
    os.utime(site, ns=(time.time_ns(), time.time_ns()))
    return info


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a directory on Python's path."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_a_package_is_found_after_its_installation_and_not_after_its_removal(site: Path) -> None:
    before = entry_point_names(DRIVERS)
    info = install(site, "one", "first")
    assert entry_point_names(DRIVERS) == before | {"first"}
    install(site, "two", "second")
    assert entry_point_names(DRIVERS) == before | {"first", "second"}
    shutil.rmtree(info)
    os.utime(site, ns=(time.time_ns(), time.time_ns()))
    assert entry_point_names(DRIVERS) == before | {"second"}


def test_a_directory_that_is_added_to_the_path_is_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "one", "first")
    assert "first" not in entry_point_names(DRIVERS)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "first" in entry_point_names(DRIVERS)


def test_packages_are_read_once(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry_point_names(DRIVERS, WRAPPERS)
    monkeypatch.setattr(installed, "read_entry_points", lambda groups: pytest.fail("the packages are read again"))
    entry_point_names(DRIVERS, WRAPPERS)
