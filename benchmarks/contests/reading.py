"""Reading images: the contenders that list the files of one, read one of them, and compare two images."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.contenders import Contender, environment, layerstore
from benchmarks.workshop import Workshop

_IMAGE: Final = "bench-image:latest"
_CHILD: Final = "bench-child:latest"
#: GNU diff finds other types and contents, but no other modes, owners, times and attributes. It exits with 1 then.
_DIFF: Final = "diff -rq --no-dereference %s %s || test $? = 1"
_LIST: Final = "all paths"
_ONE: Final = "one file"


def listing(shop: Workshop) -> list[Contender]:
    """Return the contenders that print all paths of an image of eight layers."""
    store, driver = _store(shop)
    ours = layerstore("files", _IMAGE, "-R", root=str(store), driver=driver)
    return [
        Contender("layerstore files -R", f"{_LIST}, from the layers' records", ours),
        *_docker(shop, "docker create, docker export", f"{_LIST}, whole content", "%s export $id0 | tar -t"),
        *_podman(shop, "podman image mount, find", f"{_LIST}, from a mount", 'find "$tree0"'),
        *_umoci(shop, "umoci unpack, find", f"{_LIST}, after extraction of all", "find x0/rootfs"),
    ]


def reading(shop: Workshop) -> list[Contender]:
    """Return the contenders that print one small file of an image of eight layers: one of the fourth."""
    store, driver = _store(shop)
    path = _a_file(shop.image_layers[3][0])
    place = shlex.quote(path)
    ours = layerstore("cat", _IMAGE, path, root=str(store), driver=driver)
    copy = f"%s cp $id0:/{place} - | tar -xO"
    return [
        Contender("layerstore cat", f"{_ONE}, with its checksum", ours),
        *_docker(shop, "docker create, docker cp", _ONE, copy),
        *_podman(shop, "podman image mount, cat", f"{_ONE}, from a mount", f'cat "$tree0"/{place}'),
        *_umoci(shop, "umoci unpack, cat", f"{_ONE}, after extraction of all", f"cat x0/rootfs/{place}"),
    ]


def comparing(shop: Workshop) -> list[Contender]:
    """Return the contenders that compare an image of eight layers with one that has a layer more, with few changes."""
    store, driver = _store(shop)
    ours = layerstore("diff", _IMAGE, _CHILD, root=str(store), driver=driver)
    names = [_IMAGE, _CHILD]
    exports = f"mkdir a b; %s export $id0 | tar -xC a; %s export $id1 | tar -xC b; {_DIFF % ('a', 'b')}"
    trees = "types, content, after extraction of both"
    return [
        Contender("layerstore diff", "names, all metadata, content, from the layers' records", ours),
        *_docker(shop, "docker create, docker export, diff", trees, exports, names),
        *_podman(
            shop, "podman image mount, diff", "types, content, from mounts", _DIFF % ('"$tree0"', '"$tree1"'), names
        ),
        *_umoci(shop, "umoci unpack, diff", trees, _DIFF % ("x0/rootfs", "x1/rootfs"), names),
    ]


def _archives(shop: Workshop) -> list[Path]:
    """Return archives of both images."""
    return [shop.archive_of(shop.image_layers, "image"), shop.archive_of(shop.child_layers, "child")]


def _store(shop: Workshop) -> tuple[Path, str]:
    """Return a store with both images, and its driver."""
    store, driver = shop.work / "image-store", "vfs" if os.geteuid() else "overlay2"
    if not store.exists():
        for archive in _archives(shop):
            command = layerstore("load", str(archive), root=str(store), driver=driver)
            subprocess.run(command, check=True, capture_output=True, env=environment())
    return store, driver


def _a_file(layer: Path) -> str:
    """Return the name of the first small file of a tar that has some content."""
    with tarfile.open(layer) as tar:
        return next(entry.name for entry in tar if entry.isfile() and 0 < entry.size < 10_000)


def _shell(script: str) -> list[str]:
    return ["sh", "-ec", f"{{ {script}; }} >o"]


def _docker(shop: Workshop, name: str, does: str, use: str, images: Sequence[str] = (_IMAGE,)) -> list[Contender]:
    """Return Docker, which uses containers of the images, `$id0` and so on; `%s` in `use` is its client."""
    if not shop.docker:
        return [Contender(name, does, ["docker"], "dockerd-that-answers")]
    docker = shlex.join(shop.docker)
    for archive in _archives(shop):
        subprocess.run([*shop.docker, "load", "-qi", str(archive)], check=True, capture_output=True)
    made = " ".join(f"id{number}=$({docker} create {image} true);" for number, image in enumerate(images))
    removed = " ".join(f"$id{number}" for number in range(len(images)))
    script = f"{made} {use.replace('%s', docker)}; {docker} rm {removed} >&2"
    return [Contender(name, does, _shell(script), "docker")]


def _podman(shop: Workshop, name: str, does: str, use: str, images: Sequence[str] = (_IMAGE,)) -> list[Contender]:
    """Return podman, which uses mounts of the images at `$tree0` and so on."""
    if shutil.which("podman") is None or os.geteuid():
        return [Contender(name, does, ["podman"], "podman", needs_root=True)]
    root = shop.work / "podman"
    podman = ["podman", "--root", str(root), "--runroot", str(root / "run"), "--storage-driver", "overlay"]
    if not root.exists():
        for archive in _archives(shop):
            done = subprocess.run([*podman, "load", "-qi", str(archive)], check=False, capture_output=True)
            if done.returncode:
                return [Contender(name, does, ["podman"], "podman-that-works-here")]
    words = shlex.join(podman)
    mounts = " ".join(f"tree{number}=$({words} image mount {image});" for number, image in enumerate(images))
    script = f"{mounts} {use}; {words} image umount {shlex.join(images)} >&2"
    return [Contender(name, does, _shell(script), "podman", needs_root=True)]


def _umoci(shop: Workshop, name: str, does: str, use: str, images: Sequence[str] = (_IMAGE,)) -> list[Contender]:
    """Return umoci, which unpacks the images into `x0` and so on."""
    rootless = " --rootless" if os.geteuid() else ""
    unpacked = []
    for number, image in enumerate(images):
        repository, _, tag = image.rpartition(":")
        layout = shop.work / f"{repository}-layout"
        if shutil.which("umoci") and not layout.exists():
            store, driver = _store(shop)
            command = layerstore("save", image, "-o", str(layout), "--format", "oci", root=str(store), driver=driver)
            subprocess.run(command, check=True, capture_output=True, env=environment())
        unpacked.append(f"umoci unpack{rootless} --image {layout}:{tag} x{number};")
    return [Contender(name, does, _shell(f"{' '.join(unpacked)} {use}"), "umoci")]
