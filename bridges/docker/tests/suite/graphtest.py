"""moby's own tests of graph drivers, over our server. `make engines` runs them; they need root and Go.

The scenarios are moby's package `daemon/graphdriver/graphtest`: seven tests and seven benchmarks, which are run once
each, as they verify what they read. Its client is moby's own for plugins. At the end the server has to end by itself,
without a mount left.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.driver_roots import DRIVERS, btrfs_file_system, why_not
from tests.engines import go

pytestmark = [pytest.mark.needs_root, pytest.mark.timeout(900)]

GLUE = Path(__file__).parent
PACKAGES = ["golang-github-docker-docker-dev", "golang-github-vbatts-tar-split-dev"]
STUBS = {f"github.com/docker/docker/{path}": GLUE / "stubs" / path for path in ("plugin/v2", "quota")}
SERVER = [str(Path(sys.executable).with_name("layerstore-graphdriver")), "--root", "{root}", "--address", "{address}"]
#: Both ends of the server count as tests.
TESTS = 10
BENCHMARKS = 8
_IMAGE_SIZE = 512 << 20


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the test program."""
    if reason := go.why_not(PACKAGES):
        pytest.skip(reason)
    if os.geteuid():
        pytest.skip("needs the rights of root: the scenarios have files of several owners")
    path = tmp_path_factory.mktemp("graphtest") / "suite"
    go.build(GLUE, path, STUBS)
    return path


@pytest.fixture(scope="module", params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if reason := why_not(name):
        pytest.skip(f"{name}: {reason}")
    return name


@pytest.fixture(scope="module")
def directory(driver: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Yield a directory on a file system that the driver supports."""
    if driver == "btrfs":
        with btrfs_file_system() as path:
            yield path
    else:
        yield tmp_path_factory.mktemp("roots")


def run(
    program: Path, directory: Path, driver: str, *arguments: str, quota: str = "no", kill: str = "no"
) -> go.Results:
    server = [*SERVER, "--driver", driver] if driver else ["control"]
    environment = {
        "TMPDIR": str(directory),
        "SUITE_SERVER": json.dumps(server),
        "SUITE_QUOTA": quota,
        "SUITE_KILL": kill,
    }
    return go.run(program, arguments, environment, timeout=600)


def judge(name: str, results: go.Results, say: pytest.CaptureFixture[str]) -> None:
    with say.disabled():
        print(f"\n{name}: {results}", end=" ")
    assert not results.failed, "\n".join([*results.failed.values(), results.output])


def judge_tests(name: str, results: go.Results, say: pytest.CaptureFixture[str], *, quota: bool) -> None:
    judge(name, results, say)
    assert list(results.skipped) == ([] if quota else ["TestSetQuota"])
    assert len(results.passed) + len(results.skipped) == TESTS


def test_the_glue_with_mobys_own_driver(program, tmp_path, capsys):
    judge_tests("moby's vfs", run(program, tmp_path, ""), capsys, quota=False)


def test_the_scenarios(program, driver, directory, capsys):
    limits = driver == "btrfs"  # the only one that has them without a special file system
    results = run(program, directory, driver, quota="yes" if limits else "no")
    judge_tests(f"layerstore-graphdriver, {driver}", results, capsys, quota=limits)
    if not limits:
        assert "use overlay2 on" in results.skipped["TestSetQuota"] or "prjquota" in results.skipped["TestSetQuota"]


def test_the_scenarios_with_a_server_that_is_killed(program, driver, directory, capsys):
    """Every few calls. Docker does not notice: it calls Init once, when the daemon starts."""
    limits = driver == "btrfs"
    results = run(program, directory, driver, quota="yes" if limits else "no", kill="yes")
    judge_tests(f"layerstore-graphdriver, {driver}, killed", results, capsys, quota=limits)


def test_the_benchmarks_as_scenarios(program, driver, directory, capsys):
    results = run(program, directory, driver, "-test.run=^$", "-test.bench=.", "-test.benchtime=1x")
    judge(f"layerstore-graphdriver, {driver}, benchmarks once each", results, capsys)
    assert len(results.passed) == BENCHMARKS


@pytest.mark.kernel_option("CONFIG_QFMT_V2")
def test_limits_of_overlay2(program, tmp_path, capsys):
    with file_system_with_limits(tmp_path) as directory:
        results = run(program, directory, "overlay2", "-test.run=^TestSetQuota$", quota="yes")
    judge("layerstore-graphdriver, overlay2 on ext4 with project quota", results, capsys)
    assert results.passed == ["TestSetQuota"]


@contextmanager
def file_system_with_limits(directory: Path) -> Iterator[Path]:
    """Mount an ext4 file system with project quota for the length of a `with` block."""
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("mkfs.ext4 is not installed (package e2fsprogs)")
    image, point = directory / "image", directory / "mounted"
    point.mkdir()
    with image.open("wb") as file:
        file.truncate(_IMAGE_SIZE)
    subprocess.run(["mkfs.ext4", "-q", "-O", "quota,project", image], check=True)
    if subprocess.run(["mount", "-o", "loop,prjquota", image, point], check=False, capture_output=True).returncode:
        pytest.skip("the kernel mounts no ext4 with project quota: it was built without CONFIG_QFMT_V2")
    try:
        yield point
    finally:
        subprocess.run(["umount", "--lazy", point], check=True)
