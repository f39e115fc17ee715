"""Names of new drivers, the files that are made for them, and what is left after an error."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib.metadata import metadata
from pathlib import Path

import pytest

from layerstore_core.cli.commands.driver import KIND_NAMES
from layerstore_core.new_driver import KINDS, make, make_driver

TEMPLATES = Path(make.__file__).parent / "templates"


def test_kinds_of_the_command_are_those_that_exist() -> None:
    assert tuple(KINDS) == KIND_NAMES


def test_every_template_is_used() -> None:
    used = {f"{name}.in" for kind in KINDS.values() for name in make.templates_of(kind).values() if name}
    assert used == {str(path.relative_to(TEMPLATES)) for path in TEMPLATES.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["a", "directory", "conformance", "my-driver", "x1-" + "long" * 9])
def test_style_is_right_whatever_the_name(tmp_path, kind: str, name: str) -> None:
    made = make_driver(name, KINDS[kind], str(tmp_path / "made"))
    for words in (["check", "--no-cache"], ["format", "--check", "--no-cache"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *words, "."], cwd=made.directory, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_files_of_a_package_with_hyphens_in_its_name(tmp_path) -> None:
    made = make_driver("my-own-driver", KINDS["copy"], str(tmp_path / "made"))
    assert made.files == tuple(
        sorted(str(path.relative_to(tmp_path / "made")) for path in (tmp_path / "made").rglob("*") if path.is_file())
    )
    assert made.files == (
        ".github/workflows/ci.yml",
        ".gitignore",
        "README.md",
        "layerstore_my_own_driver/__init__.py",
        "layerstore_my_own_driver/options.py",
        "layerstore_my_own_driver/py.typed",
        "pyproject.toml",
        "tests/test_conformance.py",
        "tests/test_driver.py",
    )
    project = tomllib.loads((tmp_path / "made/pyproject.toml").read_text())["project"]
    assert project["name"] == "layerstore-driver-my-own-driver"
    assert project["entry-points"]["layerstore.drivers"] == {"my-own-driver": "layerstore_my_own_driver:MyOwnDriver"}
    (tests,) = project["optional-dependencies"]["test"]
    assert tests == "layerstore-core[conformance,conformance-tools]"  # what the commands that are printed need
    assert set(tests.partition("[")[2].strip("]").split(",")) <= set(
        metadata("layerstore-core").get_all("Provides-Extra")
    )
    assert "class MyOwnDriver(DirectoryDriver):" in (tmp_path / "made/layerstore_my_own_driver/__init__.py").read_text()
    assert 'python-version: "${{ matrix.python }}"' in (tmp_path / "made/.github/workflows/ci.yml").read_text()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "cannot be the name of a driver"),
        ("Zfs", "lower-case letters"),
        ("1st", "the first a letter"),
        ("my_driver", "single hyphens"),
        ("my--driver", "single hyphens"),
        ("driver-", "single hyphens"),
        ("../up", "cannot be the name of a driver"),
        ("a\n", "cannot be the name of a driver"),
        ("ä", "lower-case letters"),
        ("$name", "lower-case letters"),
        ("x" * 41, "has 41 characters"),
        ("image", "a store has other files of this name"),
        ("layerstore-driver-zfs", "the driver's own name: zfs"),
        ("vfs", "is installed already, from layerstore-driver-vfs"),
        ("core", "the Python package layerstore_core, which is installed already"),
        ("containerd", "the Python package layerstore_containerd, which is installed already"),
    ],
)
def test_name_that_no_new_driver_can_have(tmp_path, monkeypatch, name: str, reason: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="driver") as caught:
        make_driver(name, KINDS["copy"])
    assert reason in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_directory_that_is_not_empty_stays_as_it_is(tmp_path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("mine")
    with pytest.raises(FileExistsError, match="not an empty directory") as caught:
        make_driver("zfs", KINDS["copy"], str(tmp_path / "full"))
    assert caught.value.filename == str(tmp_path / "full")
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "file"]


def test_empty_directory_is_filled(tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    make_driver("zfs", KINDS["copy"], f"{tmp_path}/empty//")
    assert (tmp_path / "empty/layerstore_zfs/__init__.py").exists()


def test_current_directory_is_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="go to the directory above it"):
        make_driver("zfs", KINDS["copy"], ".")
    assert list(tmp_path.iterdir()) == []
