"""Reading an image: the contenders that list its files, and that read one of them."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Final

from benchmarks.contenders import Contender, environment, layerstore
from benchmarks.workshop import Workshop

_IMAGE: Final = "bench-image:latest"
_LIST: Final = "all paths"
_ONE: Final = "one file"


def listing(shop: Workshop) -> list[Contender]:
    """Return the contenders that print all paths of an image of eight layers."""
    store, driver = _store(shop)
    ours = layerstore("files", _IMAGE, "-R", root=str(store), driver=driver)
    return [
        Contender("layerstore files -R", f"{_LIST}, from the layers' records", ours),
        *_docker(shop, "docker create, docker export", f"{_LIST}, whole content", "export $id | tar -t"),
        *_podman(shop, "podman image mount, find", f"{_LIST}, from a mount", 'find "$tree"'),
        *_umoci(shop, "umoci unpack, find", f"{_LIST}, after extraction of all", "find x/rootfs"),
    ]


def reading(shop: Workshop) -> list[Contender]:
    """Return the contenders that print one small file of an image of eight layers: one of the fourth."""
    store, driver = _store(shop)
    path = _a_file(shop.image_layers[3][0])
    place = shlex.quote(path)
    ours = layerstore("cat", _IMAGE, path, root=str(store), driver=driver)
    copy = f"cp $id:/{place} - | tar -xO"
    return [
        Contender("layerstore cat", f"{_ONE}, with its checksum", ours),
        *_docker(shop, "docker create, docker cp", _ONE, copy),
        *_podman(shop, "podman image mount, cat", f"{_ONE}, from a mount", f'cat "$tree"/{place}'),
        *_umoci(shop, "umoci unpack, cat", f"{_ONE}, after extraction of all", f"cat x/rootfs/{place}"),
    ]


def _store(shop: Workshop) -> tuple[Path, str]:
    """Return a store with the image, and its driver."""
    store, driver = shop.work / "image-store", "vfs" if os.geteuid() else "overlay2"
    if not store.exists():
        archive = shop.archive_of(shop.image_layers, "image")
        command = layerstore("load", str(archive), root=str(store), driver=driver)
        subprocess.run(command, check=True, capture_output=True, env=environment())
    return store, driver


def _a_file(layer: Path) -> str:
    """Return the name of the first small file of a tar that has some content."""
    with tarfile.open(layer) as tar:
        return next(entry.name for entry in tar if entry.isfile() and 0 < entry.size < 10_000)


def _shell(script: str) -> list[str]:
    return ["sh", "-ec", f"{{ {script}; }} >o"]


def _docker(shop: Workshop, name: str, does: str, use: str) -> list[Contender]:
    if not shop.docker:
        return [Contender(name, does, ["docker"], "dockerd-that-answers")]
    docker = shlex.join(shop.docker)
    archive = shop.archive_of(shop.image_layers, "image")
    subprocess.run([*shop.docker, "load", "-qi", str(archive)], check=True, capture_output=True)
    script = f"id=$({docker} create {_IMAGE} true); {docker} {use}; {docker} rm $id >&2"
    return [Contender(name, does, _shell(script), "docker")]


def _podman(shop: Workshop, name: str, does: str, use: str) -> list[Contender]:
    if shutil.which("podman") is None or os.geteuid():
        return [Contender(name, does, ["podman"], "podman", needs_root=True)]
    root = shop.work / "podman"
    podman = ["podman", "--root", str(root), "--runroot", str(root / "run"), "--storage-driver", "overlay"]
    if not root.exists():
        archive = shop.archive_of(shop.image_layers, "image")
        done = subprocess.run([*podman, "load", "-qi", str(archive)], check=False, capture_output=True)
        if done.returncode:
            return [Contender(name, does, ["podman"], "podman-that-works-here")]
    words = shlex.join(podman)
    script = f"tree=$({words} image mount {_IMAGE}); {use}; {words} image umount {_IMAGE} >&2"
    return [Contender(name, does, _shell(script), "podman", needs_root=True)]


def _umoci(shop: Workshop, name: str, does: str, use: str) -> list[Contender]:
    rootless = " --rootless" if os.geteuid() else ""
    layout = shop.work / "image-layout"
    if shutil.which("umoci") and not layout.exists():
        store, driver = _store(shop)
        command = layerstore("save", _IMAGE, "-o", str(layout), "--format", "oci", root=str(store), driver=driver)
        subprocess.run(command, check=True, capture_output=True, env=environment())
    tag = _IMAGE.rpartition(":")[2]
    return [Contender(name, does, _shell(f"umoci unpack{rootless} --image {layout}:{tag} x; {use}"), "umoci")]
