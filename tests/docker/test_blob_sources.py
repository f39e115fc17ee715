"""Docker and layerstore tell each other, by their records on one root, which repositories have the blobs of layers."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerstore_core import LayerStore
from layerstore_core.images import Images
from tests.docker.daemon import daemon
from tests.images.archives import ImageSpec, docker_archive
from tests.registry.servers import RegistryServer, docker_registry, program_missing
from tests.store.layers import BASE, MIDDLE, TOP


@pytest.fixture
def driver() -> str:
    """The records do not depend on the driver."""
    return "vfs"


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[RegistryServer]:
    if reason := program_missing("docker-registry"):
        pytest.skip(reason)
    with docker_registry(tmp_path / "registry") as server:
        yield server


def test_each_mounts_what_the_other_has_pulled_or_pushed(store_root: Path, registry: RegistryServer) -> None:
    host = registry.host
    with LayerStore.open(root=store_root, driver="vfs") as store:
        images = Images(store)
        images.load(io.BytesIO(docker_archive(ImageSpec((BASE, MIDDLE), ("ours:1",)), ImageSpec((TOP,), ("x:1",)))))
        images.push("ours:1", f"{host}/ours:1")
        images.push("x:1", f"{host}/first/x:1")
        images.remove("x:1")
        images.tag("ours:1", f"{host}/theirs:1")
    with daemon(store_root, "vfs") as docker:
        said = docker.text("push", f"{host}/theirs:1")
        assert said.count("Mounted from ours") == 2
        docker("pull", "-q", f"{host}/first/x:1")
        assert docker.errors() == []
    with LayerStore.open(root=store_root, driver="vfs") as store:
        pushed = Images(store).push(f"{host}/first/x:1", f"{host}/second/x:1")
        assert [blob.state for blob in pushed.blobs] == ["mounted", "uploaded"]
