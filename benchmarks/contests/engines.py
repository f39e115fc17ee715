"""Engines that keep layers as layerstore does, or nearly so: the contenders that take one into their stores."""

from __future__ import annotations

from pathlib import Path

from benchmarks.contenders import Contender, absent, quietly
from benchmarks.workshop import Sample, Workshop, image_of


def engines(shop: Workshop, sample: Sample, *, packed: bool = False) -> list[Contender]:
    """Return the engines. Each deletes the layer before it runs."""
    layer = sample.packed if packed else sample.tar
    archive = sample.packed_archive if packed else sample.archive
    storage = ["containers-storage", "import-layer", "--graph", "cs", "--run", "run", "--storage-driver", "overlay"]
    layout = f"{sample.layout(layer)}:bench"
    return [
        Contender(
            "containers-storage",
            "hash, tar-split, extraction",
            [*storage, "--file", str(layer)],
            storage[0],
            needs_root=True,
        ),
        Contender("umoci raw unpack", "hash, extraction", ["umoci", "raw", "unpack", "--image", layout, "x"], "umoci"),
        docker_load(shop, archive, image_of(layer)),
        *_containerd(shop, sample, layer, archive),
    ]


def docker_load(shop: Workshop, archive: Path, image: str) -> Contender:
    """Return Docker, which loads an archive."""
    name, does = "docker load", "copy, hash, tar-split, extraction"
    if not shop.docker:
        return absent(name, does, "dockerd")
    remove = quietly([*shop.docker, "rmi", "-f", image])
    load = [*shop.docker, "load", "-qi", str(archive)]
    return Contender(name, does, load, "docker", remove, daemon=shop.docker_process)


def _containerd(shop: Workshop, sample: Sample, layer: Path, archive: Path) -> list[Contender]:
    name, does = "ctr images import", "hash, copy of the tar, extraction, flush"
    if not shop.ctr:
        return [absent(name, does, "containerd")]
    ctr, daemon = shop.ctr, shop.ctr_process
    load = [*ctr, "images", "import", "--snapshotter", "overlayfs", str(archive)]
    remove = quietly([*ctr, "images", "rm", "--sync", f"docker.io/library/{image_of(layer)}:latest"])
    found = [Contender(name, does, load, "ctr", remove, daemon=daemon)]
    if layer == sample.tar:
        ingest = ["sh", "-c", f'"$@" ingest bench < {layer}', "sh", *ctr, "content"]
        forget = quietly([*ctr, "content", "rm", f"sha256:{sample.diff_id}"])
        found.append(
            Contender("ctr content ingest", "hash, copy of the tar, flush", ingest, "ctr", forget, daemon=daemon)
        )
    return found
