"""Images for registries, in OCI layouts that skopeo can copy."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests import tars
from tests.images.archives import ImageSpec, blob_path, descriptor, oci_index, oci_manifest, write_files
from tests.registry.fake_content import OCI_CONFIG

MTIME = 1_700_000_000
BASE = tars.tar(
    tars.directory(b"etc/", mtime=MTIME),
    tars.entry(b"etc/hosts", b"127.0.0.1 localhost\n", mtime=MTIME),
    tars.entry(b"data", bytes(range(256)) * 400, mtime=MTIME),
)
TOP = tars.tar(tars.entry(b"etc/.wh.hosts", mtime=MTIME), tars.entry(b"top", b"top\n", mtime=MTIME))


def packed(*layers: bytes) -> list[bytes]:
    """Return layers compressed by gzip, the same way each time."""
    return [gzip.compress(layer, 6, mtime=0) for layer in layers]


IMAGE = ImageSpec((BASE, TOP), packed=packed(BASE, TOP))


def layout(directory: Path, *images: ImageSpec, names: Sequence[str] = ("image",)) -> Path:
    """Write an OCI layout with one name for each image, which skopeo finds as `oci:DIRECTORY:NAME`."""
    files: dict[str, bytes] = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}
    entries = [
        {**oci_manifest(files, image), "annotations": {"org.opencontainers.image.ref.name": name}}
        for image, name in zip(images, names, strict=True)
    ]
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": entries}).encode()
    return write_files(directory, files)


def index_layout(directory: Path, name: str = "image") -> tuple[Path, list[dict[str, Any]]]:
    """Write an OCI layout with an image for two platforms and one of them once more, with an attestation.

    Returns:
        the layout, and the descriptors of its manifests.
    """
    files: dict[str, bytes] = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}
    entries = []
    for architecture in ("amd64", "arm64"):
        own = tars.tar(tars.entry(b"architecture", architecture.encode(), mtime=MTIME))
        image = ImageSpec((BASE, own), packed=packed(BASE, own), extra={"architecture": architecture})
        platform = {"os": "linux", "architecture": architecture}
        entries.append({**oci_manifest(files, image), "platform": platform})
    entries.append(
        {**attestation(files, entries[0]["digest"]), "platform": {"os": "unknown", "architecture": "unknown"}}
    )
    index = {**oci_index(files, entries), "annotations": {"org.opencontainers.image.ref.name": name}}
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [index]}).encode()
    return write_files(directory, files), entries


def attestation(files: dict[str, bytes], digest: str) -> dict[str, Any]:
    """Add an attestation, as BuildKit makes them, of the manifest with this digest. Return its descriptor."""
    statement = json.dumps({"predicateType": "https://slsa.dev/provenance/v0.2", "subject": []}).encode()
    config = json.dumps({"architecture": "unknown", "os": "unknown", "rootfs": {"type": "layers", "diff_ids": []}})
    layer = descriptor(statement, "application/vnd.in-toto+json")
    for blob in (statement, config.encode()):
        files[blob_path(blob)] = blob
    document = {"schemaVersion": 2, "config": descriptor(config.encode(), OCI_CONFIG), "layers": [layer]}
    data = json.dumps(document).encode()
    files[blob_path(data)] = data
    return {
        **descriptor(data, "application/vnd.oci.image.manifest.v1+json"),
        "annotations": {
            "vnd.docker.reference.digest": digest,
            "vnd.docker.reference.type": "attestation-manifest",
        },
    }
