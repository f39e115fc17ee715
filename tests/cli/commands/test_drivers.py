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
    assert listed["vfs"]["contract"] == 1
    assert listed["vfs"]["package"] == "layerstore-driver-vfs"
    lines = run("drivers").lines
    assert lines[0].split() == ["NAME", "PACKAGE", "VERSION", "CONTRACT", "CONFORMANCE", "WORKS", "HERE"]
    assert any(line.startswith("vfs ") and line.endswith("yes") for line in lines)


def test_a_broken_package_is_listed_with_its_error(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken_package(tmp_path / "site", "brk")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    listed = {driver["name"]: driver for driver in run("--json", "drivers").json["drivers"]}
    assert listed["vfs"]["works"] is True
    assert listed["brk"]["works"] is False
    assert listed["brk"]["version"] == "1.5"
    assert "layerstore_brk_missing" in listed["brk"]["reason"]
    assert listed["brk"]["contract"] is None
    assert any(line.startswith("brk ") and "no: " in line for line in run("drivers").lines)


def test_listing_drivers_creates_no_store(run: Run, root: Path) -> None:
    run("drivers")
    assert not root.exists()


def installed_package(directory: Path, name: str, source: str) -> None:
    """Make an installed distribution with a driver."""
    broken_package(directory, name)
    (directory / f"layerstore_{name}_missing.py").write_text(source)


def test_a_driver_for_a_newer_contract_is_listed_with_what_to_install(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed_package(tmp_path / "site", "newer", "class Driver:\n    contract = 7\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    listed = {driver["name"]: driver for driver in run("--json", "drivers").json["drivers"]}
    assert (listed["newer"]["contract"], listed["newer"]["works"]) == (7, False)
    assert "install a newer layerstore-core" in listed["newer"]["reason"]
    (line,) = [line for line in run("drivers").lines if line.startswith("newer ")]
    assert line.split()[:4] == ["newer", "layerstore-driver-newer", "1.5", "7"]


OPTIONS = r"""
from typing import Annotated, Literal
from pydantic import AliasChoices, BaseModel, Field

class Options(BaseModel):
    size: Annotated[int, Field(gt=0)] | None = Field(
        default=None, validation_alias=AliasChoices("size", "old.size"), description="How much\n   fits.",
        json_schema_extra={"unit": "bytes"},
    )
    place: str = Field(description="Where \x1b[31mit is.")
    wait: float = Field(default=2.5, ge=0, le=10, json_schema_extra={"unit": "seconds"})
    way: Literal["a", "b"] = "a"
    fast: bool = True
    names: list[str] = Field(default_factory=list)

class Driver:
    Options = "layerstore_opts_missing:Options"
"""


def test_the_options_of_a_driver(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed_package(tmp_path / "site", "opts", OPTIONS)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert run("drivers", "--options", "opts").text.splitlines() == [
        "NAME   DEFAULT     UNIT     TYPE",
        "size   (none)      bytes    whole number, more than 0",
        "    How much fits. Also: old.size.",
        "place  (required)  -        text",
        "    Where \\x1b[31mit is.",
        "wait   2.5         seconds  number, at least 0, at most 10",
        'way    a           -        "a" or "b"',
        "fast   true        -        true or false",
        "names  []          -        list[str]",
    ]
    document = run("--json", "drivers", "--options", "opts").json
    assert document["driver"] == "opts"
    assert document["options"][0] == {
        "name": "size",
        "others": ["old.size"],
        "type": "whole number, more than 0",
        "default": None,
        "required": False,
        "unit": "bytes",
        "description": "How much fits.",
    }
    assert [option["default"] for option in document["options"]] == [None, None, 2.5, "a", True, "[]"]


@pytest.mark.parametrize("name", ["overlay2", "btrfs", "remote"])
def test_each_option_of_our_drivers_is_described(run: Run, name: str) -> None:
    options = run("--json", "drivers", "--options", name).json["options"]
    assert options
    assert all(option["description"] for option in options)


def test_a_driver_without_options_and_one_that_is_not_installed(run: Run) -> None:
    assert run("drivers", "--options", "vfs").text == "driver vfs has no options\n"
    assert run("--json", "drivers", "--options", "vfs").json == {"driver": "vfs", "options": []}
    failed = run("drivers", "--options", "vffs", code=1)
    assert "no driver 'vffs' is installed" in failed.stderr
