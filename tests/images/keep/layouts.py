"""Layouts with what may belong to an image: an index, attestations, signatures, SBOMs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tests.images.archives import Files, ImageSpec, blob_path, descriptor, oci_index, oci_manifest, put_json, sha256

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
EMPTY = "application/vnd.oci.empty.v1+json"


def image_for(architecture: str, layers: Sequence[bytes], packed: Sequence[bytes] = ()) -> ImageSpec:
    return ImageSpec(tuple(layers), packed=tuple(packed), extra={"architecture": architecture})


def artifact(
    files: Files, subject: Mapping[str, Any] | None, content: bytes, kind: str = "text/sbom"
) -> dict[str, Any]:
    """Add an artifact; return its descriptor."""
    for data in (b"{}", content):
        files[blob_path(data)] = data
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": kind,
        "config": descriptor(b"{}", EMPTY),
        "layers": [descriptor(content, kind)],
    }
    if subject is not None:
        document["subject"] = {key: subject[key] for key in ("mediaType", "digest", "size")}
    return {**put_json(files, document, MANIFEST), "artifactType": kind}


def cosign(files: Files, subject: Mapping[str, Any], content: bytes = b"signed") -> dict[str, Any]:
    """Add a signature as cosign stores it: by its tag."""
    config = json.dumps({"architecture": "", "os": "", "rootfs": {"type": "layers", "diff_ids": []}}).encode()
    for data in (config, content):
        files[blob_path(data)] = data
    layer = descriptor(content, "application/vnd.dev.cosign.simplesigning.v1+json")
    layer["annotations"] = {"dev.cosignproject.cosign/signature": "MEUC"}
    found = put_json(files, {"schemaVersion": 2, "config": descriptor(config, CONFIG), "layers": [layer]}, MANIFEST)
    tag = f"{subject['digest'].replace(':', '-')}.sig"
    return {**found, "annotations": {"org.opencontainers.image.ref.name": tag}}


def attestation(files: Files, subject: Mapping[str, Any]) -> dict[str, Any]:
    """Add an attestation as BuildKit stores it: an entry of the index of the image."""
    config = b'{"architecture":"unknown","os":"unknown"}'
    statement = json.dumps({"subject": subject["digest"]}).encode()
    for data in (config, statement):
        files[blob_path(data)] = data
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(config, CONFIG),
        "layers": [descriptor(statement, "application/vnd.in-toto+json")],
    }
    return {
        **put_json(files, manifest, MANIFEST),
        "annotations": {
            "vnd.docker.reference.digest": subject["digest"],
            "vnd.docker.reference.type": "attestation-manifest",
        },
        "platform": {"architecture": "unknown", "os": "unknown"},
    }


def write_index(files: Files, entries: Sequence[Mapping[str, Any]]) -> Files:
    files["oci-layout"] = b'{"imageLayoutVersion":"1.0.0"}'
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": list(entries)}).encode()
    return files


def named(entry: Mapping[str, Any], name: str, **annotations: str) -> dict[str, Any]:
    return {**entry, "annotations": {"io.containerd.image.name": name, **annotations}}


def multi_platform(*images: ImageSpec, name: str = "docker.io/library/app:1") -> tuple[Files, dict[str, Any]]:
    """Return a layout with an index of images and an attestation of each, and the descriptor of the index."""
    files: Files = {}
    entries = []
    for image in images:
        manifest = oci_manifest(files, image)
        manifest["platform"] = {"architecture": image.extra["architecture"], "os": "linux"}
        entries += [manifest, attestation(files, manifest)]
    index = oci_index(files, entries)
    return write_index(files, [named(index, name, vendor="x")]), index


def blobs_of(files: Mapping[str, bytes]) -> dict[str, bytes]:
    return {sha256(data): data for path, data in files.items() if path.startswith("blobs/")}
