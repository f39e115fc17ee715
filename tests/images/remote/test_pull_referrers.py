"""Referrers of images that are pulled, and what becomes of them when the image is pushed elsewhere."""

from __future__ import annotations

import json
from typing import Any

import pytest

from layerstore_core.images import Images
from layerstore_core.images.remote import referrers
from layerstore_core.registry import Registry
from layerstore_core.registry.lists import fallback_tag
from tests.images.archives import Files, ImageSpec, oci_index, oci_manifest
from tests.images.keep.layouts import artifact, cosign
from tests.images.remote.test_push import python_gzip
from tests.registry.fake_content import OCI_INDEX, OCI_MANIFEST
from tests.registry.fake_registry import FakeRegistry
from tests.store.layers import BASE, TOP

IMAGE = ImageSpec((BASE, TOP), packed=(python_gzip(BASE), python_gzip(TOP)))


def add_files(fake: FakeRegistry, repository: str, files: Files, *entries: dict[str, Any], tag: str = "") -> None:
    """Add all blobs of a layout, and the manifests of some entries; the first one gets the tag."""
    for data in files.values():
        fake.add_blob(repository, data)
    for entry in entries:
        data = files[f"blobs/{entry['digest'].replace(':', '/')}"]
        fake.add_manifest(repository, data, entry["mediaType"], *([tag] if tag and entry is entries[0] else []))


