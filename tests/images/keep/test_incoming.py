"""What `load` keeps of a layout: manifests, indexes, referrers; several platforms; thin layouts; compressed layers."""

from __future__ import annotations

import gzip
import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from layerstore_core import LayerStore
from layerstore_core.errors import BadRecord, ImageDoesNotExist, ImageInUse, InvalidImage
from layerstore_core.images import Images
from layerstore_core.images.formats import referrers as limits
from layerstore_core.maintenance.gc import collect_garbage
from layerstore_core.records.imagedb import ImageDB
from tests.images.archives import (
    Files,
    ImageSpec,
    blob_path,
    docker_archive,
    oci_files,
    oci_manifest,
    sha256,
    tar_files,
)
from tests.images.keep.layouts import (
    artifact,
    attestation,
    blobs_of,
    cosign,
    image_for,
    multi_platform,
    named,
    write_index,
)
from tests.store.layers import BASE, MIDDLE, TOP, tree

pytestmark = pytest.mark.usefixtures("on_amd64")

AMD, ARM = image_for("amd64", (BASE, MIDDLE)), image_for("arm64", (BASE, TOP))


def load(images: Images, files: Files, **options: Any) -> Any:
    return images.load(io.BytesIO(tar_files(files)), **options)


def kept_digests(store: LayerStore) -> set[str]:
    found = set()
    for path in (store.root / "layerstore/manifests/vfs/sha256").glob("*"):
        assert sha256(path.read_bytes()) == f"sha256:{path.name}"
        found.add(f"sha256:{path.name}")
    return found


def test_manifest_and_annotations_are_kept_byte_for_byte(images: Images, store: LayerStore) -> None:
    files: Files = {}
    manifest = oci_manifest(files, AMD)
    (loaded,) = load(images, write_index(files, [named(manifest, "docker.io/library/app:1", **{"a.b": "c"})]))
    assert kept_digests(store) == {manifest["digest"]}
    origin = store.context.kept.of_name("app:1", loaded.image_id)
    assert origin is not None and origin.target is not None
    assert origin.target["annotations"] == {"io.containerd.image.name": "docker.io/library/app:1", "a.b": "c"}


def test_one_name_stands_for_the_images_of_all_platforms(images: Images, store: LayerStore) -> None:
    files, index = multi_platform(AMD, ARM)
    loaded = load(images, files, all_platforms=True)
    assert [(image.image_id, image.names) for image in loaded] == [
        (AMD.image_id, ("app:1",)),
        (ARM.image_id, ("app:1",)),
    ]
    assert (loaded.skipped, len(loaded.referrers)) == ((), 2)
    assert images.get("app:1").image_id == AMD.image_id
    assert images.get("app:1", platform="linux/arm64").image_id == ARM.image_id
    assert images.get("app:1", platform="amd64").names == ("app:1",)
    assert sorted(image.image_id for image in images.all()) == sorted([AMD.image_id, ARM.image_id])
    assert {image.names for image in images.all()} == {("app:1",)}
    assert [image.image_id for image in images.all(platform="arm64")] == [ARM.image_id]
    with pytest.raises(
        ImageDoesNotExist, match="no image 'app:1' for linux/s390x; there are: linux/amd64, linux/arm64"
    ):
        images.get("app:1", platform="s390x")
    assert kept_digests(store) == set(blobs_of(files)) - {
        *(sha256(image.config) for image in (AMD, ARM)),
        *map(sha256, (BASE, MIDDLE, TOP)),
    }
    assert index["digest"] in kept_digests(store)


def test_docker_finds_the_image_for_the_given_platform_under_the_name(images: Images) -> None:
    load(images, multi_platform(AMD, ARM)[0], all_platforms=True, platform="linux/arm64")
    assert images.get("app:1").image_id == ARM.image_id


def test_a_layout_without_an_inner_index_has_one_name_for_all_platforms(images: Images) -> None:
    files: Files = {}
    entries = [oci_manifest(files, image) for image in (ARM, AMD)]
    load(images, write_index(files, entries), all_platforms=True, name="mine:1")
    assert [images.get("mine:1", platform=one).image_id for one in ("amd64", "arm64")] == [AMD.image_id, ARM.image_id]
    assert images.get("mine:1").image_id == AMD.image_id


def test_two_images_cannot_get_one_name_though_all_platforms_are_loaded(images: Images) -> None:
    files = oci_files(ImageSpec((BASE,), ("a:1",)), ImageSpec((TOP,), ("b:1",)))
    with pytest.raises(InvalidImage, match="cannot all be named"):
        load(images, files, all_platforms=True, name="mine:1")


