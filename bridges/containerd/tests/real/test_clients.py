"""Several clients pull, run and remove at the same time, and engine and server are killed in the middle of it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bridges.containerd.tests.real import images
from bridges.containerd.tests.real.bridge import Bridge, CtrFailed
from tests.registry.servers import RegistryServer
from tests.registry.skopeo import copy_in


@pytest.fixture
def pushed(registry: RegistryServer, tmp_path: Path) -> Callable[..., str]:
    """Return a function that pushes an image with a number, and returns its name. All share the first layer."""

    def push(number: int, layers: int = 4) -> str:
        name = f"{registry.host}/image-{number}-{layers}:1"
        copy_in(images.image_layout(tmp_path / "layout", images.image(layers, first=100 * number)), name)
        return name

    return push


def has(number: int) -> str:
    """Return a script that finds the file of the topmost layer, the one with this number."""
    return f'test "$(cat /etc/motd)" = "layer {number}"'


def test_several_clients_at_once(start_bridge: Callable[[str], Bridge], pushed: Callable[..., str]) -> None:
    """Four images with one base, each pulled by two clients at once, run three times at once, and removed meanwhile."""
    bridge = start_bridge("overlay2")
    containerd = bridge.containerd
    names = [pushed(number) for number in range(4)]

    def run(number: int) -> None:
        containerd.run(names[number % 4], f"c{number}", has(100 * (number % 4) + 2))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(containerd.pull, names * 2))
        list(pool.map(run, range(12)))
        bridge.check_lists()
        bridge.check_store()
        removed = pool.submit(containerd.ctr, "images", "rm", "--sync", *names[2:])
        list(pool.map(run, (20, 21, 24, 25)))
        removed.result()
    left = {*images.chain(images.image(4, first=0)), *images.chain(images.image(4, first=100))}
    assert bridge.check_lists().keys() == left
    bridge.check_empty()


def test_server_is_killed_in_the_middle_of_a_pull(bridge: Bridge, pushed: Callable[..., str]) -> None:
    """The pull fails or goes on, a second one ends what it began, and the containers of before go on."""
    containerd, server = bridge.containerd, bridge.server
    first, name = pushed(1), pushed(2, layers=12)
    containerd.pull(first)
    containerd.start_container(first, "before")
    with containerd.pull_process(name) as pull:
        bridge.wait_for(committed=4 + 4)
        server.kill()
        pull.communicate()
    containerd.exec("before", has(102))
    with pytest.raises(CtrFailed, match="unavailable"):
        containerd.run(first, "without-a-server", "true")
    bridge.restart_server()
    bridge.check_lists()
    bridge.check_store()
    containerd.pull(name)
    containerd.run(name, "after", has(210))
    bridge.check_lists()
    bridge.check_empty()


def test_containerd_is_killed_in_the_middle_of_a_pull(bridge: Bridge, pushed: Callable[..., str]) -> None:
    """What containerd has forgotten is removed at its next collection. A container goes on, and can be removed."""
    containerd = bridge.containerd
    first, name = pushed(1), pushed(2, layers=12)
    containerd.pull(first)
    containerd.start_container(first, "before")
    with containerd.pull_process(name) as pull:
        bridge.wait_for(committed=4 + 4)
        containerd.kill()
        pull.kill()
        pull.communicate()
    containerd.start()
    containerd.exec("before", has(102))
    bridge.check_lists()
    containerd.pull(name)
    containerd.run(name, "after", has(210))
    bridge.check_lists()
    bridge.check_empty()


def test_both_are_killed_and_containers_go_on(bridge: Bridge, tmp_path: Path) -> None:
    """A container's writable layer stays as it is, and what was made before is there."""
    containerd, server = bridge.containerd, bridge.server
    containerd.import_(images.archive(tmp_path / "image.tar", images.image()))
    containerd.start_container(images.NAME, "long")
    containerd.exec("long", "echo written >/etc/motd")
    before = bridge.check_lists()
    server.kill()
    containerd.kill()
    server.start()
    containerd.start()  # it has not seen that the server was gone
    assert bridge.check_lists() == before
    containerd.exec("long", 'test "$(cat /etc/motd)" = written')
    containerd.run(images.NAME, "short", has(2))
    bridge.check_store()
    bridge.check_empty()