def add_signed(fake: FakeRegistry, *, has_api: bool = True) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Add an image with an SBOM, a signature of that, and one at a tag of cosign; return their descriptors."""
    fake.settings.referrers = has_api
    files: Files = {}
    entry = oci_manifest(files, IMAGE)
    sbom = artifact(files, entry, b"packages")
    signature = artifact(files, sbom, b"signed", "text/signature")
    by_cosign = cosign(files, entry)
    add_files(fake, "app", files, entry, sbom, signature, tag="1")
    add_files(fake, "app", files, by_cosign, tag=f"{fallback_tag(entry['digest'])}.sig")
    if not has_api:
        for subject, one in ((entry, sbom), (sbom, signature)):
            index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [one]}
            fake.add_manifest("app", index, OCI_INDEX, fallback_tag(subject["digest"]))
    return entry, [sbom, signature, by_cosign]


@pytest.mark.parametrize("has_api", [True, False], ids=["api", "tag"])
def test_they_are_kept_and_pushed_with_the_image(images: Images, fake_registry: FakeRegistry, has_api: bool) -> None:
    entry, found = add_signed(fake_registry, has_api=has_api)
    digests = {one["digest"] for one in found}
    pulled = images.pull(f"{fake_registry.host}/app:1", referrers=True)
    assert pulled.digest == entry["digest"]
    assert {one.digest for one in pulled.referrers} == digests
    assert pulled.skipped == ()
    pushed = images.push(f"{fake_registry.host}/app:1", f"{fake_registry.host}/other:1", referrers=True)
    assert (pushed.digest, set(pushed.referrers)) == (entry["digest"], digests)
    assert [blob.state for blob in pushed.blobs[:2]] == ["mounted", "mounted"]
    with Registry(fake_registry.host) as registry:
        for one in found:
            assert registry.manifest("other", one["digest"]).digest == one["digest"]
        assert [one["digest"] for one in registry.referrers("other", entry["digest"])] == [found[0]["digest"]]
    assert fake_registry.repository("other").tags[f"{fallback_tag(entry['digest'])}.sig"] == found[2]["digest"]


def test_each_blob_of_them_is_read_once(images: Images, fake_registry: FakeRegistry) -> None:
    add_signed(fake_registry)
    images.pull(f"{fake_registry.host}/app:1", referrers=True)
    read = [request.path for request in fake_registry.log.all("GET .*/blobs/")]
    assert sorted(read) == sorted(set(read))


def test_without_being_asked_for_they_are_not_looked_for(images: Images, fake_registry: FakeRegistry) -> None:
    add_signed(fake_registry)
    assert images.pull(f"{fake_registry.host}/app:1").referrers == ()
    assert fake_registry.log.count("/referrers/|[.]sig") == 0


def test_those_of_an_index_and_of_the_chosen_manifest(images: Images, fake_registry: FakeRegistry) -> None:
    files: Files = {}
    entries = []
    for name in ("amd64", "arm64"):
        image = ImageSpec((BASE,), packed=(python_gzip(BASE),), extra={"architecture": name})
        entries.append({**oci_manifest(files, image), "platform": {"os": "linux", "architecture": name}})
    index = {**oci_index(files, entries), "mediaType": OCI_INDEX}
    mine = [artifact(files, index, b"all"), artifact(files, entries[0], b"amd64")]
    other = artifact(files, entries[1], b"arm64")
    add_files(fake_registry, "app", files, index, *entries, *mine, other, tag="1")
    pulled = images.pull(f"{fake_registry.host}/app:1", referrers=True)
    assert {one.digest for one in pulled.referrers} == {one["digest"] for one in mine}


def test_one_that_cannot_be_had_is_left_out_with_the_reason(images: Images, fake_registry: FakeRegistry) -> None:
    _, found = add_signed(fake_registry)
    fake_registry.faults.on(f"GET .*/manifests/{found[0]['digest']}").error(404, "MANIFEST_UNKNOWN")
    pulled = images.pull(f"{fake_registry.host}/app:1", referrers=True)
    assert [one.digest for one in pulled.referrers] == [found[2]["digest"]]
    (skipped,) = pulled.skipped
    assert (skipped.kind, skipped.what) == ("artifact", found[0]["digest"])


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"digest": "sha256:../x", "size": 3},
        {"digest": f"sha256:{'a' * 64}", "size": -1},
        {"digest": f"sha256:{'a' * 64}", "size": 3, "mediaType": 7},
    ],
)
def test_hostile_entries_are_left_out(images: Images, fake_registry: FakeRegistry, entry: dict[str, Any]) -> None:
    add_signed(fake_registry)
    index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}).encode()
    fake_registry.faults.on("GET .*/referrers/").body(index, OCI_INDEX)
    pulled = images.pull(f"{fake_registry.host}/app:1", referrers=True)
    assert len(pulled.referrers) == 1  # the one of cosign's tag
    assert len(pulled.skipped) == 1


def test_there_is_a_limit_of_their_number_and_of_their_bytes(
    images: Images, fake_registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    files: Files = {}
    entry = oci_manifest(files, IMAGE)
    many = [artifact(files, entry, b"%d" % number) for number in range(8)]
    add_files(fake_registry, "app", files, entry, *many, tag="1")
    monkeypatch.setattr(referrers, "MAX_REFERRERS", 3)
    pulled = images.pull(f"{fake_registry.host}/app:1", referrers=True)
    assert (len(pulled.referrers), len(pulled.skipped)) == (3, 1)
    assert "are left out" in pulled.skipped[0].reason
    monkeypatch.setattr(referrers, "MAX_REFERRERS", 1000)
    monkeypatch.setattr(referrers, "_MAX_CONTENTS", 1000)
    assert len(images.pull(f"{fake_registry.host}/app:1", referrers=True).referrers) < 5


def test_a_circle_of_referrers_ends(images: Images, fake_registry: FakeRegistry) -> None:
    entry, found = add_signed(fake_registry)
    data = fake_registry.repository("app").manifests[found[0]["digest"]][1]
    same = {"mediaType": OCI_MANIFEST, "digest": found[0]["digest"], "size": len(data)}
    index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [same]}).encode()
    fake_registry.faults.on("GET .*/referrers/").body(index, OCI_INDEX)
    pulled = images.pull(f"{fake_registry.host}/app:1", referrers=True)
    assert pulled.digest == entry["digest"]
    assert fake_registry.log.count("GET .*/referrers/") < 5