def test_a_name_is_removed_with_all_its_images(images: Images, store: LayerStore) -> None:
    before = {path for path in tree(store.root) if "/manifests/" in path}
    load(images, multi_platform(AMD, ARM)[0], all_platforms=True)
    images.tag("app:1", "other:2")
    images.tag(ARM.image_id, "arm:1")
    assert images.get("other:2", platform="arm64").image_id == ARM.image_id
    assert images.remove("app:1").deleted == []
    with pytest.raises(ImageInUse, match="several names"):
        images.remove(ARM.image_id)
    assert images.remove("other:2").deleted == [AMD.image_id]
    assert images.remove("arm:1").deleted == [ARM.image_id]
    assert (images.all(), store.layers(), kept_digests(store)) == ([], {}, set())
    assert before == set()
    assert store.context.kept.names() == {}


def test_one_of_several_platforms_is_not_removed_by_its_id(images: Images) -> None:
    load(images, multi_platform(AMD, ARM)[0], all_platforms=True)
    with pytest.raises(ImageInUse, match="one of 2 images for several platforms of app:1; remove the name"):
        images.remove(ARM.image_id)
    assert sorted(images.remove(ARM.image_id, force=True).deleted) == sorted([AMD.image_id, ARM.image_id])


def test_a_name_that_docker_has_moved_stands_for_one_image(images: Images, store: LayerStore) -> None:
    load(images, multi_platform(AMD, ARM)[0], all_platforms=True)
    (other,) = images.load(io.BytesIO(docker_archive(ImageSpec((TOP,), ("other:1",)))))
    ImageDB(store.root / "image/vfs").set_names({"app:1": other.image_id})
    assert images.get("app:1").image_id == other.image_id
    assert [image.names for image in images.all()] == [("app:1",), (), ()]


def referred() -> tuple[Files, dict[str, Any], list[str]]:
    """Return a layout with an image that has one referrer of each kind, its manifest, and the referrers' digests."""
    files: Files = {}
    manifest = oci_manifest(files, AMD)
    sbom = artifact(files, manifest, b"packages")
    signature = cosign(files, manifest)
    of_sbom = artifact(files, sbom, b"signature of the SBOM", "application/x-signature")
    nested = {
        **write_nested(files, [artifact(files, manifest, b"by the tag schema")]),
        "annotations": {"org.opencontainers.image.ref.name": manifest["digest"].replace(":", "-")},
    }
    unrelated = artifact(files, {**manifest, "digest": sha256(b"else")}, b"of something else")
    alone = artifact(files, None, b"of nothing")
    entries = [named(manifest, "docker.io/library/app:1"), signature, of_sbom, sbom, nested, unrelated, alone]
    return write_index(files, entries), manifest, [one["digest"] for one in (sbom, signature, of_sbom, nested)]


def write_nested(files: Files, entries: list[dict[str, Any]]) -> dict[str, Any]:
    data = json.dumps({"schemaVersion": 2, "manifests": entries}).encode()
    files[blob_path(data)] = data
    return {"mediaType": "application/vnd.oci.image.index.v1+json", "digest": sha256(data), "size": len(data)}


def test_referrers_of_every_kind_are_kept_with_all_their_blobs(images: Images, store: LayerStore) -> None:
    files, manifest, referrers = referred()
    loaded = load(images, files)
    assert {one.digest for one in loaded.referrers} >= set(referrers)
    assert {one.subject for one in loaded.referrers} == {manifest["digest"], referrers[0]}
    assert sorted(item.kind for item in loaded.skipped) == ["artifact", "artifact"]
    there = [files[f"blobs/sha256/{digest[7:]}"] for digest in kept_digests(store)]
    for content in (b"packages", b"signed", b"signature of the SBOM", b"by the tag schema"):
        assert content in there
    assert b"of something else" not in there


