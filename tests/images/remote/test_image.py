"""Images in a registry, looked into where they are."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from layerstore_core import ImageArchive, Registry, RegistryImage
from layerstore_core.config.registries import HostSettings
from layerstore_core.errors import InvalidImage, InvalidLayer, InvalidReference
from layerstore_core.registry import InvalidAnswer, NotInRegistry
from tests import tars
from tests.across.chains import d, f, link, sym
from tests.images.archives import ImageSpec, oci_files, write_files
from tests.images.remote.lazy_formats import Packed, estargz, zstd_chunked
from tests.images.remote.test_lazy_layers import described, gzipped
from tests.registry.fake_auth import TokenAuth
from tests.registry.fake_content import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, descriptor
from tests.registry.fake_registry import FakeRegistry

NOISE = os.urandom(200_000)
BASE = tars.tar(
    d(b"etc"), f(b"etc/os", b"base\n"), f(b"etc/gone", b"gone"), f(b"first", NOISE), d(b"usr"),
    f(b"usr/small", b"small"), f(b"usr/big", NOISE * 2), sym(b"lib", b"usr"), link(b"usr/hard", b"usr/small"),
    f(b"last", NOISE),
)  # fmt: skip
TOP = tars.tar(d(b"etc"), f(b"etc/.wh.gone"), f(b"etc/new", b"new\n"))
MIXED = (estargz(BASE), gzipped(TOP), zstd_chunked(tars.tar(d(b"usr"), f(b"usr/top", b"top"))))


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        yield registry


def spec(layers: Sequence[Packed], **extra: Any) -> ImageSpec:
    return ImageSpec([one.tar for one in layers], packed=[one.blob for one in layers], extra=extra)


def add(fake: FakeRegistry, layers: Sequence[Packed], *tags: str, **extra: Any) -> str:
    """Add the image `app` of some layers; return the digest of its manifest."""
    described = [
        {**descriptor(one.blob, "application/vnd.oci.image.layer.v1.tar"), "annotations": one.annotations}
        for one in layers
    ]
    return add_manifest(fake, spec(layers, **extra), described, *tags)


def add_manifest(fake: FakeRegistry, image: ImageSpec, layers: list[dict[str, Any]], *tags: str) -> str:
    """Add the image `app` with these descriptors of layers; return the digest of its manifest."""
    for blob in (image.config, *image.blobs):
        fake.add_blob("app", blob)
    document = {"schemaVersion": 2, "config": descriptor(image.config, OCI_CONFIG), "layers": layers}
    return fake.add_manifest("app", document, OCI_MANIFEST, *tags)


def add_index(fake: FakeRegistry, platforms: Sequence[str | None], tag: str = "1") -> list[str]:
    """Add the image `app` for some platforms; `None`: the index does not say it. Return the digests."""
    digests, entries = [], []
    for number, platform in enumerate(platforms):
        system, _, architecture = (platform or "linux/s390x").partition("/")
        digests.append(add(fake, [gzipped(tars.tar(f(b"n", b"%d" % number)))], os=system, architecture=architecture))
        entry = descriptor(fake.repository("app").manifests[digests[-1]][1], OCI_MANIFEST)
        entries.append({**entry, "platform": {"os": system, "architecture": architecture}} if platform else entry)
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    digests.append(fake.add_manifest("app", index, OCI_INDEX, tag))
    return digests


def test_view_is_that_of_the_same_image_in_a_layout(fake: FakeRegistry, tmp_path: Path) -> None:
    add(fake, MIXED, "1")
    layout = write_files(tmp_path, oci_files(spec(MIXED)))
    with RegistryImage(f"{fake.host}/app:1") as image, image.view() as view, ImageArchive(layout) as archive:
        assert described(view) == described(archive.view())
        assert (view / "lib/top").read_text() == "top"


def test_one_file_of_an_estargz_image_takes_manifest_footer_table_and_its_range(fake: FakeRegistry) -> None:
    layers = (estargz(BASE), estargz(TOP))
    add(fake, layers, "1")
    with RegistryImage(f"{fake.host}/app:1") as image, image.view() as view:
        assert (view / "usr/small").read_bytes() == b"small"
    tables = sum(51 + end - start for start, end in (one.toc_range for one in layers))
    assert fake.log.sent("/manifests/") == len(image.data)
    assert fake.log.count("/manifests/") == 1
    assert 0 < fake.log.sent("/blobs/") - tables < 300
    assert fake.log.count("/blobs/") == 5
    assert fake.log.statuses("/blobs/") == [206] * 5


@pytest.mark.parametrize("at", [0, -1])
@pytest.mark.parametrize("verify", [False, True])
@pytest.mark.parametrize("path", ["usr/small", "usr/big", "etc/new", "usr/top"])
def test_a_mirror_with_wrong_bytes(fake: FakeRegistry, path: str, verify: bool, at: int) -> None:
    with FakeRegistry() as mirror:
        for server in (fake, mirror):
            add(server, MIXED, "1")
        mirror.faults.on("/blobs/").flip_byte(at)
        settings = {fake.host: HostSettings(mirrors=(mirror.host,))}
        with RegistryImage(f"{fake.host}/app:1", settings=settings, verify=verify) as image, image.view() as view:
            expected = {"usr/small": b"small", "usr/big": NOISE * 2, "etc/new": b"new\n", "usr/top": b"top"}[path]
            assert (view / path).read_bytes() == expected
        assert mirror.log.count("/blobs/") > 0


def test_image_says_what_it_is(fake: FakeRegistry) -> None:
    digest = add(fake, MIXED, "1")
    with RegistryImage(f"{fake.host}/app:1") as image:
        assert fake.log.count() == 1
        assert image.digest == image.manifest.digest == digest
        assert image.index is None
        assert image.media_type == OCI_MANIFEST
        assert json.loads(image.data) == image.manifest.document
        assert [layer.size for layer in image.layers] == [len(one.blob) for one in MIXED]
        assert fake.log.count() == 1
        assert str(image.platform) == "linux/amd64"
        assert list(image.diff_ids) == [descriptor(one.tar, "")["digest"] for one in MIXED]
        assert image.config.image_id == spec(MIXED).image_id
        assert fake.log.count() == 2
        assert image.artifact_type == ""
        assert image.annotations == {}


def test_client_that_is_given_stays_open(fake: FakeRegistry) -> None:
    digest = add(fake, MIXED, "1")
    with Registry(fake.host) as registry:
        for reference in (f"{fake.host}/app:1", f"{fake.host}/app@{digest}", f"{fake.host}/app:none@{digest}"):
            with RegistryImage(reference, registry=registry) as image:
                assert image.digest == digest
        registry.ping()


def test_platform_is_chosen_from_the_index(fake: FakeRegistry) -> None:
    digests = add_index(fake, ["linux/amd64", "linux/arm64"])
    for platform, number in (("linux/amd64", 0), ("arm64", 1)):
        fake.log.clear()
        with RegistryImage(f"{fake.host}/app:1", platform) as image, image.view() as view:
            assert image.digest == digests[-1]
            assert image.manifest.digest == digests[number]
            assert image.index is not None
            assert (view / "n").read_text() == str(number)
        assert fake.log.count("/manifests/") == 2
    with pytest.raises(InvalidImage, match=r"no image for linux/riscv64; there are: linux/amd64, linux/arm64"):
        RegistryImage(f"{fake.host}/app:1", "riscv64")


def test_platform_that_only_configs_say_is_found_there(fake: FakeRegistry) -> None:
    digests = add_index(fake, [None, None])
    other = add(fake, MIXED, architecture="arm64")
    entry = descriptor(fake.repository("app").manifests[other][1], OCI_MANIFEST)
    index = json.loads(fake.repository("app").manifests[digests[-1]][1])
    index["manifests"].append(entry)
    fake.add_manifest("app", index, OCI_INDEX, "2")
    with RegistryImage(f"{fake.host}/app:2", "arm64") as image:
        assert image.manifest.digest == other
    with pytest.raises(InvalidImage, match="no image for linux/amd64"):
        RegistryImage(f"{fake.host}/app:2", "amd64")


def test_platform_of_a_single_image_is_compared(fake: FakeRegistry) -> None:
    add(fake, MIXED, "1", architecture="arm64")
    with RegistryImage(f"{fake.host}/app:1") as image:
        assert str(image.platform) == "linux/arm64"
    with RegistryImage(f"{fake.host}/app:1", ("linux", "arm64")) as image:
        assert str(image.platform) == "linux/arm64"
    with pytest.raises(InvalidImage, match="the image is for linux/arm64, not for linux/amd64"):
        RegistryImage(f"{fake.host}/app:1", "linux/amd64")


def test_what_is_no_image_says_so(fake: FakeRegistry) -> None:
    with pytest.raises(NotInRegistry):
        RegistryImage(f"{fake.host}/app:1")
    with pytest.raises(InvalidReference):
        RegistryImage("UPPER/CASE:1:2")
    with pytest.raises(ValueError, match="not a platform"):
        RegistryImage(f"{fake.host}/app:1", "a/b/c/d")
    blob = b"signature"
    document = {
        "schemaVersion": 2,
        "config": descriptor(b"{}", "application/vnd.oci.empty.v1+json"),
        "artifactType": "application/vnd.example",
        "layers": [descriptor(blob, "application/vnd.example.signature")],
    }
    fake.add_manifest("app", document, OCI_MANIFEST, "artifact")
    with RegistryImage(f"{fake.host}/app:artifact") as image:
        assert image.artifact_type == "application/vnd.example"
        assert image.layers[0].size == len(blob)
        with pytest.raises(InvalidImage, match=r"artifact, not an image: application/vnd.example"):
            image.view()
        with pytest.raises(InvalidImage, match="artifact, not an image"):
            image.config  # noqa: B018 - it is fetched


def test_layers_and_config_that_do_not_fit_are_refused(fake: FakeRegistry) -> None:
    add(fake, MIXED, "1")
    image = spec(MIXED[:1])
    tar = "application/vnd.oci.image.layer.v1.tar"
    add_manifest(fake, image, [descriptor(one.blob, tar) for one in MIXED[:2]], "2")
    with RegistryImage(f"{fake.host}/app:2") as opened, pytest.raises(InvalidImage, match=r"2 layers, .* names 1"):
        opened.diff_ids  # noqa: B018 - it is fetched
    for media_type, reason in (
        ("application/vnd.in-toto+json", "is no tar, but app"),
        (f"{tar}+encrypted", "encrypted"),
    ):
        add_manifest(fake, image, [descriptor(MIXED[0].blob, media_type)], "3")
        with RegistryImage(f"{fake.host}/app:3") as opened, pytest.raises(InvalidImage, match=reason):
            opened.view()


def test_registry_that_sends_something_else_is_refused(fake: FakeRegistry) -> None:
    add(fake, MIXED, "1")
    blobs = fake.repository("app").blobs
    config = spec(MIXED).config
    blobs[descriptor(config, OCI_CONFIG)["digest"]] = config.replace(b"linux", b"LINUX")
    with RegistryImage(f"{fake.host}/app:1") as image, pytest.raises(InvalidAnswer, match="another digest"):
        image.config  # noqa: B018 - it is fetched
    fake.add_blob("app", config)
    data = bytearray(MIXED[0].blob)
    start = next(item["offset"] for item in MIXED[0].toc["entries"] if item["name"] == "first")
    data[start + 1000] ^= 1
    blobs[descriptor(MIXED[0].blob, "")["digest"]] = bytes(data)
    with RegistryImage(f"{fake.host}/app:1") as image, image.view() as view:
        assert (view / "etc/os").read_text() == "base\n"
        with pytest.raises(InvalidLayer, match=r"damaged"):
            (view / "first").read_bytes()


def test_registry_that_ignores_ranges_sends_a_layer_once(fake: FakeRegistry) -> None:
    layer = estargz(tars.tar(*(f(b"f%d" % n, NOISE) for n in range(8)), f(b"last", b"last")))
    add(fake, [layer], "1")

    fake.faults.on("GET .*/blobs/").ignore_range()
    with RegistryImage(f"{fake.host}/app:1") as image, image.view() as view:
        assert (view / "f0").read_bytes() == NOISE
        assert (view / "last").read_bytes() == b"last"
    assert fake.log.count("/blobs/") <= 4


def test_tables_of_all_layers_are_fetched_at_once(fake: FakeRegistry) -> None:
    layers = [estargz(tars.tar(f(b"f%d" % n, b"x" * n))) for n in range(1, 9)]
    add(fake, layers, "1")
    held = fake.faults.on("GET .*/blobs/", times=4).hold()
    with RegistryImage(f"{fake.host}/app:1") as image, image.view() as view:
        waiting = []

        def release() -> None:
            end = time.monotonic() + 10
            while fake.log.count("/blobs/") < 4 and time.monotonic() < end:
                time.sleep(0.01)
            waiting.append(fake.log.count("/blobs/"))
            held.release()

        releaser = threading.Thread(target=release)
        releaser.start()
        assert len(list(view.walk())) == 11
        releaser.join()
        assert waiting == [4]
    assert fake.log.count("/blobs/") == 16
    with RegistryImage(f"{fake.host}/app:1") as image, image.view() as view:
        next(iter(view.walk()))
    fake.repository("app").blobs[descriptor(layers[5].blob, "")["digest"]] = b"x" * len(layers[5].blob)
    with RegistryImage(f"{fake.host}/app:1") as image, image.view() as view, pytest.raises(InvalidLayer):
        view.find(b"")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("layerstore-tables")]


def test_layers_come_through_redirects_and_broken_connections() -> None:
    with FakeRegistry(redirect=True, auth=TokenAuth({"ada": "secret"}, anonymous=("pull",))) as fake:
        add(fake, MIXED, "1")
        fake.faults.on("GET ", server="storage", times=2).cut(after=20)
        with RegistryImage(f"{fake.host}/app:1") as image, image.view() as view:
            assert (view / "usr/small").read_bytes() == b"small"
            assert (view / "last").read_bytes() == NOISE
            assert (view / "etc/new").read_bytes() == b"new\n"
        assert fake.log.count(server="storage") > 5


def test_foreign_layer_is_read_where_its_manifest_says_that_it_is(fake: FakeRegistry) -> None:
    layers = (estargz(BASE), gzipped(TOP))
    with FakeRegistry() as elsewhere:
        described = []
        for one in layers:
            digest = elsewhere.add_blob("there", one.blob)
            urls = [f"{elsewhere.url}/v2/there/blobs/sha256:{'0' * 64}", f"{elsewhere.url}/v2/there/blobs/{digest}"]
            media_type = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
            entry = descriptor(one.blob, media_type)
            described.append({**entry, "annotations": one.annotations, "urls": urls})
        add_manifest(fake, spec(layers), described, "1")
        for one in layers:
            del fake.repository("app").blobs[descriptor(one.blob, "")["digest"]]
        with RegistryImage(f"{fake.host}/app:1") as image, image.view() as view:
            assert (view / "usr/small").read_bytes() == b"small"
            assert (view / "etc/new").read_bytes() == b"new\n"
        assert 206 in elsewhere.log.statuses("/blobs/")
    with RegistryImage(f"{fake.host}/app:1") as image, image.view() as view, pytest.raises(NotInRegistry):
        view.open(b"usr/small")
