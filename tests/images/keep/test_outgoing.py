"""What `save` gives back: manifests, indexes and referrers byte for byte; compression; the `dir:` format."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from layerstore_core import LayerStore, LayerStoreError
from layerstore_core.errors import ImageDoesNotExist
from layerstore_core.images import Images
from layerstore_core.images.keep.compression import Compression
from layerstore_core.streams.compression import decompress, detect
from tests.images.archives import (
    Files,
    ImageSpec,
    blob_path,
    docker_archive,
    oci_files,
    oci_index,
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
from tests.images.keep.test_incoming import config, foreign_gzip, referred
from tests.store.layers import BASE, MIDDLE, TOP

pytestmark = pytest.mark.usefixtures("on_amd64")


def python_gzip(data: bytes) -> bytes:
    return gzip.compress(data, mtime=7)


def zstd(data: bytes) -> bytes:
    return b"".join(Compression("zstd", 7).compress([data]))


AMD = image_for("amd64", (BASE, MIDDLE), tuple(map(python_gzip, (BASE, MIDDLE))))
ARM = image_for("arm64", (BASE, TOP), tuple(map(python_gzip, (BASE, TOP))))


def load(images: Images, files: Files, **options: Any) -> Any:
    return images.load(io.BytesIO(tar_files(files)), **options)


def files_of(path: Path) -> Files:
    if path.is_dir():
        return {str(one.relative_to(path)): one.read_bytes() for one in path.rglob("*") if one.is_file()}
    with tarfile.open(path) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


def entries_of(files: Files) -> list[dict[str, Any]]:
    """Return the entries of the index of a layout, each of whose blobs is sound and there."""
    for digest, data in blobs_of(files).items():
        assert files[f"blobs/{digest.replace(':', '/')}"] == data
    found: list[dict[str, Any]] = json.loads(files["index.json"])["manifests"]
    for entry in found:
        assert len(files[f"blobs/{entry['digest'].replace(':', '/')}"]) == entry["size"]
    return found


@pytest.mark.parametrize("target", ["layout", "layout.tar"])
def test_a_layout_comes_back_with_all_its_digests_and_annotations(images: Images, tmp_path: Path, target: str) -> None:
    files: Files = {}
    entry = named(oci_manifest(files, AMD), "docker.io/library/app:1", vendor="x")
    load(images, write_index(files, [entry]))
    saved = images.save("app:1", tmp_path / target, form="oci")
    assert [(one.digest, one.as_loaded) for one in saved.manifests] == [(entry["digest"], True)]
    back = files_of(tmp_path / target)
    assert blobs_of(back) == blobs_of(files)
    (found,) = entries_of(back)
    assert {**found, "annotations": None, "platform": None} == {**entry, "annotations": None, "platform": None}
    assert found["annotations"] == {**entry["annotations"], "org.opencontainers.image.ref.name": "1"}


@pytest.mark.parametrize("compress", [foreign_gzip, zstd, lambda data: data], ids=["foreign", "zstd", "none"])
def test_kept_blobs_are_given_back(
    images: Images, store: LayerStore, tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    config(store, "unreproducible")
    files = oci_files(ImageSpec((BASE, TOP), ("app:1",), (compress(BASE), compress(TOP))))
    load(images, files)
    saved = images.save("app:1", tmp_path / "layout", form="oci")
    assert saved.manifests[0].as_loaded
    assert blobs_of(files_of(tmp_path / "layout")) == blobs_of(files)


def test_a_new_manifest_is_made_where_a_layer_cannot_be_had(images: Images, tmp_path: Path) -> None:
    files: Files = {}
    image = ImageSpec((BASE, TOP), packed=(python_gzip(BASE), foreign_gzip(TOP)))
    entry = oci_manifest(files, image)
    path = f"blobs/{entry['digest'].replace(':', '/')}"
    annotated = json.dumps({**json.loads(files.pop(path)), "annotations": {"k": "v"}}).encode()
    files[blob_path(annotated)] = annotated
    entry = {**entry, "digest": sha256(annotated), "size": len(annotated)}
    load(images, write_index(files, [named(entry, "docker.io/library/app:1")]))
    saved = images.save("app:1", tmp_path / "layout", form="oci")
    assert [one.as_loaded for one in saved.manifests] == [False]
    back = files_of(tmp_path / "layout")
    manifest = json.loads(blobs_of(back)[entries_of(back)[0]["digest"]])
    assert manifest["annotations"] == {"k": "v"}
    assert [layer["digest"] for layer in manifest["layers"]] == [sha256(python_gzip(BASE)), sha256(TOP)]


def test_a_damaged_blob_is_not_given_back(images: Images, store: LayerStore, tmp_path: Path) -> None:
    config(store, "always")
    blob = foreign_gzip(BASE)
    load(images, oci_files(ImageSpec((BASE,), ("app:1",), (blob,))))
    path = store.root / "layerstore/blobs/vfs" / sha256(BASE)[7:] / sha256(blob)[7:]
    path.write_bytes(blob[:-1] + b"!")
    assert not images.save("app:1", tmp_path / "layout", form="oci").manifests[0].as_loaded
    back = files_of(tmp_path / "layout")
    assert sha256(BASE) in blobs_of(back)
    assert len(entries_of(back)) == 1


@pytest.mark.parametrize("damage", ["damaged", "missing", "garbage"])
def test_a_manifest_that_is_lost_is_made_anew(images: Images, store: LayerStore, tmp_path: Path, damage: str) -> None:
    load(images, oci_files(ImageSpec(AMD.layers, ("app:1",), AMD.packed)))
    (path,) = (store.root / "layerstore/manifests/vfs/sha256").iterdir()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(b"[]" if damage == "garbage" else path.read_bytes() + b" ")
    assert not images.save("app:1", tmp_path / "layout", form="oci").manifests[0].as_loaded
    assert len(entries_of(files_of(tmp_path / "layout"))) == 1


def test_an_index_comes_back_with_all_platforms(images: Images, tmp_path: Path) -> None:
    files, index = multi_platform(AMD, ARM)
    load(images, files, all_platforms=True)
    saved = images.save("app:1", tmp_path / "all", form="oci", all_platforms=True)
    assert [image.image_id for image in saved] == [AMD.image_id, ARM.image_id]
    back = files_of(tmp_path / "all")
    assert blobs_of(back) == blobs_of(files)
    (entry,) = entries_of(back)
    assert entry["digest"] == index["digest"]
    assert entry["annotations"]["vendor"] == "x"
    # One of them is saved with its manifest alone.
    for platform, image in ((None, AMD), ("arm64", ARM)):
        where = tmp_path / str(platform)
        saved = images.save("app:1", where, form="oci", platform=platform)
        assert [(one.image_id, one.as_loaded) for one in saved.manifests] == [(image.image_id, True)]
        (entry,) = entries_of(files_of(where))
        assert entry["platform"]["architecture"] == image.extra["architecture"]
        assert entry["annotations"]["io.containerd.image.name"] == "docker.io/library/app:1"
    with pytest.raises(ImageDoesNotExist, match="for linux/s390x"):
        images.save("app:1", tmp_path / "none", form="oci", platform="s390x")


def test_an_index_with_one_image_and_its_attestation_comes_back(images: Images, tmp_path: Path) -> None:
    files, index = multi_platform(AMD)
    load(images, files)
    images.save("app:1", tmp_path / "layout", form="oci")
    assert blobs_of(files_of(tmp_path / "layout")) == blobs_of(files)
    assert entries_of(files_of(tmp_path / "layout"))[0]["digest"] == index["digest"]


def test_a_new_index_lists_the_platforms_that_are_there(images: Images, tmp_path: Path) -> None:
    files, index = multi_platform(AMD, ARM, image_for("s390x", (TOP,)))
    load(images, files, all_platforms=True)
    images.save("app:1", tmp_path / "zstd", form="oci", all_platforms=True, compression="zstd")
    (entry,) = entries_of(files_of(tmp_path / "zstd"))
    assert entry["digest"] != index["digest"]
    listed = json.loads(blobs_of(files_of(tmp_path / "zstd"))[entry["digest"]])["manifests"]
    assert [one["platform"]["architecture"] for one in listed] == ["amd64", "arm64", "s390x"]
    # What was saved is an image for several platforms again.
    images.remove("app:1")
    assert len(images.load(tmp_path / "zstd", all_platforms=True)) == 3
    assert images.get("app:1", platform="s390x").chain_id == sha256(TOP)


@pytest.mark.parametrize("odd", [7, {}, {"digest": {}}, {"digest": "sha256:../x", "size": 1}, {"digest": sha256(b"")}])
def test_an_index_with_an_odd_entry_is_made_anew(images: Images, tmp_path: Path, odd: Any) -> None:
    files: Files = {}
    entries = [oci_manifest(files, image) for image in (AMD, ARM)]
    index = oci_index(files, [*entries, odd])
    load(images, write_index(files, [named(index, "docker.io/library/app:1")]), all_platforms=True)
    images.save("app:1", tmp_path / "all", form="oci", all_platforms=True, referrers=True)
    (entry,) = entries_of(files_of(tmp_path / "all"))
    assert entry["digest"] != index["digest"]
    listed = json.loads(blobs_of(files_of(tmp_path / "all"))[entry["digest"]])["manifests"]
    assert [one["digest"] for one in listed] == [one["digest"] for one in entries]


def test_referrers_come_back_with_their_blobs(images: Images, tmp_path: Path) -> None:
    files, manifest, referrers = referred()
    load(images, files)
    images.save("app:1", tmp_path / "with", form="oci", referrers=True)
    back = files_of(tmp_path / "with")
    entries = entries_of(back)
    assert entries[0]["digest"] == manifest["digest"]
    assert {entry["digest"] for entry in entries[1:]} >= set(referrers)
    expected = {
        digest: data for digest, data in blobs_of(files).items() if b"else" not in data and b"of nothing" not in data
    }
    assert set(blobs_of(back)) <= set(blobs_of(files))
    assert {sha256(text) for text in (b"packages", b"signed", b"signature of the SBOM", b"by the tag schema")} <= set(
        blobs_of(back)
    )
    assert len(blobs_of(back)) <= len(expected)
    tags = {entry.get("annotations", {}).get("org.opencontainers.image.ref.name") for entry in entries}
    assert f"{manifest['digest'].replace(':', '-')}.sig" in tags
    images.save("app:1", tmp_path / "without", form="oci")
    assert len(entries_of(files_of(tmp_path / "without"))) == 1
    # And again: what came back is kept and given back, too.
    images.remove("app:1")
    images.load(tmp_path / "with")
    images.save("app:1", tmp_path / "again", form="oci", referrers=True)
    assert blobs_of(files_of(tmp_path / "again")) == blobs_of(back)


def test_referrers_of_an_index_go_with_the_index(images: Images, tmp_path: Path) -> None:
    files, index = multi_platform(AMD, ARM)
    signature = cosign(files, index)
    entries = json.loads(files["index.json"])["manifests"]
    load(images, write_index(files, [*entries, signature]), all_platforms=True)
    images.save("app:1", tmp_path / "all", form="oci", all_platforms=True, referrers=True)
    assert blobs_of(files_of(tmp_path / "all")) == blobs_of(files)
    assert [one["digest"] for one in entries_of(files_of(tmp_path / "all"))] == [index["digest"], signature["digest"]]
    # The manifest alone has an attestation, and no signature.
    images.save("app:1", tmp_path / "one", form="oci", referrers=True)
    manifest, of_manifest = entries_of(files_of(tmp_path / "one"))
    assert of_manifest["annotations"]["vnd.docker.reference.digest"] == manifest["digest"]


def test_referrers_of_a_manifest_that_cannot_be_given_back_are_an_error(images: Images, tmp_path: Path) -> None:
    files: Files = {}
    manifest = oci_manifest(files, ImageSpec((BASE,), packed=(foreign_gzip(BASE),)))
    sbom = artifact(files, manifest, b"packages")
    load(images, write_index(files, [named(manifest, "docker.io/library/app:1"), sbom]))
    with pytest.raises(LayerStoreError, match=r"1 referrers cannot be saved.*set keep_blobs"):
        images.save("app:1", tmp_path / "layout", form="oci", referrers=True)
    assert os.listdir(tmp_path) == ["store"]


def test_a_missing_referrer_is_an_error_and_leaves_no_output(images: Images, store: LayerStore, tmp_path: Path) -> None:
    files, _, referrers = referred()
    load(images, files)
    (store.root / "layerstore/manifests/vfs/sha256" / sha256(b"packages")[7:]).unlink()
    with pytest.raises(LayerStoreError, match=f"referrer {referrers[0]} is missing or damaged"):
        images.save("app:1", tmp_path / "layout", form="oci", referrers=True)
    assert os.listdir(tmp_path) == ["store"]


def test_annotations_of_an_image_made_here_are_in_its_manifest(
    images: Images, store: LayerStore, tmp_path: Path
) -> None:
    (image,) = images.load(io.BytesIO(docker_archive(ImageSpec((BASE,), ("app:1",)))))
    with store.context.changing_images():
        store.context.kept.set_annotations(image.image_id, {"k": "v"}, name="app:1")
    assert images.annotations("app:1") == {"k": "v"}
    images.save("app:1", tmp_path / "layout", form="oci")
    back = files_of(tmp_path / "layout")
    assert json.loads(blobs_of(back)[entries_of(back)[0]["digest"]])["annotations"] == {"k": "v"}
    images.remove("app:1")
    images.load(tmp_path / "layout")
    assert images.annotations("app:1") == {"k": "v"}


@pytest.mark.parametrize("text", ["gzip", "gzip:1", "gzip:9", "zstd", "zstd:1", "zstd:19", "none"])
@pytest.mark.parametrize("form", ["docker", "oci"])
def test_compressed_layers_are_reproducible_and_load_again(
    images: Images, tmp_path: Path, text: str, form: Any
) -> None:
    images.load(io.BytesIO(docker_archive(ImageSpec((BASE, TOP), ("app:1",)))))
    for name in ("one.tar", "two.tar"):
        images.save("app:1", tmp_path / name, form=form, compression=text)
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    files = files_of(tmp_path / "one.tar")
    (entry,) = entries_of(files)
    method = text.partition(":")[0]
    for layer, tar in zip(json.loads(blobs_of(files)[entry["digest"]])["layers"], (BASE, TOP), strict=True):
        blob = blobs_of(files)[layer["digest"]]
        suffix = "" if method == "none" else f"+{method}"
        assert layer["mediaType"] == f"application/vnd.oci.image.layer.v1.tar{suffix}"
        assert detect(blob) == (None if method == "none" else method)
        parts = iter([blob, b""])
        read = decompress(lambda parts=parts: next(parts), method) if suffix else lambda blob=blob: blob
        assert b"".join(iter(read, b"")) == tar if suffix else blob == tar
    images.remove("app:1")
    (image,) = images.load(tmp_path / "one.tar")
    assert image.names == ("app:1",)
    # What we compress with gzip we can compress again.
    if method != "zstd":
        assert images.save("app:1", tmp_path / "again", form="oci").manifests[0].as_loaded


@pytest.mark.parametrize(
    "text", ["", "gz", "gzip:0", "gzip:10", "zstd:23", "zstd:-1", "gzip:", "zstd:x", "xz", "none:1"]
)
def test_an_unknown_compression_is_refused(images: Images, tmp_path: Path, text: str) -> None:
    images.load(io.BytesIO(docker_archive(ImageSpec((BASE,), ("app:1",)))))
    with pytest.raises(ValueError, match=r"compression|level"):
        images.save("app:1", tmp_path / "x.tar", compression=text)
    assert os.listdir(tmp_path) == ["store"]


def test_a_dir_layout_has_skopeo_s_names(images: Images, store: LayerStore, tmp_path: Path) -> None:
    config(store, "always")
    files, index = multi_platform(AMD, ARM)
    load(images, files, all_platforms=True)
    images.save("app:1", tmp_path / "one", form="dir")
    one = files_of(tmp_path / "one")
    assert one.pop("version") == b"Directory Transport Version: 1.1\n"
    assert json.loads(one.pop("manifest.json"))["config"]["digest"] == AMD.image_id
    assert set(one) == {sha256(data)[7:] for data in (AMD.config, *AMD.packed)}
    images.save("app:1", tmp_path / "all", form="dir", all_platforms=True)
    whole = files_of(tmp_path / "all")
    assert sha256(whole["manifest.json"]) == index["digest"]
    assert sum(name.endswith(".manifest.json") for name in whole) == 4
    images.remove("app:1")
    assert len(images.load(tmp_path / "all", all_platforms=True, name="app:1")) == 2
    images.save("app:1", tmp_path / "again", form="dir", all_platforms=True)
    assert files_of(tmp_path / "again") == whole


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"form": "docker", "all_platforms": True}, "one image for a name"),
        ({"form": "docker", "referrers": True}, "no place for referrers"),
        ({"form": "dir", "referrers": True}, "no place for referrers"),
        ({"form": "dir", "images": ["app:1", "app:2"]}, "has one image, not 2"),
        ({"form": "dir", "target": io.BytesIO()}, "is a directory"),
    ],
)
def test_a_format_without_a_place_for_something_is_refused(
    images: Images, tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    images.load(io.BytesIO(docker_archive(ImageSpec((BASE,), ("app:1", "app:2")))))
    arguments: dict[str, Any] = {"images": "app:1", "target": tmp_path / "out", **options}
    with pytest.raises(ValueError, match=words):
        images.save(arguments.pop("images"), arguments.pop("target"), **arguments)
    assert os.listdir(tmp_path) == ["store"]


def test_an_archive_for_docker_lists_an_image_once_with_all_its_names(images: Images, tmp_path: Path) -> None:
    images.load(io.BytesIO(docker_archive(ImageSpec((BASE,), ("app:1", "app:2")))))
    images.save(["app:1", "app:2"], tmp_path / "x.tar", compression="gzip")
    (entry,) = json.loads(files_of(tmp_path / "x.tar")["manifest.json"])
    assert entry["RepoTags"] == ["app:1", "app:2"]


def test_the_manifest_of_a_name_does_not_depend_on_other_names(images: Images, tmp_path: Path) -> None:
    """The same image came with two manifests, under two names."""
    for name, packed in (("one:1", python_gzip(BASE)), ("two:1", BASE)):
        load(images, oci_files(ImageSpec((BASE,), (name,), (packed,))))
    images.tag("one:1", "three:1")
    saved = {}
    for name in ("one", "two", "three"):
        images.save(f"{name}:1", tmp_path / name, form="oci")
        saved[name] = entries_of(files_of(tmp_path / name))[0]["digest"]
    assert saved["one"] == saved["three"] != saved["two"]


def test_index_in_index_and_media_types_of_docker_come_back(images: Images, tmp_path: Path) -> None:
    files: Files = {}
    manifest = oci_manifest(files, AMD)
    document = json.loads(files.pop(f"blobs/{manifest['digest'].replace(':', '/')}"))
    document["mediaType"] = "application/vnd.docker.distribution.manifest.v2+json"
    document["config"]["mediaType"] = "application/vnd.docker.container.image.v1+json"
    for layer in document["layers"]:
        layer["mediaType"] = "application/vnd.docker.image.rootfs.diff.tar.gzip"
    data = json.dumps(document, indent=3).encode()
    files[blob_path(data)] = data
    docker = {"mediaType": document["mediaType"], "digest": sha256(data), "size": len(data)}
    inner = oci_index(files, [docker, attestation(files, docker)])
    outer = oci_index(files, [inner])
    load(images, write_index(files, [named(outer, "docker.io/library/app:1")]))
    images.save("app:1", tmp_path / "layout", form="oci")
    assert blobs_of(files_of(tmp_path / "layout")) == blobs_of(files)
    assert entries_of(files_of(tmp_path / "layout"))[0]["digest"] == outer["digest"]
