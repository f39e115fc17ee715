"""Layers that `layerstore pull` has brought cost containerd neither a download nor an unpacking."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from bridges.containerd.tests.real import images
from bridges.containerd.tests.real.bridge import Bridge, why_not
from bridges.containerd.tests.real.server import StoreFailed
from tests.images.archives import ImageSpec, sha256
from tests.registry.servers import RegistryServer
from tests.registry.skopeo import copy_in

IMAGE = images.image(4, first=500)
HAS = 'test "$(cat /etc/motd /only-501)" = "layer 502\n501"'


@pytest.fixture
def pushed(registry: RegistryServer, tmp_path: Path) -> str:
    """Push the image, and return its name."""
    name = f"{registry.host}/pulled:1"
    copy_in(images.image_layout(tmp_path / "layout", IMAGE), name)
    return name


def layer_bytes(registry: RegistryServer, image: ImageSpec) -> int:
    """Return how many bytes of the image's layers the registry has sent."""
    return sum(registry.sent(f"GET .*/blobs/{sha256(layer)}") for layer in image.packed)


def test_container_runs_on_pulled_layers_without_a_download(
    bridge: Bridge, registry: RegistryServer, pushed: str
) -> None:
    if reason := why_not("ctr-remote"):
        pytest.skip(reason)
    containerd, server = bridge.containerd, bridge.server
    registry.forget()
    server.store("pull", "--quiet", pushed)
    assert layer_bytes(registry, IMAGE) == sum(map(len, IMAGE.packed))
    trees = bridge.trees()
    registry.forget()
    containerd.pull_with_labels(pushed)
    assert layer_bytes(registry, IMAGE) == 0
    assert registry.sent("GET .*/blobs/") == len(IMAGE.config)
    assert {access.agent.partition("/")[0] for access in registry.requests()} == {"containerd"}
    assert bridge.trees() == trees  # nothing was unpacked
    chain = images.chain(IMAGE)
    assert bridge.check_lists() == {
        one: (parent, "Committed") for one, parent in zip(chain, ["", *chain[:-1]], strict=True)
    }
    containerd.run(pushed, "one", HAS)
    assert layer_bytes(registry, IMAGE) == 0

    # The store keeps the layers as long as containerd has snapshots of them, whatever becomes of the image.
    server.store("rmi", pushed)
    server.store("gc")
    assert bridge.trees() == trees
    with pytest.raises(StoreFailed, match="snapshot"):
        server.store("rm", chain[-1])
    containerd.run(pushed, "two", HAS)
    bridge.check_store()

    containerd.remove_all_images()
    assert bridge.check_lists() == {}
    server.store("rm", chain[-1])
    assert bridge.trees() == set()
    bridge.check_empty()


def test_layers_that_the_store_lacks_are_fetched_and_only_those(
    start_bridge: Callable[[str], Bridge], registry: RegistryServer, pushed: str, tmp_path: Path
) -> None:
    """A store with the lower layers: containerd gets these from it, and unpacks the others on them."""
    if reason := why_not("ctr-remote"):
        pytest.skip(reason)
    bridge = start_bridge("overlay2")
    lower = images.image(3, first=500, name=images.OTHER)
    bridge.server.store("load", images.archive(tmp_path / "lower.tar", lower))
    registry.forget()
    bridge.containerd.pull_with_labels(pushed)
    assert layer_bytes(registry, IMAGE) == len(IMAGE.packed[-1])
    bridge.containerd.run(pushed, "one", HAS)
    bridge.check_lists()
    bridge.check_empty()


def test_kubernetes_pull_takes_layers_of_the_store(
    start_bridge: Callable[..., Bridge], registry: RegistryServer, pushed: str
) -> None:
    """The CRI plugin passes the label as it is configured at Debian: an operator sets the snapshotter, nothing else."""
    bridge = start_bridge("vfs", cri=True)
    bridge.server.store("pull", "--quiet", pushed)
    registry.forget()
    name = pushed.encode()
    spec = b"\x0a" + bytes([len(name)]) + name  # ImageSpec: 1 image
    request = b"\x0a" + bytes([len(spec)]) + spec  # PullImageRequest: 1 image
    with grpc.insecure_channel(f"unix:{bridge.containerd.address}") as channel:
        pull = channel.unary_unary(
            "/runtime.v1.ImageService/PullImage", request_serializer=bytes, response_deserializer=bytes
        )
        answer = pull(request, timeout=60)
    assert IMAGE.image_id.encode() in answer
    assert layer_bytes(registry, IMAGE) == 0
    bridge.containerd.name_space = "k8s.io"
    assert bridge.check_lists().keys() == set(images.chain(IMAGE))
    bridge.containerd.run(pushed, "one", HAS)
    bridge.check_empty()
