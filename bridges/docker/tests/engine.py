"""Real Docker daemons whose layers are kept by our server, and what users do with them."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import tars
from tests.docker.daemon import Daemon, daemon
from tests.driver_roots import mounts_below
from tests.images.archives import ImageSpec, docker_archive

from .served import Served, serving

PLUGINS = Path("/run/docker/plugins")
EXPERIMENTAL = "--experimental"


def busybox() -> bytes:
    """Return a layer with a shell and its programs."""
    program = Path(shutil.which("busybox")).read_bytes()
    names = ("cat", "echo", "ln", "ls", "mkdir", "mv", "rm", "sh", "sleep", "touch")
    links = [tars.entry(f"bin/{name}".encode(), typeflag=b"2", linkname=b"busybox") for name in names]
    return tars.tar(tars.directory(b"bin"), tars.entry(b"bin/busybox", program, mode=0o755), *links)


SECOND = tars.tar(
    tars.directory(b"data"),
    tars.entry(b"data/kept", b"kept"),
    tars.entry(b"data/removed", b"removed"),
    tars.directory(b"data/many"),
    *(tars.entry(b"data/many/%d" % number, b"x" * number) for number in range(50)),
)


def image() -> ImageSpec:
    """Return an image of two layers."""
    return ImageSpec([busybox(), SECOND], ["base:1"])


@contextmanager
def served_daemon(directory: Path, driver: str) -> Iterator[tuple[Daemon, Served]]:
    """Run a daemon with our server for the length of a `with` block. Afterwards nothing is mounted."""
    address = PLUGINS / f"layerstore-test-{os.getpid()}-{driver}.sock"
    with serving(directory / "layers", address, driver=driver) as served:
        with daemon(directory / "data", address.stem, EXPERIMENTAL) as docker:
            yield docker, served
        assert mounts_below(directory / "layers") == []
        assert served.stop() == 0
    assert mounts_below(directory) == []


@contextmanager
def managed_daemon(directory: Path, driver: str) -> Iterator[Daemon]:
    """Run a daemon with a managed plugin for the length of a `with` block. It is made from the installed packages."""
    plugin = directory / "plugin"
    program = [sys.executable, "-m", "layerstore_docker_plugin", "plugin", plugin, "--driver", driver]
    subprocess.run(program, check=True, capture_output=True)
    data = directory / "data"
    with daemon(data, "vfs") as docker:
        docker("plugin", "create", f"layerstore:{driver}", plugin)
        docker("plugin", "enable", f"layerstore:{driver}")
    with daemon(data, f"layerstore:{driver}", EXPERIMENTAL) as docker:
        yield docker
    assert mounts_below(directory) == []


def use(docker: Daemon, *, build: bool = True) -> None:
    """Do what users do: load, run, diff, commit, copy, build, save."""
    docker("load", stdin=docker_archive(image()))
    change = "echo new >/data/new; rm /data/removed; rm -r /data/many; ln /data/kept /data/link; mkdir /data/many"
    docker("run", "--name=one", "--network=none", "base:1", "sh", "-c", f"{change}; touch /data/many/again")
    # Some drivers name a file that has got a further name.
    assert set(docker.lines("diff", "one")) - {"C /data/kept"} == {
        "C /data",
        "A /data/link",
        "A /data/new",
        "D /data/removed",
        "C /data/many",
        "A /data/many/again",
        *(f"D /data/many/{number}" for number in range(50)),
    }
    docker("commit", "one", "two:1")
    listed = docker.lines("run", "--rm", "--network=none", "two:1", "ls", "/data", "/data/many")
    assert listed == ["/data:", "kept", "link", "many", "new", "", "/data/many:", "again"]
    if build:
        files = io.BytesIO()
        with tarfile.open(fileobj=files, mode="w") as tar:
            text = b"FROM two:1\nCOPY added /data/\nRUN echo built >/built; rm /data/new\nCMD cat /built /data/added\n"
            for name, content in (("Dockerfile", text), ("added", b"added\n")):
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
        docker("build", "--network=none", "--tag=three:1", "-", stdin=files.getvalue())
        assert docker.lines("run", "--rm", "--network=none", "three:1") == ["built", "added"]
        check_saved(docker("save", "three:1"))
    check_saved(docker("save", "two:1"))
    with tarfile.open(fileobj=io.BytesIO(docker("cp", "one:/data/new", "-"))) as tar:
        assert tar.extractfile("new").read() == b"new\n"


def check_saved(archive: bytes) -> None:
    """Check that each layer of an archive has the digest that the config says."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        (entry,) = json.load(tar.extractfile("manifest.json"))
        config = json.load(tar.extractfile(entry["Config"]))
        found = [f"sha256:{hashlib.sha256(tar.extractfile(layer).read()).hexdigest()}" for layer in entry["Layers"]]
    assert found == config["rootfs"]["diff_ids"]


def remove_all(docker: Daemon) -> None:
    """Remove all containers and images."""
    if containers := docker.lines("ps", "--all", "--quiet"):
        docker("rm", "--force", *containers)
    docker("image", "prune", "--all", "--force")
    assert docker.lines("images", "--all", "--quiet") == []


def layers_left(served: Served) -> list[str]:
    """Return the layers that the driver still has."""
    client = served.client()
    found = client.call("Layerstore.LayerIDs")["IDs"]
    client.close()
    return found