@pytest.mark.parametrize(("limit", "value"), [("MAX_REFERRERS", 2), ("MAX_BYTES", 1500), ("MAX_DOCUMENT", 500)])
def test_referrers_are_limited_in_number_and_size(
    images: Images, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    monkeypatch.setattr(limits, limit, value)
    files: Files = {}
    manifest = oci_manifest(files, AMD)
    entries = [artifact(files, manifest, bytes([n]) * 501) for n in range(4)]
    loaded = load(images, write_index(files, [manifest, *entries]))
    assert len(loaded.referrers) == {"MAX_REFERRERS": 2, "MAX_BYTES": 1, "MAX_DOCUMENT": 0}[limit]
    assert len(loaded.skipped) == 4 - len(loaded.referrers)


@pytest.mark.parametrize("damage", ["missing", "damaged", "longer"])
def test_a_referrer_with_a_bad_blob_is_skipped_and_the_image_loaded(
    images: Images, store: LayerStore, damage: str
) -> None:
    files: Files = {}
    manifest = oci_manifest(files, AMD)
    sbom = artifact(files, manifest, b"packages")
    write_index(files, [manifest, sbom])
    path = blob_path(b"packages")
    if damage == "missing":
        del files[path]
    else:
        files[path] = b"PACKAGES" if damage == "damaged" else b"packages and more"
    loaded = load(images, files)
    assert (len(loaded), loaded.referrers) == (1, ())
    assert [item.digest for item in loaded.skipped if "belongs to" in item.reason] == [sbom["digest"]]
    assert kept_digests(store) == {manifest["digest"]}


def test_too_many_artifacts_do_not_prevent_loading(images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    files: Files = {}
    manifest = oci_manifest(files, AMD)
    # Entries that are attestations by their annotation are not read when the images are looked for.
    entries = [attestation(files, {**manifest, "n": n}) for n in range(5)]
    monkeypatch.setattr(limits, "MAX_IMAGES", 3)
    loaded = load(images, write_index(files, [manifest, *entries]))
    assert (len(loaded), loaded.referrers) == (1, ())
    assert any("no signatures, attestations or other artifacts are kept" in item.reason for item in loaded.skipped)


@pytest.mark.parametrize("value", [[[["x"] * 10]] * 10_000, json.loads("[" * 500 + "]" * 500)], ids=["long", "deep"])
def test_of_a_monstrous_descriptor_only_the_necessary_is_kept(images: Images, store: LayerStore, value: Any) -> None:
    files: Files = {}
    manifest = oci_manifest(files, AMD)
    entry = {**named(manifest, "docker.io/library/app:1"), "monster": value}
    (loaded,) = load(images, write_index(files, [entry]))
    origin = store.context.kept.of_name("app:1", loaded.image_id)
    assert origin is not None and origin.target == {key: manifest[key] for key in ("mediaType", "digest", "size")}


def test_a_circle_of_referrers_ends(images: Images) -> None:
    """A document cannot contain its own digest; a tag can claim anything."""
    files: Files = {}
    manifest = oci_manifest(files, AMD)
    one, other = artifact(files, manifest, b"1"), artifact(files, None, b"2")
    one["annotations"] = {"org.opencontainers.image.ref.name": other["digest"].replace(":", "-")}
    other["annotations"] = {"org.opencontainers.image.ref.name": one["digest"].replace(":", "-")}
    itself = {**artifact(files, None, b"3")}
    itself["annotations"] = {"org.opencontainers.image.ref.name": itself["digest"].replace(":", "-")}
    loaded = load(images, write_index(files, [manifest, other, one, itself]))
    assert {found.digest for found in loaded.referrers} == {one["digest"], other["digest"]}


def test_a_load_that_fails_leaves_what_was_kept_before(
    images: Images, store: LayerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(images, multi_platform(AMD, ARM)[0], all_platforms=True)
    before = {path: content for path, content in tree(store.root).items() if "/manifests/" in path}
    files, index = multi_platform(AMD, image_for("arm64", (TOP,)))

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ImageDB, "set_names", fail)
    with pytest.raises(OSError, match="No space"):
        load(images, files, all_platforms=True)
    after = {path: content for path, content in tree(store.root).items() if "/manifests/" in path}
    assert after == before
    assert index["digest"] not in kept_digests(store)
    assert len(images.all()) == 2


def test_lost_origins_are_an_error_for_load_and_none_for_images(images: Images, store: LayerStore) -> None:
    load(images, multi_platform(AMD, ARM)[0], all_platforms=True)
    os.unlink(store.root / "layerstore/manifests/vfs/names.json")
    kept = kept_digests(store)
    with pytest.raises(BadRecord, match=r"names.json.*missing; restore it from a backup"):
        load(images, multi_platform(AMD)[0])
    assert [image.names for image in images.all()] == [("app:1",), ()]
    collect_garbage(store)
    assert kept_digests(store) == kept
    assert images.remove("app:1").untagged == ["app:1"]
    assert kept_digests(store) == kept


def test_gc_finds_what_a_killed_process_has_left(images: Images, store: LayerStore) -> None:
    load(images, multi_platform(AMD, ARM)[0], all_platforms=True)
    kept = kept_digests(store)
    home = store.root / "layerstore/manifests/vfs"
    leftovers = [home / "sha256" / sha256(b"x")[7:], home / "sha256/.tmp-1", home / "images/.tmp-2", home / ".tmp-3"]
    leftovers.append(home / "images" / sha256(b"no image")[7:])
    for path in leftovers:
        path.write_bytes(b"{}" if path.parent.name == "images" else b"x")
    assert {item.name for item in collect_garbage(store, dry_run=True)} == set(map(str, leftovers))
    assert {(item.kind, item.name) for item in collect_garbage(store)} == {
        ("unused document", str(path)) for path in leftovers
    }
    assert kept_digests(store) == kept
    assert collect_garbage(store) == []


def test_a_thin_layout_lacks_layers_that_the_store_has(images: Images, store: LayerStore) -> None:
    images.load(io.BytesIO(docker_archive(ImageSpec((BASE, MIDDLE), ("base:1",)))))
    app = ImageSpec((BASE, MIDDLE, TOP), ("app:1",), tuple(gzip.compress(one) for one in (BASE, MIDDLE, TOP)))
    files = oci_files(app)
    for blob in app.packed[:2]:
        del files[blob_path(blob)]
    (loaded,) = load(images, files)
    assert (loaded.image_id, loaded.size is not None) == (app.image_id, True)
    # What a layout says about a blob that it lacks is not proved.
    recorded = {path.name for path in (store.root / "image/vfs/distribution/diffid-by-digest/sha256").iterdir()}
    assert recorded == {sha256(app.packed[2])[7:]}


@pytest.mark.parametrize("missing", [(0,), (1,), (0, 1), (2,)])
def test_a_thin_layout_is_refused_where_the_store_lacks_the_layer(
    images: Images, store: LayerStore, missing: tuple[int, ...]
) -> None:
    # The store has the second layer's content, but upon another base.
    images.load(io.BytesIO(docker_archive(ImageSpec((TOP, MIDDLE), ("base:1",)))))
    app = ImageSpec((BASE, MIDDLE, TOP), ("app:1",))
    files = oci_files(app)
    for number in missing:
        del files[blob_path(app.layers[number])]
    layers = set(store.layers())
    with pytest.raises(InvalidImage, match="missing"):
        load(images, files)
    assert set(store.layers()) == layers


def test_docker_archives_with_an_oci_index_keep_its_manifest(images: Images, store: LayerStore) -> None:
    app = ImageSpec((BASE, TOP), ("app:1",))
    files = oci_files(app)
    files["manifest.json"] = json.dumps(
        [{"Config": blob_path(app.config), "RepoTags": ["app:1"], "Layers": [blob_path(one) for one in app.layers]}]
    ).encode()
    load(images, files)
    assert len(kept_digests(store)) == 1


def config(store: LayerStore, keep_blobs: Any) -> LayerStore:
    object.__setattr__(store.context.config, "keep_blobs", keep_blobs)
    return store


def kept_blobs(store: LayerStore) -> dict[str, bytes]:
    home = store.root / "layerstore/blobs/vfs"
    return {f"sha256:{path.name}": path.read_bytes() for path in home.glob("*/*")}


def foreign_gzip(data: bytes) -> bytes:
    """Compress with parts that zlib does not write by itself, as programs in Go do."""
    middle = len(data) // 2
    return gzip.compress(data[:middle]) + gzip.compress(data[middle:])


@pytest.mark.parametrize(
    ("policy", "count"), [("never", 0), ("unreproducible", 1), ("always", 2)], ids=["never", "unreproducible", "always"]
)
def test_the_setting_says_which_blobs_are_kept(images: Images, store: LayerStore, policy: str, count: int) -> None:
    config(store, policy)
    packed = (gzip.compress(BASE, mtime=0), foreign_gzip(TOP))
    app = ImageSpec((BASE, TOP), ("app:1",), packed)
    load(images, oci_files(app))
    assert kept_blobs(store) == {sha256(blob): blob for blob in packed[2 - count :]}
    assert {path.stat().st_nlink for path in (store.root / "layerstore/blobs/vfs").glob("*/*")} <= {1}
    images.remove("app:1")
    assert kept_blobs(store) == {}


def test_blobs_of_layers_that_the_store_has_are_kept_too(images: Images, store: LayerStore) -> None:
    images.load(io.BytesIO(docker_archive(ImageSpec((BASE,), ("app:1",)))))
    config(store, "always")
    blob = foreign_gzip(BASE)
    load(images, oci_files(ImageSpec((BASE,), ("app:1",), (blob,))))
    assert kept_blobs(store) == {sha256(blob): blob}


@pytest.mark.parametrize(
    "blob",
    [gzip.compress(TOP), b"no gzip", b"", gzip.compress(BASE)[:-9]],
    ids=["another layer", "no gzip", "empty", "cut off"],
)
def test_a_blob_that_is_not_the_layer_is_not_kept(images: Images, store: LayerStore, blob: bytes) -> None:
    images.load(io.BytesIO(docker_archive(ImageSpec((BASE,), ("app:1",)))))
    config(store, "always")
    load(images, oci_files(ImageSpec((BASE,), ("app:1",), (blob,))))
    assert kept_blobs(store) == {}


def test_a_blob_that_is_much_larger_than_its_tar_is_not_kept(images: Images, store: LayerStore) -> None:
    config(store, "always")
    blob = gzip.compress(BASE) + gzip.compress(b"") * ((len(BASE) + (1 << 17)) // 20)
    load(images, oci_files(ImageSpec((BASE,), ("app:1",), (blob,))))
    assert kept_blobs(store) == {}


def test_gc_removes_blobs_of_layers_that_are_gone(images: Images, store: LayerStore, tmp_path: Path) -> None:
    config(store, "always")
    blob = foreign_gzip(BASE)
    load(images, oci_files(ImageSpec((BASE,), ("app:1",), (blob,))))
    home = store.root / "layerstore/blobs/vfs"
    (home / sha256(TOP)[7:]).mkdir()
    (home / sha256(TOP)[7:] / sha256(b"x")[7:]).write_bytes(b"x")
    (home / sha256(BASE)[7:] / ".tmp-1").write_bytes(b"x")
    collect_garbage(store)
    assert kept_blobs(store) == {sha256(blob): blob}


def test_attestations_of_an_index_are_kept_though_one_platform_is_loaded(images: Images, store: LayerStore) -> None:
    files, index = multi_platform(AMD, ARM)
    loaded = load(images, files)
    assert [image.image_id for image in loaded] == [AMD.image_id]
    assert index["digest"] in kept_digests(store)
    # The attestation of the image that is not loaded is skipped.
    assert sorted(item.kind for item in loaded.skipped) == ["attestation", "platform"]
    assert len(loaded.referrers) == 1


def test_origin_of_many_referrers_with_long_annotations_can_be_read_again(images: Images, store: LayerStore) -> None:
    files: Files = {}
    manifest = oci_manifest(files, AMD)
    entries = [
        {**artifact(files, manifest, b"%d" % n), "annotations": {"x": "y" * 9000 if n else "short"}} for n in range(3)
    ]
    loaded = load(images, write_index(files, [named(manifest, "docker.io/library/app:1"), *entries]))
    assert len(loaded.referrers) == 3
    origin = store.context.kept.of_name("app:1", AMD.image_id)
    assert origin is not None
    assert [one.descriptor.get("annotations") for one in origin.referrers] == [{"x": "short"}, None, None]
    assert {one.digest for one in origin.referrers} == {one["digest"] for one in entries}


@pytest.mark.parametrize(("limit", "value", "kept"), [("MAX_LISTED", 2000, 2), ("MAX_BLOBS", 7, 2)])
def test_what_origins_list_of_referrers_is_limited_for_a_whole_layout(
    images: Images, store: LayerStore, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, kept: int
) -> None:
    monkeypatch.setattr(limits, limit, value)
    files: Files = {}
    manifest = oci_manifest(files, AMD)
    entries = [artifact(files, manifest, b"%d" % n) for n in range(5)]
    loaded = load(images, write_index(files, [named(manifest, "docker.io/library/app:1"), *entries]))
    assert len(loaded.referrers) == kept
    assert len([item for item in loaded.skipped if "is not kept: at most" in item.reason]) == 5 - kept
    assert store.context.kept.unreadable() == []


def test_images_can_be_loaded_and_named_where_no_more_origins_of_names_can_be_kept(
    images: Images, store: LayerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    files: Files = {}
    manifest = oci_manifest(files, AMD)
    entries = [artifact(files, manifest, b"%d" % n) for n in range(3)]
    load(images, write_index(files, [named(manifest, "docker.io/library/app:1"), *entries]))
    full = store.context.kept.names_path.stat().st_size + 300
    monkeypatch.setattr("layerstore_core.records.kept.names_limit.MAX_NAMES", full)
    other: Files = {}
    arm = oci_manifest(other, ARM)
    (loaded,) = load(images, write_index(other, [named(arm, "docker.io/library/other:1")]), platform="linux/arm64")
    assert images.get("other:1").image_id == loaded.image_id
    kept = store.context.kept
    assert (kept.of_name("other:1", loaded.image_id), kept.unreadable()) == (None, [])
    assert kept.of_image(loaded.image_id) is not None
    assert kept.of_name("app:1", AMD.image_id) is not None
    images.tag("app:1", "again:1")
    assert images.get("again:1").image_id == AMD.image_id
    assert kept.of_name("again:1", AMD.image_id) is None


def test_all_documents_of_a_layout_are_flushed_together_before_the_origins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from layerstore_core.base import inside
    from layerstore_core.base.durability import FlushPoint

    done: list[str] = []
    write, flush = inside.write, FlushPoint.flush

    def write_noted(path: Any, content: bytes, mode: int, **options: Any) -> None:
        if "manifests/" in str(path):
            done.append(f"{Path(path).parent.name} {options.get('durable', False)}")
        write(path, content, mode, **options)

    with LayerStore.open(root=tmp_path / "root", driver="vfs", durability="full") as durable:
        monkeypatch.setattr(inside, "write", write_noted)
        monkeypatch.setattr(FlushPoint, "flush", lambda self: (done.append("flush"), flush(self)))
        files: Files = {}
        manifest = oci_manifest(files, AMD)
        entries = [artifact(files, manifest, b"%d" % n) for n in range(3)]
        load(Images(durable), write_index(files, [named(manifest, "docker.io/library/app:1"), *entries]))
    documents = [number for number, what in enumerate(done) if what.startswith("sha256")]
    assert [done[number] for number in documents] == ["sha256 False"] * 8  # 4 manifests, 3 contents, 1 config
    origins = done.index("images True")
    assert done[documents[-1] + 1 : origins] == ["flush"]


def test_documents_are_read_before_other_processes_have_to_wait(
    store: LayerStore, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A registry may be slow: meanwhile others load, tag and remove images."""
    from layerstore_core.images.formats.container import TarContainer

    files: Files = {}
    manifest = oci_manifest(files, AMD)
    entries = [artifact(files, manifest, b"%d" % n) for n in range(3)]
    layout = write_index(files, [named(manifest, "docker.io/library/app:1"), *entries])
    held, opened = [0], []
    changing, real = type(store.context).changing_images, TarContainer.open

    @contextmanager
    def locked(context: Any) -> Iterator[Any]:
        with changing(context) as records:
            held[0] += 1
            yield records
            held[0] -= 1

    def open_(container: Any, path: str) -> Any:
        opened.append((path, held[0]))
        return real(container, path)

    monkeypatch.setattr(type(store.context), "changing_images", locked)
    monkeypatch.setattr(TarContainer, "open", open_)
    load(images, layout)
    assert len(opened) > 8
    assert [path for path, in_lock in opened if in_lock] == []
    # Those that are kept already are not read again, unless they are damaged.
    opened.clear()
    kept = store.context.kept
    kept.path_of(manifest["digest"]).write_bytes(b"damaged")
    load(images, layout)
    assert [path for path, in_lock in opened if in_lock] == []
    assert kept.is_sound(manifest["digest"])
    assert kept.survey().unreadable == []


def test_a_document_that_gc_removes_meanwhile_is_written_all_the_same(
    store: LayerStore, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    files: Files = {}
    manifest = oci_manifest(files, AMD)
    layout = write_index(files, [named(manifest, "docker.io/library/app:1")])
    load(images, layout)
    images.remove("app:1")
    with store.context.changing_images():
        store.context.kept.put(manifest["digest"], files[f"blobs/sha256/{manifest['digest'][7:]}"])
    changing = type(store.context).changing_images

    def collect_first(context: Any) -> Any:
        store.context.kept.path_of(manifest["digest"]).unlink(missing_ok=True)
        return changing(context)

    monkeypatch.setattr(type(store.context), "changing_images", collect_first)
    load(images, layout)
    assert store.context.kept.is_sound(manifest["digest"])
