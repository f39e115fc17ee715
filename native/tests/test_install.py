"""Installing the package where there is no compiler, and its source distribution."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

import pytest

from tests import tars

NATIVE = Path(__file__).parents[1]
TOP = NATIVE.parent
#: Without `site`, which would find the kernels that are compiled in the checkout.
LAYERSTORE = (sys.executable, "-S", "-m", "layerstore_core", "--root", "store", "--driver", "vfs")


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """Return a copy of the package's sources, without what a build has made."""
    ignored = shutil.ignore_patterns("build", "*.so", "*.egg-info", "__pycache__", "tests")
    return Path(shutil.copytree(NATIVE, tmp_path / "native", ignore=ignored))


def test_installation_succeeds_without_a_compiler(sources: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    options = ["--quiet", "--disable-pip-version-check", "--no-build-isolation", "--no-deps", "--no-index"]
    install = [sys.executable, "-m", "pip", "install", *options, "--target", site, sources]
    subprocess.run(install, check=True, capture_output=True, env={**os.environ, "CC": "false"})
    assert {path.name for path in (site / "layerstore_native").iterdir()} > {"__init__.py", "py.typed"}
    assert list(site.rglob("*.so")) == []

    (tmp_path / "layer.tar").write_bytes(tars.entry(b"file", b"content") + tars.END)
    path = [
        site,
        TOP,
        *TOP.glob("drivers/*"),
        *TOP.glob("examples/*"),
        sysconfig.get_path("purelib"),
        sysconfig.get_path("platlib"),
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    environment.pop("LAYERSTORE_NATIVE", None)

    def layerstore(*words: str) -> bytes:
        command = [*LAYERSTORE, *words]
        return subprocess.run(command, check=True, capture_output=True, cwd=tmp_path, env=environment).stdout

    engine = json.loads(layerstore("info", "--json"))["engine"]
    assert engine["kernels"] is False
    assert engine["reason"].startswith("layerstore-native was installed without its kernels")
    chain = layerstore("register", "layer.tar").decode().strip()
    assert layerstore("export", chain) == (tmp_path / "layer.tar").read_bytes()


def test_source_distribution_has_what_building_needs(sources: Path, tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", tmp_path, sources]
    subprocess.run(build, check=True, capture_output=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    wanted = {str(path.relative_to(sources)) for path in sources.glob("src/*.[ch]")}
    assert names > {"setup.py", "pyproject.toml", "LICENSE", "README.md", *wanted}
