"""Images from one registry to another through layerstore: the same digests, and the peers pull and run them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.docker.daemon import Daemon
from tests.images.archives import blob_path, descriptor, sha256
from tests.peers.conftest import ALL, PRINTED, Made
from tests.peers.programs import Containers, Layerstore
from tests.registry.fake_content import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST
from tests.registry.servers import RegistryServer, docker_registry, program_missing
from tests.registry.skopeo import raw, skopeo

IMAGE = "append"
#: Forms of an image, with the options of skopeo that make them. Of the first, skopeo itself compresses the layers. The
#: last is zstd: skopeo would take its blobs, which it knows to be there, for all others.
FORMS = {
    "gzip": ("--format=oci",),
    "schema2": ("--format=v2s2",),
    "index": ("--all",),
    "zstd": ("--preserve-digests",),
}


@dataclass(frozen=True)
class Registries:
    """Two registries that share nothing."""

    origin: RegistryServer
    other: RegistryServer


@pytest.fixture(scope="session")
def registries(directory: Path) -> Iterator[Registries]:
    if reason := program_missing("docker-registry", "skopeo"):
        pytest.skip(reason)
    with docker_registry(directory / "origin") as origin, docker_registry(directory / "other") as other:
        yield Registries(origin, other)


@pytest.fixture(scope="session")
def pushed(registries: Registries, made: Made, directory: Path) -> Registries:
    """Have skopeo push an image in all forms."""
    layout = directory / "layout"
    made.layerstore("save", f"{IMAGE}:1", "-o", layout, "--format", "oci")
    made.layerstore("save", f"{IMAGE}:1", "-o", directory / "zstd", "--format", "oci", "--compression", "zstd")
    name = json.loads((layout / "index.json").read_text())["manifests"][0]["annotations"]
    add_platform(layout, "arm64")
    for form, options in FORMS.items():
        source = directory / "zstd" if form == "zstd" else layout
        tag = "both" if form == "index" else name["org.opencontainers.image.ref.name"]
        skopeo(
            *("copy", "--dest-tls-verify=false", *options, f"oci:{source}:{tag}"),
            f"docker://{registries.origin.host}/team/app:{form}",
        )
    return registries


def add_platform(layout: Path, architecture: str) -> None:
    """Add an index "both" to a layout with one image: of it, and of the same image for another architecture."""
    index = json.loads((layout / "index.json").read_text())
    (entry,) = index["manifests"]
    manifest = json.loads((layout / "blobs" / entry["digest"].replace(":", "/")).read_bytes())
    config = json.loads((layout / "blobs" / manifest["config"]["digest"].replace(":", "/")).read_bytes())

    def put(document: dict[str, Any], media_type: str) -> dict[str, Any]:
        data = json.dumps(document).encode()
        (layout / blob_path(data)).write_bytes(data)
        return descriptor(data, media_type)

    platform = {"os": config["os"], "architecture": config["architecture"]}
    other = put({**manifest, "config": put({**config, "architecture": architecture}, OCI_CONFIG)}, OCI_MANIFEST)
    entries = [
        {key: value for key, value in entry.items() if key != "annotations"} | {"platform": platform},
        {**other, "platform": {**platform, "architecture": architecture}},
    ]
    both = put({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}, OCI_INDEX)
    index["manifests"].append({**both, "annotations": {"org.opencontainers.image.ref.name": "both"}})
    (layout / "index.json").write_text(json.dumps(index))


@pytest.fixture(scope="session")
def copied(pushed: Registries, directory: Path) -> Registries:
    """Pull all forms with layerstore, and push them to the other registry, each from a store of its own."""
    with pytest.MonkeyPatch.context() as patch:
        # Nobody can make skopeo's streams of gzip again.
        patch.setenv("LAYERSTORE_KEEP_BLOBS", "unreproducible")
        for form in FORMS:
            ours = Layerstore(directory / f"ours-{form}")
            every = ("--all-platforms",) if form == "index" else ()
            pulled = ours.json("pull", f"{pushed.origin.host}/team/app:{form}", *every)
            target = f"{pushed.other.host}/copies/app:{form}"
            sent = ours.json("push", f"{pushed.origin.host}/team/app:{form}", target, *every)
            assert sent["digest"] == pulled["digest"], form
    return pushed


@pytest.mark.parametrize("form", FORMS)
def test_the_manifest_is_the_same(copied: Registries, form: str) -> None:
    there = raw(f"{copied.other.host}/copies/app:{form}")
    assert there == raw(f"{copied.origin.host}/team/app:{form}")
    kind = json.loads(there).get("mediaType", "")
    assert ("docker" in kind) is (form == "schema2")
    if form == "zstd":
        assert all(layer["mediaType"].endswith("zstd") for layer in json.loads(there)["layers"])
    if form == "index":
        for entry in json.loads(there)["manifests"]:
            names = (
                f"{host}@{entry['digest']}"
                for host in (f"{copied.other.host}/copies/app", f"{copied.origin.host}/team/app")
            )
            assert {sha256(raw(name)) for name in names} == {entry["digest"]}


# Docker 20.10 knows no zstd.
@pytest.mark.parametrize("form", ("gzip", "schema2", "index") if ALL else ("schema2", "index"))
def test_docker_pulls_and_runs_it(copied: Registries, docker: Daemon, form: str) -> None:
    name = f"{copied.other.host}/copies/app:{form}"
    docker("pull", "-q", name)
    (digest,) = docker.json("image", "inspect", name)[0]["RepoDigests"]
    assert digest.partition("@")[2] == sha256(raw(f"{copied.origin.host}/team/app:{form}"))
    assert docker.lines("run", "--rm", "--network=none", name) == PRINTED[IMAGE]
    docker("rmi", name)


@pytest.mark.parametrize("form", FORMS if ALL else ("gzip", "zstd"))
def test_podman_pulls_and_runs_it(copied: Registries, containers: Containers, form: str) -> None:
    name = f"{copied.other.host}/copies/app:{form}"
    containers.podman("pull", "-q", "--tls-verify=false", name)
    assert containers.run(name) == PRINTED[IMAGE]
    containers.podman("rmi", name)
