"""The page of the documents that runs containers on a driver: all of its lines, with the tutorial's driver as it is."""

from __future__ import annotations

import os
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridges.containerd.tests.real import engine
from bridges.containerd.tests.real.server import PROGRAMS
from layerstore_core import LayerStore, check_store
from tests.docs.surroundings import TOP, blocks
from tests.driver_roots import mounts_below

PAGE = TOP / "docs" / "how-to" / "run-containers-on-your-driver.md"


@pytest.fixture
def address() -> Iterator[Path]:
    """Yield a place for the socket. Its path may have at most 107 bytes, and pytest's directories are longer."""
    with tempfile.TemporaryDirectory(prefix="layerstore-") as directory:
        yield Path(directory, "socket")


def test_page_runs_a_container_on_the_minimal_driver(tmp_path: Path, address: Path) -> None:
    (table,) = blocks(PAGE, "toml")
    ((name, proxy),) = tomllib.loads(table)["proxy_plugins"].items()
    assert proxy["type"] == "snapshot"
    root = tmp_path / "layers"
    serve, *lines = blocks(PAGE, "bash")
    assert serve.endswith("&")
    # A reader is not so quick that the server is not there yet. It is stopped at the end.
    wait = f"until [ -S {address} ]; do kill -0 $!; sleep 0.02; done"
    script = "\n".join([serve, wait, *lines, "kill $!; wait $!"])
    script = script.replace(proxy["address"], str(address)).replace("/srv/layers", str(root))
    with engine.containerd(name, {name: address}) as containerd:
        own = {
            "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
            "CONTAINERD_ADDRESS": str(containerd.address),
            "CONTAINERD_NAMESPACE": containerd.name_space,
        }
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=tmp_path,
            env={**engine.without_notify_socket(), **own},
            capture_output=True,
            text=True,
            timeout=4 * engine.PATIENCE,  # it is a dozen of programs
            check=False,
        )
        assert done.returncode == 0, (done.stdout, done.stderr, containerd.log()[-2000:])
        assert "/data/file:written" in done.stdout
        assert containerd.processes() == []
        assert containerd.mounts() == []
    assert mounts_below(root) == []
    assert list((root / "minimal").iterdir()) == []
    with LayerStore.open(root=root, driver="minimal") as store:
        assert check_store(store, full=True) == []
