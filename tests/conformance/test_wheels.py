"""Third-party drivers as their users install them: from wheels, in a separate environment."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ("minimal", "tarball", "erofs", "fuse-overlayfs")
pytestmark = [pytest.mark.nightly, pytest.mark.xdist_group("wheels")]


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> Path:
    """Build the wheels of core, of vfs, and of the examples. Return their directory."""
    directory = tmp_path_factory.mktemp("wheels")
    copies = []
    for project in (".", "drivers/vfs", *(f"examples/{name}" for name in (*EXAMPLES, "timing"))):
        # From a copy: a build creates files next to the sources.
        copy = directory / "sources" / project
        shutil.copytree(
            ROOT / project,
            copy,
            ignore=shutil.ignore_patterns(".*", "*.egg-info", "__pycache__", "build", "dist", "examples", "drivers"),
        )
        copies.append(copy)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", directory, *copies], check=True, capture_output=True)
    return directory


class Environment:
    """A virtual environment, which borrows the packages' dependencies from the environment of the tests."""

    def __init__(self, path: Path, wheels: Path) -> None:
        self._wheels = wheels
        self.installed: list[str] = []
        self.python = path / "bin/python"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", path], check=True)
        borrowed = path / "borrowed"
        borrowed.mkdir()
        own = sysconfig.get_path("purelib")
        for name in os.listdir(own):
            if not name.lower().startswith(("layerstore", "_layerstore", "__editable__")):
                (borrowed / name).symlink_to(Path(own, name))
        (site,) = path.glob("lib/python*/site-packages")
        (site / "borrowed.pth").write_text(f"{borrowed}\n")

    def _pip(self, *words: str) -> None:
        command = [sys.executable, "-m", "pip", "--python", self.python, *words, "--quiet"]
        subprocess.run(command, check=True, capture_output=True)

    def install(self, *names: str, wheels: Path | None = None) -> None:
        self._pip(
            "install", "--no-compile", "--no-index", "--no-deps", "--find-links", str(wheels or self._wheels), *names
        )
        self.installed += names

    def uninstall(self, *names: str) -> None:
        self._pip("uninstall", "--yes", *names)
        self.installed = [name for name in self.installed if name not in names]

    def run(self, *words: str | Path, cwd: Path, code: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("LAYERSTORE", "PYTHON", "PYTEST"))
        }
        done = subprocess.run(
            [self.python, "-m", *words],
            cwd=cwd,
            env=environment | variables,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done


def test_every_wheel_carries_the_licence_and_the_type_marker(wheels: Path) -> None:
    found = sorted(wheels.glob("*.whl"))
    assert len(found) >= len(EXAMPLES) + 2
    for wheel in found:
        names = zipfile.ZipFile(wheel).namelist()
        assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names), wheel.name
        assert any(name.endswith("/py.typed") for name in names), wheel.name


@pytest.fixture(scope="module")
def shared_environment(tmp_path_factory, wheels) -> Environment:
    """Make an environment that has core and vfs."""
    environment = Environment(tmp_path_factory.mktemp("environment") / "venv", wheels)
    environment.install("layerstore-core", "layerstore-driver-vfs")
    return environment


@pytest.fixture
def environment(shared_environment) -> Iterator[Environment]:
    """Yield the environment that has core and vfs. Afterwards uninstall what a test has installed."""
    before = list(shared_environment.installed)
    yield shared_environment
    if more := [name for name in shared_environment.installed if name not in before]:
        shared_environment.uninstall(*more)
    assert shared_environment.installed == before


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_passes_from_its_wheel(environment, tmp_path, name: str) -> None:
    if name == "erofs" and os.geteuid() != 0:
        pytest.skip("mounting needs the rights of root")
    if name == "fuse-overlayfs" and not (shutil.which(name) and os.access("/dev/fuse", os.W_OK)):
        pytest.skip("fuse-overlayfs is not installed, or /dev/fuse cannot be opened")
    environment.install(f"layerstore-driver-{name}")
    tests = tmp_path / "tests"
    shutil.copytree(ROOT / "examples" / name / "tests", tests, ignore=shutil.ignore_patterns("__pycache__"))
    done = environment.run("pytest", "-q", "-p", "no:cacheprovider", "--conformance-only", "lifecycle", ".", cwd=tests)
    assert " passed" in done.stdout and "skipped" not in done.stdout
    where = environment.run("layerstore_core", "--json", "drivers", cwd=tmp_path).stdout
    assert {*EXAMPLES, "vfs"} & {one["name"] for one in json.loads(where)["drivers"]} == {
        name,
        "vfs",
    }


def test_a_driver_is_installed_and_uninstalled(environment, tmp_path) -> None:
    """It is enough to install the wheel and name the driver. Without it there is a clear error, and no other driver."""
    settings = {"LAYERSTORE_ROOT": str(tmp_path / "root"), "LAYERSTORE_CONFIG": str(tmp_path / "config.toml")}
    (tmp_path / "config.toml").write_text('driver = "minimal"\n')
    tar = tmp_path / "layer.tar"
    tar.write_bytes(bytes(1024))

    environment.install("layerstore-driver-minimal")
    chain = environment.run("layerstore_core", "register", tar, cwd=tmp_path, **settings).stdout.strip()
    environment.uninstall("layerstore-driver-minimal")
    lost = environment.run("layerstore_core", "ls", cwd=tmp_path, code=1, **settings)
    assert "no driver 'minimal' is installed (installed: vfs)" in lost.stderr
    assert "pip install layerstore-driver-minimal" in lost.stderr

    # No other driver is used either if only the state under the root names the driver.
    (tmp_path / "config.toml").write_text("")
    lost = environment.run("layerstore_core", "ls", cwd=tmp_path, code=1, **settings)
    assert "has the state of driver 'minimal'" in lost.stderr

    environment.install("layerstore-driver-minimal")
    assert (
        chain.removeprefix("sha256:")[:12] in environment.run("layerstore_core", "ls", cwd=tmp_path, **settings).stdout
    )


def test_a_new_driver_is_made_from_the_wheel_and_passes(environment, tmp_path) -> None:
    """The templates are in core's wheel."""
    environment.run("layerstore_core", "driver", "new", "zfs", "--kind", "image", cwd=tmp_path)
    new = tmp_path / "layerstore-driver-zfs"
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", tmp_path, new], check=True, capture_output=True)
    environment.install("layerstore-driver-zfs", wheels=tmp_path)
    groups = ["--conformance-only", "lifecycle"]
    done = environment.run("pytest", "-q", "-p", "no:cacheprovider", *groups, "tests", cwd=new)
    assert " passed" in done.stdout and "skipped" not in done.stdout


def test_a_wrapper_wraps_a_driver(environment, tmp_path) -> None:
    environment.install("layerstore-timing")
    (tmp_path / "layer.tar").write_bytes(bytes(1024))
    environment.run(
        "layerstore_core",
        "--root",
        tmp_path / "root",
        "register",
        tmp_path / "layer.tar",
        cwd=tmp_path,
        LAYERSTORE_TIMING_FILE=str(tmp_path / "times.prom"),
        LAYERSTORE_DRIVER="vfs",
    )
    assert 'layerstore_driver_call_seconds_count{call="apply_diff"} 1' in (tmp_path / "times.prom").read_text()
