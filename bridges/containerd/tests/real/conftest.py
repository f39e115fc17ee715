"""Fixtures: roots for each driver, an engine over each, and a registry."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

from bridges.containerd.tests.real import bridge as bridges
from bridges.containerd.tests.real.bridge import Bridge
from tests.driver_roots import DRIVERS, btrfs_file_system, why_not
from tests.registry.servers import RegistryServer, docker_registry, program_missing

#: What the gate runs of these tests, and over which drivers. `make engines` runs all, which takes minutes.
IN_GATE = {
    "test_image_and_its_containers_from_import_to_removal": DRIVERS,
    "test_server_is_killed_in_the_middle_of_a_pull": ("overlay2",),
    "test_container_runs_on_pulled_layers_without_a_download": ("btrfs",),
    "test_page_runs_a_container_on_the_minimal_driver": ("",),
}
ALL = os.environ.get("LAYERSTORE_TEST_ENGINES") == "all"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run these tests one after another, in one process: on two cores, two engines at once are not quicker."""
    ours = [item for item in items if Path(__file__).parent in item.path.parents]
    for item in ours:
        item.add_marker(pytest.mark.xdist_group("containerd"))
    if not ALL and (left_out := [item for item in ours if not _in_gate(item)]):
        config.hook.pytest_deselected(items=left_out)
        without = set(left_out)
        items[:] = [item for item in items if item not in without]


def _in_gate(item: pytest.Item) -> bool:
    assert isinstance(item, pytest.Function)
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    return parameters.get("driver", "") in IN_GATE.get(item.originalname, ())


@pytest.fixture(autouse=True)
def _needs_containerd() -> None:
    if reason := bridges.why_not():
        pytest.skip(reason)


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> str:
    """Return the name of each driver in turn."""
    name: str = request.param
    if reason := why_not(name):
        pytest.skip(f"{name}: {reason}")
    return name


@pytest.fixture(scope="session")
def btrfs_for_engines() -> Iterator[Path]:
    """Mount a btrfs file system, once in a session."""
    with btrfs_file_system() as mount:
        yield mount


@pytest.fixture
def start_bridge(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., Bridge]]:
    """Yield a function that starts an engine over a new root of a driver. All of it is gone after the test."""
    with ExitStack() as started:

        def start(driver: str, **options: bool) -> Bridge:
            if driver == "btrfs":
                root = Path(request.getfixturevalue("btrfs_for_engines")) / tmp_path.name / "store"
            else:
                root = tmp_path / "store"
            running: AbstractContextManager[Bridge] = bridges.bridge(driver, root, **options)
            return started.enter_context(running)

        yield start


@pytest.fixture
def bridge(driver: str, start_bridge: Callable[..., Bridge]) -> Bridge:
    """Return an engine over an empty root of each driver in turn."""
    return start_bridge(driver)


@pytest.fixture(scope="session")
def registry() -> Iterator[RegistryServer]:
    """Yield a registry for everyone, in clear, which logs the bytes that it sends."""
    if reason := program_missing("docker-registry", "skopeo"):
        pytest.skip(reason)
    with (
        tempfile.TemporaryDirectory(prefix="layerstore-registry-") as directory,
        docker_registry(Path(directory) / "registry") as server,
    ):
        yield server
