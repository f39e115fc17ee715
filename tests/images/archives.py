"""Functions that make image archives byte by byte, both sound and damaged ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests import tars

Files = dict[str, bytes]


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def blob_path(data: bytes) -> str:
    return f"blobs/{sha256(data).replace(':', '/')}"


@dataclass(frozen=True)
class ImageSpec:
    """An image for an archive; `packed` has its compressed layers, if they are not stored uncompressed."""

    layers: Sequence[bytes]
    names: Sequence[str] = ()
    packed: Sequence[bytes] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> bytes:
        document: dict[str, Any] = {
            "created": "2024-05-06T07:08:09.123456789Z",
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": ["/bin/sh"]},
            "rootfs": {"type": "layers", "diff_ids": [sha256(layer) for layer in self.layers]},
            "history": [{"created_by": f"step {n}"} for n, _ in enumerate(self.layers)]
            + [{"created_by": "CMD", "empty_layer": True}],
            **self.extra,
        }
        # Another notation than this package would write: the config's bytes have to be kept.
        return json.dumps(document, indent=1).encode()

    @property
    def image_id(self) -> str:
        return sha256(self.config)

    @property
    def blobs(self) -> Sequence[bytes]:
        return self.packed or self.layers


def tar_files(files: Mapping[str, bytes]) -> bytes:
    return tars.tar(*(tars.entry(name.encode(), data) for name, data in files.items()))


def docker_files(*images: ImageSpec) -> Files:
    """Return the files of `docker save` before Docker 25: a directory for each layer."""
    files: Files = {}
    manifest = []
    for image in images:
        config_path = f"{image.image_id[7:]}.json"
        files[config_path] = image.config
        paths = []
        for layer in image.blobs:
            paths.append(f"{sha256(layer)[7:]}/layer.tar")
            files[paths[-1]] = layer
        manifest.append({"Config": config_path, "RepoTags": list(image.names) or None, "Layers": paths})
    files["manifest.json"] = json.dumps(manifest).encode()
    return files


def docker_archive(*images: ImageSpec) -> bytes:
    return tar_files(docker_files(*images))


MEDIA = {b"\x1f\x8b": "+gzip", b"\x28\xb5": "+zstd"}


def descriptor(data: bytes, media_type: str, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": sha256(data), "size": len(data), **more}


def oci_manifest(files: Files, image: ImageSpec) -> dict[str, Any]:
    """Add an image's blobs to `files`; return the descriptor of its manifest."""
    layers = []
    for layer in image.blobs:
        files[blob_path(layer)] = layer
        layers.append(descriptor(layer, "application/vnd.oci.image.layer.v1.tar" + MEDIA.get(layer[:2], "")))
    files[blob_path(image.config)] = image.config
    manifest = {
        "schemaVersion": 2,
        "config": descriptor(image.config, "application/vnd.oci.image.config.v1+json"),
        "layers": layers,
    }
    return put_json(files, manifest, "application/vnd.oci.image.manifest.v1+json")


def oci_index(files: Files, manifests: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    index = {"schemaVersion": 2, "manifests": list(manifests)}
    return put_json(files, index, "application/vnd.oci.image.index.v1+json")


def put_json(files: Files, document: Mapping[str, Any], media_type: str) -> dict[str, Any]:
    data = json.dumps(document).encode()
    files[blob_path(data)] = data
    return descriptor(data, media_type)


def oci_files(*images: ImageSpec) -> Files:
    """Return the files of an OCI layout; each name has an entry in the index."""
    files: Files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}
    entries = []
    for image in images:
        manifest = oci_manifest(files, image)
        for name in image.names or (None,):
            annotations = {"annotations": {"io.containerd.image.name": name}} if name else {}
            entries.append({**manifest, **annotations})
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": entries}).encode()
    return files


def write_files(directory: Path, files: Mapping[str, bytes]) -> Path:
    for name, data in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(data)
    return directory
