"""Every distribution of this repository keeps the same rules of packaging."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hatchling.metadata.core import ProjectMetadata
from hatchling.plugin.manager import PluginManager
from packaging.requirements import Requirement

from layerstore_core import __version__
from layerstore_core.base.kernels import INTERFACE

ROOT = Path(__file__).parents[1]
#: The distribution of the kernels in C, which setuptools builds; hatchling builds all others.
KERNELS = "native"
PROJECTS = [".", KERNELS, *sorted(str(path.parent.relative_to(ROOT)) for path in ROOT.glob("*/*/pyproject.toml"))]
#: Those that are uploaded to a package index; the others are examples.
RELEASED = [project for project in PROJECTS if not project.startswith("examples/")]
SOURCE = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Source"]
#: Classifiers that a package index shows and filters by.
CLASSIFIERS = {
    "Operating System :: POSIX :: Linux",
    "Programming Language :: Python :: 3.11",
    "Programming Language :: Python :: 3.12",
    "Programming Language :: Python :: 3.13",
    "Typing :: Typed",
}


@pytest.fixture(params=PROJECTS)
def project(request: pytest.FixtureRequest) -> Path:
    return ROOT / request.param


@pytest.fixture
def document(project: Path) -> dict[str, Any]:
    return tomllib.loads((project / "pyproject.toml").read_text())


def test_all_distributions_are_looked_at() -> None:
    assert {
        "drivers/vfs",
        "drivers/overlay",
        "drivers/btrfs",
        "bridges/containerd",
        "bridges/docker",
        "examples/minimal",
    } < set(PROJECTS)


def test_distribution_has_metadata_for_a_package_index(document: dict[str, Any]) -> None:
    metadata = document["project"]
    assert metadata["description"]
    assert metadata.get("readme") == "README.md" or "readme" in metadata["dynamic"]
    assert metadata["requires-python"] == ">=3.11"
    assert set(metadata["classifiers"]) >= CLASSIFIERS
    assert metadata["keywords"]


@pytest.mark.parametrize("released", RELEASED)
def test_links_in_the_readme_of_a_package_index_lead_to_files_of_the_project(
    released: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = ROOT / released
    monkeypatch.chdir(project)  # as a build does: the README is read from there
    if released == KERNELS:
        readme = (project / "README.md").read_text()
    else:
        readme = ProjectMetadata(str(project), PluginManager()).core.readme
    written = re.findall(r"\]\(([^)\s]+)\)", (project / "README.md").read_text())
    built = re.findall(r"\]\(([^)\s]+)\)", readme)
    assert len(built) == len(written) > 0
    for link, absolute in zip(written, built, strict=True):
        if "://" in link or link.startswith("#"):
            assert absolute == link
            continue
        assert released != KERNELS, f"setuptools leaves relative links as they are: {link}"
        kind, _, path = absolute.removeprefix(f"{SOURCE}/").partition("/main/")
        assert kind == ("raw" if path.endswith(".svg") else "blob"), absolute
        assert (ROOT / path.partition("#")[0]).resolve() == (project / link.partition("#")[0]).resolve(), absolute
        assert (ROOT / path.partition("#")[0]).exists(), absolute


@pytest.mark.parametrize("released", RELEASED)
def test_released_distribution_names_the_addresses_of_the_project(released: str) -> None:
    urls = tomllib.loads((ROOT / released / "pyproject.toml").read_text())["project"]["urls"]
    assert {"Homepage", "Source", "Documentation", "Issues", "Changelog"} <= set(urls)
    assert all(url.startswith(SOURCE) for url in urls.values())


def test_distribution_ships_the_licence(project: Path, document: dict[str, Any]) -> None:
    assert document["project"]["license"] == "Apache-2.0"
    assert document["project"]["license-files"] == ["LICENSE"]
    assert (project / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_distribution_is_marked_as_typed(project: Path, document: dict[str, Any]) -> None:
    tool = document["tool"]
    how = tool["setuptools"] if "setuptools" in tool else tool["hatch"]["build"]["targets"]["wheel"]
    packages = how["packages"]
    assert packages
    for package in packages:
        assert (project / package / "py.typed").is_file(), package


@pytest.mark.parametrize("released", [project for project in RELEASED if project != "."])
def test_released_distributions_have_one_version(released: str) -> None:
    assert tomllib.loads((ROOT / released / "pyproject.toml").read_text())["project"]["version"] == __version__


def test_distribution_accepts_this_version_of_core(document: dict[str, Any]) -> None:
    requirements = [Requirement(text) for text in document["project"].get("dependencies", [])]
    core = [requirement for requirement in requirements if requirement.name == "layerstore-core"]
    if document["project"]["name"] in {"layerstore-core", "layerstore-native"}:
        assert not core
        return
    (requirement,) = core
    assert requirement.specifier.contains(__version__.split(".dev")[0], prereleases=True)
    assert {spec.operator for spec in requirement.specifier} == {">=", "<"}, "a range with an upper bound"


def test_core_is_installed_with_the_kernels_of_its_own_version() -> None:
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["native"]
    (requirement,) = map(Requirement, extra)
    assert requirement.name == "layerstore-native"
    assert requirement.specifier.contains(__version__.split(".dev")[0], prereleases=True)
    assert {spec.operator for spec in requirement.specifier} == {">=", "<"}, "a range with an upper bound"
    assert f"enum {{ INTERFACE = {INTERFACE} }};" in (ROOT / KERNELS / "src" / "module.c").read_text()


def test_kernels_are_built_for_all_pythons() -> None:
    """The stable ABI: a wheel of `native/` is for CPython 3.11 and newer, and so is its extension module."""
    setup = (ROOT / KERNELS / "setup.py").read_text()
    assert '("Py_LIMITED_API", "0x030B0000")' in setup
    assert "py_limited_api=True" in setup
