"""Referrers of images that are pushed: the registry's own list, the index at a tag, and cosign's tags."""

from __future__ import annotations

import json
from typing import Any

import pytest

from layerstore_core import LayerStoreError
from layerstore_core.images import Images
from layerstore_core.images.remote.referrers import list_at_tag
from layerstore_core.registry import Registry
from layerstore_core.registry.lists import fallback_tag
from tests.images.archives import Files, ImageSpec, oci_manifest, sha256
from tests.images.keep.layouts import artifact, cosign, image_for, multi_platform, named
from tests.images.keep.test_incoming import foreign_gzip
from tests.images.remote.pushing import NAME, load_layout, tag_of
from tests.images.remote.test_push import python_gzip
from tests.registry.fake_content import OCI_INDEX, OCI_MANIFEST, descriptor
from tests.registry.fake_registry import FakeRegistry
from tests.store.layers import BASE, MIDDLE, TOP

IMAGE = ImageSpec((BASE,), packed=(python_gzip(BASE),))


def load_signed(images: Images, image: ImageSpec = IMAGE) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Load an image with an SBOM, and a signature of that; return their descriptors."""
    files: Files = {}
    entry = oci_manifest(files, image)
    sbom = artifact(files, entry, b"packages")
    signature = artifact(files, sbom, b"signed", "text/signature")
    load_layout(images, files, named(entry, NAME), sbom, signature)
    return entry, sbom, signature


def listed(fake: FakeRegistry, subject: str, repository: str = "app") -> list[dict[str, Any]]:
    with Registry(fake.host) as registry:
        return registry.referrers(repository, subject)


@pytest.mark.parametrize("has_api", [True, False], ids=["api", "tag"])
def test_referrers_and_what_refers_to_them_are_found_there(
    images: Images, fake_registry: FakeRegistry, has_api: bool
) -> None:
    fake_registry.settings.referrers = has_api
    entry, sbom, signature = load_signed(images)
    pushed = images.push("app:1", f"{fake_registry.host}/app:1", referrers=True)
    assert pushed.digest == entry["digest"] == tag_of(fake_registry, "app:1")
    assert pushed.referrers == (sbom["digest"], signature["digest"])
    for subject, referrer, kind in (
        (entry["digest"], sbom, "text/sbom"),
        (sbom["digest"], signature, "text/signature"),
    ):
        (found,) = listed(fake_registry, subject)
        assert (found["digest"], found["size"], found["artifactType"]) == (referrer["digest"], referrer["size"], kind)
        assert (fallback_tag(subject) in fake_registry.repository("app").tags) is not has_api
    # The tag is what a reader looks for first: it comes last.
    assert fake_registry.log.all("PUT .*/manifests")[-1].target.endswith("/manifests/1")


def test_without_being_asked_for_they_stay_here(images: Images, fake_registry: FakeRegistry) -> None:
    entry, _, _ = load_signed(images)
    assert images.push("app:1", f"{fake_registry.host}/app:1").referrers == ()
    assert listed(fake_registry, entry["digest"]) == []


def test_other_entries_of_the_index_at_the_tag_stay(images: Images, fake_registry: FakeRegistry) -> None:
    fake_registry.settings.referrers = False
    entry, sbom, _ = load_signed(images)
    other = descriptor(b"other", OCI_MANIFEST, artifactType="text/other", annotations={"k": "v"})
    fake_registry.add_manifest(
        "app",
        {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [other], "annotations": {"a": "b"}},
        OCI_INDEX,
        fallback_tag(entry["digest"]),
    )
    fake_registry.settings.check_blobs = False
    for _ in range(2):
        images.push("app:1", f"{fake_registry.host}/app:1", referrers=True)
        found = listed(fake_registry, entry["digest"])
        assert [one["digest"] for one in found] == [other["digest"], sbom["digest"]]
        assert found[0] == other
    digest = fake_registry.repository("app").tags[fallback_tag(entry["digest"])]
    assert json.loads(fake_registry.repository("app").manifests[digest][1])["annotations"] == {"a": "b"}


def test_an_entry_that_another_client_overwrites_is_written_again(images: Images, fake_registry: FakeRegistry) -> None:
    fake_registry.settings.referrers = fake_registry.settings.check_blobs = False
    entry, sbom, _ = load_signed(images)
    tag = fallback_tag(entry["digest"])
    other = descriptor(b"other", OCI_MANIFEST)

    def overwrite() -> None:
        fake_registry.add_manifest("app", {"schemaVersion": 2, "manifests": [other]}, OCI_INDEX, tag)

    fake_registry.faults.on(f"PUT .*/manifests/{tag}", times=2).then(overwrite)
    images.push("app:1", f"{fake_registry.host}/app:1", referrers=True)
    assert [one["digest"] for one in listed(fake_registry, entry["digest"])] == [other["digest"], sbom["digest"]]


def test_an_index_that_cannot_be_kept_whole_is_an_error(fake_registry: FakeRegistry) -> None:
    fake_registry.settings.check_blobs = False
    subject = sha256(b"subject")
    tag = fallback_tag(subject)
    one = descriptor(b"one", OCI_MANIFEST)
    with Registry(fake_registry.host) as registry:
        large = {"schemaVersion": 2, "manifests": [], "annotations": {"a": "a" * (4 << 20)}}
        fake_registry.add_manifest("app", large, OCI_INDEX, tag)
        with pytest.raises(LayerStoreError, match="the index of referrers would have"):
            list_at_tag(registry, "app", subject, [one])
        fake_registry.add_manifest("app", {"schemaVersion": 2, "layers": []}, OCI_MANIFEST, tag)
        with pytest.raises(LayerStoreError, match="is not an index of referrers"):
            list_at_tag(registry, "app", subject, [one])
        empty = {"schemaVersion": 2, "manifests": []}
        digest = fake_registry.add_manifest("app", empty, OCI_INDEX, tag)
        fake_registry.faults.on("PUT").then(lambda: fake_registry.repository("app").tags.update({tag: digest}))
        with pytest.raises(LayerStoreError, match="again and again"):
            list_at_tag(registry, "app", subject, [one])


def test_the_tag_for_a_sha512_is_shortened_as_the_specification_says() -> None:
    assert fallback_tag(f"sha512:{'ab' * 64}") == f"sha512-{'ab' * 32}"
    assert fallback_tag(f"sha256:{'a' * 64}") == f"sha256-{'a' * 64}"


def signed_by_cosign(images: Images) -> tuple[dict[str, Any], dict[str, Any], str]:
    files: Files = {}
    entry = oci_manifest(files, IMAGE)
    signature = cosign(files, entry)
    load_layout(images, files, named(entry, NAME), signature)
    return entry, signature, f"{fallback_tag(entry['digest'])}.sig"


def test_what_came_with_a_tag_of_cosign_gets_it_again(images: Images, fake_registry: FakeRegistry) -> None:
    _, signature, tag = signed_by_cosign(images)
    pushed = images.push("app:1", f"{fake_registry.host}/app:1", referrers=True)
    assert pushed.referrers == (signature["digest"],)
    assert fake_registry.repository("app").tags[tag] == signature["digest"]


def layers_of(fake: FakeRegistry, tag: str) -> list[str]:
    repository = fake.repository("app")
    return [layer["digest"] for layer in json.loads(repository.manifests[repository.tags[tag]][1])["layers"]]


@pytest.mark.parametrize(
    ("there", "stays"), [((), False), ((b"signed",), False), ((b"signed", b"more"), True), ((b"other",), True)]
)
def test_signatures_at_a_tag_of_cosign_are_not_lost(
    images: Images, fake_registry: FakeRegistry, said: list[Any], there: tuple[bytes, ...], stays: bool
) -> None:
    _, signature, tag = signed_by_cosign(images)
    fake_registry.settings.check_blobs = False
    layers = [descriptor(content, "application/vnd.dev.cosign.simplesigning.v1+json") for content in there]
    before = fake_registry.add_manifest("app", {"schemaVersion": 2, "layers": layers}, OCI_MANIFEST, tag)
    pushed = images.push("app:1", f"{fake_registry.host}/app:1", referrers=True)
    assert fake_registry.repository("app").tags[tag] == (before if stays else signature["digest"])
    lost = b"signed" not in there and stays
    assert bool(pushed.referrers) is not lost
    assert bool([one for one in said if "other signatures" in one["message"]]) is lost


def test_referrers_of_an_index_and_of_a_manifest_in_it(images: Images, fake_registry: FakeRegistry) -> None:
    platforms = [
        image_for(name, (BASE, layer), (python_gzip(BASE), python_gzip(layer)))
        for name, layer in (("amd64", MIDDLE), ("arm64", TOP))
    ]
    files, index = multi_platform(*platforms)
    inner = json.loads(files[f"blobs/{index['digest'].replace(':', '/')}"])["manifests"][2]
    sboms = [artifact(files, subject, content) for subject, content in ((index, b"all"), (inner, b"arm64"))]
    load_layout(images, files, named(index, NAME), *sboms, all_platforms=True)
    pushed = images.push("app:1", f"{fake_registry.host}/app:1", all_platforms=True, referrers=True)
    assert pushed.digest == index["digest"]
    for subject, sbom in zip((index, inner), sboms, strict=True):
        assert [one["digest"] for one in listed(fake_registry, subject["digest"])] == [sbom["digest"]]


def test_a_signature_of_another_manifest_is_not_pushed_for_this_one(
    images: Images, fake_registry: FakeRegistry
) -> None:
    load_signed(images, ImageSpec((BASE,), packed=(foreign_gzip(BASE),)))
    with pytest.raises(LayerStoreError, match="cannot be given back"):
        images.push("app:1", f"{fake_registry.host}/app:1", referrers=True)
    assert tag_of(fake_registry, "app:1") is None
