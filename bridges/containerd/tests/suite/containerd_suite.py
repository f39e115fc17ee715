"""containerd's own test suite of snapshotters, over our server. `make engines` runs it; it needs root and Go.

The suite is containerd's package `snapshots/testsuite`: 20 tests, and one that it always skips. Its client is
containerd's own, too. It runs in four ways: directly, through containerd's database of names (`metadata`, as in a
daemon), and with a server that is killed every few calls, between two calls or within one. Each test has a server and
a root of its own. At its end the server has to end by itself, without a mount left, and `layerstore check --full` has
to find the root in good order.
"""

from __future__ import annotations

import io
import json
import os
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerstore_core import LayerStore
from layerstore_core.maintenance.check import check_store
from tests.driver_roots import DRIVERS, btrfs_file_system, why_not
from tests.engines import go

pytestmark = [pytest.mark.needs_root, pytest.mark.timeout(1800)]

GLUE = Path(__file__).parent
PACKAGES = ["golang-github-containerd-containerd-dev"]
SERVER = [str(Path(sys.executable).with_name("layerstore-snapshotter")), "--root", "{root}", "--address", "{address}"]
CHECK = [str(Path(sys.executable).with_name("layerstore")), "--root", "{root}"]
#: The only one that the suite skips, with its reason.
SKIPPED = {"Rename": "rename test still fails on some kernels with overlay"}
#: The tests that it runs.
TESTS = 20


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the test program."""
    if reason := go.why_not(PACKAGES):
        pytest.skip(reason)
    if os.geteuid():
        pytest.skip("needs the rights of root: the suite mounts")
    path = tmp_path_factory.mktemp("containerd") / "suite"
    go.build(GLUE, path, {})
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


def run(program: Path, name: str, directory: Path, **variables: object) -> go.Results:
    arguments = [f"-test.run=^{name}$", "-test.root", "-test.parallel=2"]
    environment = {f"SUITE_{key.upper()}": json.dumps(value) for key, value in variables.items()}
    return go.run(program, arguments, {"TMPDIR": str(directory), **environment}, timeout=1200)


def judge(name: str, results: go.Results, say: pytest.CaptureFixture[str]) -> None:
    with say.disabled():
        print(f"\n{name}: {results}", end=" ")
    assert not results.failed, "\n".join(results.failed.values())
    assert {key.rpartition("/")[2]: reason for key, reason in results.skipped.items()} == SKIPPED
    assert len(results.passed) == TESTS


def test_the_glue_with_containerds_own_snapshotter(program, tmp_path, capsys):
    judge("containerd's native snapshotter", run(program, "TestProxy", tmp_path, server=["control"]), capsys)


@pytest.mark.parametrize("way", ["Proxy", "Metadata", "Killed", "KilledWithin"])
def test_the_suite(program, driver, directory, way, capsys):
    server, check = [*SERVER, "--driver", driver], [*CHECK, "--driver", driver, "check", "--full"]
    results = run(program, f"Test{way}", directory, server=server, check=check)
    judge(f"layerstore-snapshotter, {driver}, {way.lower()}", results, capsys)


def test_many_clients(program, driver, directory, capsys):
    """Sixteen at work on one server, each in twelve rounds, with others that list: each finds what it wrote."""
    server, check = [*SERVER, "--driver", driver], [*CHECK, "--driver", driver, "check", "--full"]
    results = run(program, "TestMany", directory, server=server, check=check)
    with capsys.disabled():
        print(f"\nlayerstore-snapshotter, {driver}, many clients: {results}", end=" ")
    assert not results.failed, "\n".join(results.failed.values())
    assert results.passed == ["TestMany"]


def test_layers_that_the_store_has_are_not_unpacked(program, driver, directory, capsys):
    """containerd's client gets committed snapshots of them, in two name spaces, and mounts them."""
    root = directory / "remote"
    layers = [{"base": "one", "gone": "x", "changed": "x"}, {"middle": "two", ".wh.gone": ""}, {"changed": "three"}]
    with LayerStore.open(root=str(root), driver=driver) as store:
        parent, chain = None, []
        for files in layers:
            layer = store.register(tar(files), parent)
            parent = layer.chain_id
            chain.append(str(parent))
        before = store.chain_ids()
    image = {
        "root": str(root),
        "chain": chain,
        "files": {"base": "one", "middle": "two", "changed": "three"},
        "absent": ["gone", ".wh.gone"],
    }
    server, check = [*SERVER, "--driver", driver], [*CHECK, "--driver", driver, "check", "--full"]
    results = run(program, "TestRemote", directory, server=server, check=check, remote=image)
    with capsys.disabled():
        print(f"\nlayerstore-snapshotter, {driver}, remote snapshots: {results}", end=" ")
    assert not results.failed, "\n".join(results.failed.values())
    assert results.passed == ["TestRemote"]
    with LayerStore.open(root=str(root), driver=driver) as store:
        assert store.chain_ids() == before
        assert check_store(store, full=True) == []


def tar(files: dict[str, str]) -> io.BytesIO:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as writer:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            writer.addfile(member, io.BytesIO(content.encode()))
    archive.seek(0)
    return archive
