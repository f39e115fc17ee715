"""Images of a hostile registry: whatever their documents say, there is a clear error, or an image that is sound.

The registry gives each document with its right digest: what is wrong is what it says.
"""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from layerstore_core import LayerStore, LayerStoreError
from layerstore_core.errors import ImageDoesNotExist
from layerstore_core.images import Images
from layerstore_core.images.remote.image import RegistryImage
from layerstore_core.images.remote.receive.leftovers import downloads_directory
from layerstore_core.maintenance.check import check_store
from tests.images.archives import Files, ImageSpec, descriptor, oci_index, oci_manifest, sha256, tar_files
from tests.images.keep.layouts import named, write_index
from tests.images.remote.published import layer, spec
from tests.registry.fake_content import DOCKER_LIST, OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST
from tests.registry.fake_registry import FakeRegistry

SMALL = spec(layer(1, 2000), layer(2, 10))
#: More requests than these are too many for an image of a few documents.
MOST_REQUESTS = 200
Document = dict[str, Any]

HOSTILE = st.sampled_from(
    [
        *(None, True, 0, -1, 1 << 70, 10**400, 1.5, float("inf"), "", "x", [], {}, [[]], [None], {"a": None}),
        *("sha256:../../../etc/passwd", "sha256:" + "0" * 64, "sha256:" + "A" * 64, "sha512:" + "0" * 128, ":", "/"),
        *("md5:" + "0" * 32, "sha256:", "\ud800", "\0", "\x1b[31m", "a" * 100_000, "../..", "/etc/passwd"),
        *(OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, OCI_CONFIG, OCI_LAYER, f"{OCI_LAYER}+zstd", "text/html"),
        *("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "application/vnd.oci.empty.v1+json"),
        *("linux", "windows", "amd64", "v9", "attestation-manifest", "9999-99-99T99:99:99Z"),
    ]
).map(copy.deepcopy)  # they are changed later


def places_in(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the places of all values in a document."""
    yield path
    inside: Any = (
        document.items() if isinstance(document, dict) else enumerate(document if isinstance(document, list) else ())
    )
    for key, value in inside:
        yield from places_in(value, (*path, key))


@st.composite
def changed(draw: st.DrawFn, document: Document) -> Any:
    """Draw a document with one to three values replaced, removed or repeated, and perhaps a new key."""
    found: Any = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        places = [place for place in places_in(found) if place]
        if not places:
            return found
        *above, key = draw(st.sampled_from(places))
        parent = found
        for step in above:
            parent = parent[step]
        how = draw(st.sampled_from(["replace", "replace", "remove", "repeat", "add"]))
        if how == "remove":
            del parent[key]
        elif how == "repeat" and isinstance(parent, list):
            parent.extend([copy.deepcopy(parent[key])] * draw(st.sampled_from([1, 200])))
        elif how == "add" and isinstance(parent, dict):
            keys = [
                "manifests",
                "layers",
                "config",
                "subject",
                "platform",
                "urls",
                "data",
                "artifactType",
                "annotations",
            ]
            parent[draw(st.sampled_from(keys))] = draw(HOSTILE)
        else:
            parent[key] = draw(HOSTILE)
    return found


def config_of(image: ImageSpec) -> Document:
    return json.loads(image.config)  # type: ignore[no-any-return]


def publish(
    fake: FakeRegistry,
    change: Callable[[str, Document], Any] = lambda _, document: document,
) -> None:
    """Publish an index of two images and an attestation, with each document changed by a function."""
    fake.repositories.clear()

    def add(kind: str, document: Document, media_type: str) -> Document:
        made = change(kind, document)
        data = json.dumps(made).encode()
        if kind == "config":
            fake.add_blob("app", data)
        else:
            fake.add_manifest("app", data, media_type, *(["1"] if kind == "index" else []))
        return descriptor(data, media_type)

    entries = []
    for blob in SMALL.blobs:
        fake.add_blob("app", blob)
    for architecture in ("amd64", "arm64"):
        config = add("config", {**config_of(SMALL), "architecture": architecture}, OCI_CONFIG)
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": config,
            "annotations": {"a": "b"},
            "layers": [descriptor(blob, f"{OCI_LAYER}+gzip") for blob in SMALL.blobs],
        }
        platform = {"os": "linux", "architecture": architecture}
        entries.append({**add("manifest", manifest, OCI_MANIFEST), "platform": platform})
    entries.append(
        {
            **entries[0],
            "platform": {"os": "unknown", "architecture": "unknown"},
            "annotations": {"vnd.docker.reference.type": "attestation-manifest"},
        }
    )
    add("index", {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}, OCI_INDEX)


def check_error(error: LayerStoreError) -> None:
    text = str(error)
    assert text.isprintable() and len(text) < 5000, text[:300]
    assert "Traceback" not in text and "object at 0x" not in text, text[:300]


@pytest.fixture
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("layerstore_core.registry.http.retries.Pauses.wait", lambda *_: False)


@pytest.mark.filterwarnings("ignore:Generating overly large repr")
@pytest.mark.usefixtures("_no_pauses")
@pytest.mark.parametrize("kind", ["index", "manifest", "config"])
def test_any_document(kind: str, store: LayerStore, images: Images, fake: FakeRegistry) -> None:
    publish(fake)
    sound: list[Document] = []
    publish(fake, lambda one, document: sound.append(document) or document if one == kind else document)
    name = f"{fake.host}/app:1"

    @settings(suppress_health_check=list(HealthCheck), max_examples=settings().max_examples // 2)
    @given(changed(sound[0]), st.booleans(), st.booleans())
    def ask(document: Any, every: bool, referrers: bool) -> None:
        publish(fake, lambda one, usual: document if one == kind else usual)
        fake.log.clear()
        before = {image.image_id for image in images.all()}
        try:
            pulled = images.pull(name, all_platforms=every, referrers=referrers)
        except LayerStoreError as error:
            check_error(error)
            assert {image.image_id for image in images.all()} == before
        else:
            assert {image.image_id for image in pulled} <= {image.image_id for image in images.all()}
            for image in pulled:
                with suppress(ImageDoesNotExist):  # all images of an index go with its name
                    images.remove(image.image_id, force=True)
        try:
            with RegistryImage(name, settings={}) as remote:
                sorted(path for path, _ in remote.view().walk())
        except LayerStoreError as error:
            check_error(error)
        assert fake.log.count() <= MOST_REQUESTS

    ask()
    assert check_store(store, full=True) == []
    assert not [
        path for path in downloads_directory(store.root).rglob("*") if path.is_file() and path.stat().st_size > 1 << 20
    ]


# What is nested, wide, or large.


def add_index(fake: FakeRegistry, entries: list[Document], *tags: str) -> Document:
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    data = json.dumps(document).encode()
    fake.add_manifest("app", data, OCI_INDEX, *tags)
    return descriptor(data, OCI_INDEX)


def image_entry(fake: FakeRegistry) -> Document:
    digest = fake.add_image("app", SMALL.blobs, config=SMALL.config)
    return descriptor(fake.repository("app").manifests[digest][1], OCI_MANIFEST)


@pytest.mark.parametrize("every", [False, True])
def test_indexes_in_indexes_without_end(images: Images, fake: FakeRegistry, every: bool) -> None:
    """Each index names the next one twice: there are 2 to the power of 60 ways to the image."""
    entry = image_entry(fake)
    for _ in range(60):
        entry = add_index(fake, [entry, {**entry, "annotations": {"a": "b"}}], "1")
    with pytest.raises(LayerStoreError) as caught:
        images.pull(f"{fake.host}/app:1", all_platforms=every)
    check_error(caught.value)
    assert fake.log.count() <= MOST_REQUESTS


@pytest.mark.parametrize("every", [False, True])
def test_an_index_of_very_many_entries(images: Images, fake: FakeRegistry, every: bool) -> None:
    entry = {**image_entry(fake), "platform": {"os": "linux", "architecture": "amd64"}}
    others = [{**entry, "digest": sha256(b"%d" % number)} for number in range(15_000)]
    add_index(fake, [entry, *others], "1")
    try:
        images.pull(f"{fake.host}/app:1", all_platforms=every)
    except LayerStoreError as error:
        check_error(error)
    assert fake.log.count() <= 5000


def test_very_many_layers(images: Images, fake: FakeRegistry) -> None:
    count = 20_000
    config = {**config_of(SMALL), "rootfs": {"type": "layers", "diff_ids": [sha256(SMALL.layers[0])] * count}}
    fake.add_image("app", [SMALL.blobs[0]] * count, "1", config=config)
    with pytest.raises(LayerStoreError) as caught:
        images.pull(f"{fake.host}/app:1")
    check_error(caught.value)
    assert fake.log.count("/blobs/") <= 2


@pytest.mark.parametrize("size", [1 << 40, 1 << 62, (1 << 63) - 1, 1 << 63, 10**30])
def test_sizes_that_no_disk_has(images: Images, store: LayerStore, fake: FakeRegistry, size: int) -> None:
    data = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor(SMALL.config, OCI_CONFIG),
            "layers": [{**descriptor(blob, f"{OCI_LAYER}+gzip"), "size": size} for blob in SMALL.blobs],
        }
    ).encode()
    fake.add_image("app", SMALL.blobs, config=SMALL.config)
    fake.add_manifest("app", data, OCI_MANIFEST, "1")
    with pytest.raises((LayerStoreError, OSError)) as caught:
        images.pull(f"{fake.host}/app:1")
    assert str(caught.value)
    if isinstance(caught.value, LayerStoreError):
        check_error(caught.value)
    assert sum(path.stat().st_blocks for path in downloads_directory(store.root).rglob("*")) < 1000


@pytest.mark.usefixtures("_no_pauses")
@pytest.mark.parametrize("announced", [None, 1 << 40])
def test_layers_that_never_end(images: Images, fake: FakeRegistry, announced: int | None) -> None:
    """Each transfer ends where the manifest says that the blob ends."""
    fake.add_image("app", SMALL.blobs, "1", config=SMALL.config)
    fake.faults.on(f"/blobs/{sha256(SMALL.blobs[0])}").endless(announced)
    if announced is None:
        images.pull(f"{fake.host}/app:1")
    else:
        with pytest.raises(LayerStoreError, match="bytes") as caught:
            images.pull(f"{fake.host}/app:1")
        check_error(caught.value)
    assert fake.log.sent() < 64 << 20


def test_long_values_are_not_quoted_whole(images: Images, fake: FakeRegistry) -> None:
    for more in ({"os": "a" * 100_000}, {"rootfs": {"type": "layers", "diff_ids": ["b" * 100_000]}}):
        fake.add_image("app", SMALL.blobs, "1", config={**config_of(SMALL), **more})
        with pytest.raises(LayerStoreError) as caught:
            images.pull(f"{fake.host}/app:1")
        check_error(caught.value)


def test_very_many_images_for_another_platform(images: Images) -> None:
    """In a layout, too: no reason may list the platforms of all others."""
    files: Files = {}
    manifests = []
    for number in range(300):
        config = ImageSpec(SMALL.layers, packed=SMALL.packed, extra={"architecture": "arm64", "n": number})
        manifests.append({**oci_manifest(files, config), "platform": {"os": "linux", "architecture": "arm64"}})
    files = write_index(files, [named(oci_index(files, manifests), "app:1")])
    with pytest.raises(LayerStoreError, match=r"there are: linux/arm64[.]") as caught:
        images.load(io.BytesIO(tar_files(files)), platform="linux/amd64")
    check_error(caught.value)


def test_very_many_platforms_with_long_names(images: Images, fake: FakeRegistry) -> None:
    entry = image_entry(fake)
    platforms = [{"os": f"{number}{'a' * 500}", "architecture": "b" * 500} for number in range(500)]
    add_index(fake, [{**entry, "platform": platform} for platform in platforms], "1")
    with pytest.raises(LayerStoreError, match="there is no image for linux/amd64") as caught:
        images.pull(f"{fake.host}/app:1")
    check_error(caught.value)
