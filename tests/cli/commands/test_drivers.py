"""`layerstore drivers`: working and broken drivers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Run


def broken_package(directory: Path, name: str) -> None:
    """Make an installed distribution whose driver cannot be imported."""
    info = directory / f"layerstore_driver_{name}-1.5.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: layerstore-driver-{name}\nVersion: 1.5\n")
    (info / "entry_points.txt").write_text(f"[layerstore.drivers]\n{name} = layerstore_{name}_missing:Driver\n")


def test_vfs_is_listed_and_works(run: Run) -> None:
    listed = {driver["name"]: driver for driver in run("--json", "drivers").json["drivers"]}
    assert listed["vfs"]["works"] is True
    assert listed["vfs"]["reason"] == ""
    assert listed["vfs"]["package"] == "layerstore-driver-vfs"
    lines = run("drivers").lines
    assert lines[0].split() == ["NAME", "PACKAGE", "VERSION", "WORKS", "HERE"]
    assert any(line.startswith("vfs ") and line.endswith("yes") for line in lines)


def test_a_broken_package_is_listed_with_its_error(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken_package(tmp_path / "site", "brk")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    listed = {driver["name"]: driver for driver in run("--json", "drivers").json["drivers"]}
    assert listed["vfs"]["works"] is True
    assert listed["brk"]["works"] is False
    assert listed["brk"]["version"] == "1.5"
    assert "layerstore_brk_missing" in listed["brk"]["reason"]
    assert any(line.startswith("brk ") and "no: " in line for line in run("drivers").lines)


def test_listing_drivers_creates_no_store(run: Run, root: Path) -> None:
    run("drivers")
    assert not root.exists()
