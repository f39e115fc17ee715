"""Loading images: every format and compression, and bad archives that leave nothing."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from layerstore_core import LayerStore
from layerstore_core.errors import InvalidImage, InvalidReference
from layerstore_core.images import Images
from layerstore_core.images.formats.documents import MAX_MANIFEST
from layerstore_core.images.formats.platforms import Platform
from layerstore_core.images.transfer import load as loading
from layerstore_core.records.imagedb import ImageDB
from tests import tars
from tests.images.archives import (
    Files,
    ImageSpec,
    blob_path,
    descriptor,
    docker_archive,
    docker_files,
    oci_files,
    oci_index,
    oci_manifest,
    put_json,
    sha256,
    tar_files,
    write_files,
)
from tests.store.layers import BASE, MIDDLE, TOP, names_of, tree, warm

APP = ImageSpec((BASE, MIDDLE, TOP), ("example/app:1", "app:latest"))
TOOL = ImageSpec((BASE, TOP), ("tool:2",))
EMPTY = ImageSpec((), ("empty:1",))


def zstd(data: bytes) -> bytes:
    try:
        from compression import zstd as module
    except ImportError:
        from backports import zstd as module
    return module.compress(data)


def packed(image: ImageSpec, compress: Callable[[bytes], bytes]) -> ImageSpec:
    return ImageSpec(image.layers, image.names, tuple(map(compress, image.layers)))


def as_directory(files: Files, where: Path) -> str:
    return str(write_files(where / "layout", files))


def as_tar(files: Files, where: Path) -> str:
    (where / "image.tar").write_bytes(tar_files(files))
    return str(where / "image.tar")


def as_stream(files: Files, where: Path) -> io.BytesIO:
    return io.BytesIO(tar_files(files))


def test_load_of_two_images_with_a_common_layer(images: Images, store: LayerStore) -> None:
    app, tool = images.load(io.BytesIO(docker_archive(APP, TOOL)))
    assert (app.image_id, app.names) == (APP.image_id, ("app:latest", "example/app:1"))
    assert (tool.image_id, tool.names) == (TOOL.image_id, ("tool:2",))
    assert app.config.data == APP.config
    assert sorted(store.layers()) == sorted({*names_of(*APP.layers), *names_of(*TOOL.layers)})
    for image in (app, tool):
        with store.get(image.chain_id or "") as top:
            assert image.size == top.size
            assert store.holders(top.chain_id) == [f"image {image.image_id}", "1 open handle(s)"]
    # The records are Docker's: names are written as Docker writes them.
    path = store.root / "image/vfs/repositories.json"
    assert json.loads(path.read_bytes())["Repositories"]["example/app"] == {"example/app:1": APP.image_id}
    assert path.stat().st_mode & 0o777 == 0o600
    assert (store.root / f"image/vfs/imagedb/content/sha256/{APP.image_id[7:]}").read_bytes() == APP.config


@pytest.mark.parametrize("files_of", [docker_files, oci_files])
@pytest.mark.parametrize("packing", [None, gzip.compress, zstd])
@pytest.mark.parametrize("form", [as_directory, as_tar, as_stream])
def test_every_format_and_compression_gives_the_same_image(
    images: Images, store: LayerStore, tmp_path: Path, files_of: Any, packing: Any, form: Any
) -> None:
    image = packed(APP, packing) if packing else APP
    (loaded,) = images.load(form(files_of(image), tmp_path))
    assert (loaded.image_id, loaded.chain_ids) == (APP.image_id, names_of(*APP.layers))
    assert sorted(loaded.names) == sorted(str(name) for name in ("example/app:1", "app:latest"))
    if packing and files_of is oci_files:
        with store.get(loaded.chain_ids[0]) as layer:
            assert dict(layer.descriptor or {})["digest"] == sha256(image.packed[0])
        record = store.root / "image/vfs/distribution/diffid-by-digest/sha256" / sha256(image.packed[0])[7:]
        assert record.read_text() == sha256(BASE)


def test_the_layers_of_a_loaded_image_are_not_read_again(images: Images, store: LayerStore) -> None:
    images.load(io.BytesIO(docker_archive(APP)))
    before = tree(store.root)
    broken = ImageSpec(APP.layers, APP.names, (b"", b"", b""))
    images.load(io.BytesIO(docker_archive(APP)))
    after = tree(store.root)
    ignored = f"image/vfs/imagedb/metadata/sha256/{APP.image_id[7:]}/lastUpdated"
    assert {key: value for key, value in after.items() if key != ignored} == {
        key: value for key, value in before.items() if key != ignored
    }
    assert images.load(io.BytesIO(tar_files(oci_files(broken)))) == images.all()


def test_load_of_an_image_without_layers(images: Images, store: LayerStore) -> None:
    (image,) = images.load(io.BytesIO(docker_archive(EMPTY)))
    assert (image.size, image.chain_id, store.layers()) == (0, None, {})
    assert images.remove("empty:1").deleted == [EMPTY.image_id]


def test_load_of_layers_that_are_links_as_in_old_archives(images: Images) -> None:
    image = ImageSpec((BASE, MIDDLE, BASE), ("twice:1",))
    manifest = [
        {"Config": "config.json", "RepoTags": ["twice:1"], "Layers": ["1/layer.tar", "2/layer.tar", "3/layer.tar"]}
    ]
    archive = tars.tar(
        tars.entry(b"1/layer.tar", BASE),
        tars.entry(b"2/layer.tar", MIDDLE),
        tars.symlink(b"3/layer.tar", b"../1/layer.tar"),
        tars.entry(b"config.json", image.config),
        tars.entry(b"manifest.json", json.dumps(manifest).encode()),
    )
    (loaded,) = images.load(io.BytesIO(archive))
    assert loaded.chain_ids == names_of(BASE, MIDDLE, BASE)


def test_a_name_moves_to_the_image_that_is_loaded_last(images: Images) -> None:
    images.load(io.BytesIO(docker_archive(ImageSpec((BASE,), ("a:1", "a:2")))))
    images.load(io.BytesIO(docker_archive(ImageSpec((MIDDLE,), ("a:1",)))))
    assert [(image.names, image.chain_id) for image in images.all()] == [
        (("a:1",), sha256(MIDDLE)),
        (("a:2",), sha256(BASE)),
    ]


def test_load_with_another_name(images: Images) -> None:
    (image,) = images.load(io.BytesIO(docker_archive(APP)), name="mine")
    assert image.names == ("mine:latest",)
    with pytest.raises(InvalidImage, match="2 images"):
        images.load(io.BytesIO(docker_archive(APP, TOOL)), name="mine")
    with pytest.raises(InvalidReference):
        images.load(io.BytesIO(docker_archive(APP)), name="No Name")


@pytest.mark.parametrize(
    ("annotations", "names"),
    [
        ({"org.opencontainers.image.ref.name": "example.com/a/b:3"}, ("example.com/a/b:3",)),
        ({"org.opencontainers.image.ref.name": "latest"}, ()),
        ({"org.opencontainers.image.ref.name": "any/thing+else:x"}, ()),
        ({"org.opencontainers.image.ref.name": "3", "io.containerd.image.name": "docker.io/a/b:3"}, ("a/b:3",)),
        ({"org.opencontainers.image.ref.name": "4", "io.containerd.image.name": "docker.io/a/b:3"}, ("a/b:4",)),
        ({"org.opencontainers.image.ref.name": "x/y", "io.containerd.image.name": "docker.io/a/b:3"}, ("a/b:3",)),
        ({"org.opencontainers.image.ref.name": "+4", "io.containerd.image.name": "docker.io/a/b:3"}, ("a/b:3",)),
    ],
)
def test_names_are_read_from_annotations_of_a_layout(
    images: Images, annotations: dict[str, str], names: tuple[str, ...]
) -> None:
    files: Files = {}
    entry = {**oci_manifest(files, APP), "annotations": annotations}
    files["index.json"] = json.dumps({"manifests": [entry]}).encode()
    assert images.load(io.BytesIO(tar_files(files)))[0].names == names


def several_platforms(nested: bool) -> Files:
    files: Files = {}
    entries = []
    for architecture, variant, layer in (("amd64", "", BASE), ("arm", "v6", MIDDLE), ("arm", "v7", TOP)):
        image = ImageSpec((layer,), extra={"architecture": architecture, **({"variant": variant} if variant else {})})
        platform = {"os": "linux", "architecture": architecture, **({"variant": variant} if variant else {})}
        entries.append({**oci_manifest(files, image), "platform": platform})
    attestation = put_json(files, {"schemaVersion": 2, "layers": []}, "application/vnd.oci.image.manifest.v1+json")
    attestation["platform"] = {"os": "unknown", "architecture": "unknown"}
    attestation["annotations"] = {"vnd.docker.reference.type": "attestation-manifest"}
    outer = [*entries, attestation]
    for _ in range(2 if nested else 0):
        outer = [oci_index(files, outer)]
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": outer}).encode()
    return files


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(
    ("platform", "layer"),
    [("linux/amd64", BASE), ("amd64", BASE), ("linux/arm/v7", TOP), ("arm/v6", None), ("x86_64", BASE)],
)
def test_load_chooses_the_image_for_a_platform(
    images: Images, nested: bool, platform: str, layer: bytes | None
) -> None:
    archive = io.BytesIO(tar_files(several_platforms(nested)))
    if layer is None:  # "arm/v6" means the operating system "arm"
        with pytest.raises(InvalidImage, match="no image for arm/v6"):
            images.load(archive, platform=Platform.parse(platform))
        return
    (image,) = images.load(archive, platform=Platform.parse(platform))
    assert image.chain_id == sha256(layer)


def test_the_platform_of_this_host_is_the_default(images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "armv7l")
    (image,) = images.load(io.BytesIO(tar_files(several_platforms(nested=True))))
    assert image.chain_id == sha256(TOP)  # the image for v6 would run too, but fits less well
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(InvalidImage, match=r"there are: linux/amd64, linux/arm/v6, linux/arm/v7"):
        images.load(io.BytesIO(tar_files(several_platforms(nested=True))))


def test_an_image_for_another_platform_than_the_given_one_is_refused(images: Images) -> None:
    with pytest.raises(InvalidImage, match="is for linux/amd64, not linux/arm64"):
        images.load(io.BytesIO(docker_archive(APP)), platform=Platform.parse("arm64"))


def edit(files: Files, path: str, **changes: Any) -> None:
    document = json.loads(files[path])
    (document[0] if isinstance(document, list) else document).update(changes)
    files[path] = json.dumps(document).encode()


def manifest_of(files: Files) -> tuple[str, dict[str, Any]]:
    entry = json.loads(files["index.json"])["manifests"][0]
    path = f"blobs/{entry['digest'].replace(':', '/')}"
    return path, json.loads(files[path])


def replace_manifest(files: Files, manifest: dict[str, Any]) -> None:
    files["index.json"] = json.dumps(
        {"manifests": [put_json(files, manifest, "application/vnd.oci.image.manifest.v1+json")]}
    ).encode()


def no_docker_layer(files: Files) -> None:
    files.pop(next(name for name in files if name.endswith("layer.tar")))


def no_config(files: Files) -> None:
    files.pop(next(name for name in files if name.endswith(".json") and name != "manifest.json"))


def damaged_config(files: Files) -> None:
    name = next(name for name in files if name.endswith(".json") and name != "manifest.json")
    files[name] = files[name][:-1]


def too_few_layers(files: Files) -> None:
    edit(files, "manifest.json", Layers=json.loads(files["manifest.json"])[0]["Layers"][:-1])


def other_layer(files: Files) -> None:
    files[f"{sha256(MIDDLE)[7:]}/layer.tar"] = TOP


def layer_that_is_no_tar(files: Files) -> None:
    files[f"{sha256(MIDDLE)[7:]}/layer.tar"] = b"no tar" * 1000


def huge_manifest(files: Files) -> None:
    files["manifest.json"] = b" " * (MAX_MANIFEST + 1)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (no_docker_layer, "missing"),
        (no_config, "missing"),
        (damaged_config, "not JSON"),
        (too_few_layers, "has 2 layers, but its config names 3"),
        (other_layer, f"layer 2 of 3 .*{sha256(TOP)}, not {sha256(MIDDLE)}"),
        (layer_that_is_no_tar, "layer 2 of 3 .*not a tar"),
        (huge_manifest, "bytes long"),
        (lambda files: files.update({"manifest.json": b"{"}), "not JSON"),
        (lambda files: files.update({"manifest.json": b"[" * 100_000}), "not JSON"),
        (lambda files: files.update({"manifest.json": b"[]"}), "contains no image"),
        (lambda files: files.update({"manifest.json": b"[1]"}), "not an object"),
        (lambda files: files.update({"manifest.json": b"{}"}), "no list of layers"),
        (lambda files: files.update({"manifest.json": b"7"}), "not a list of images"),
        (lambda files: edit(files, "manifest.json", Layers="x"), "not a list of strings"),
        (lambda files: edit(files, "manifest.json", Config=1), "no Config"),
        (lambda files: edit(files, "manifest.json", Config="../../etc/passwd"), "leads out"),
        (lambda files: edit(files, "manifest.json", Layers=["/etc/passwd"] * 3), "etc/passwd is missing"),
        (lambda files: edit(files, "manifest.json", Layers=["../../etc/passwd"] * 3), "leads out"),
        (lambda files: edit(files, "manifest.json", Layers=["\ud800"] * 3), "cannot be the name of a file"),
        (lambda files: edit(files, "manifest.json", Layers=["n" * 5000] * 3), "cannot be the name of a file"),
        (lambda files: files.pop("manifest.json"), "no image"),
        (lambda files: files.update({"repositories": files.pop("manifest.json")}), "before Docker 1.10"),
    ],
)
def test_a_bad_docker_archive_leaves_nothing(images: Images, store: LayerStore, spoil: Any, words: str) -> None:
    check_refused(images, store, docker_files(APP), spoil, words)


def changed_blob(files: Files) -> None:
    path = blob_path(gzip.compress(MIDDLE, mtime=0))
    files[path] = gzip.compress(MIDDLE + bytes(512), mtime=0)[: len(files[path])].ljust(len(files[path]), b"\0")


def recompressed_blob(files: Files) -> None:
    """Compress the same tar to another gzip stream of the same length: only the blob's digest differs."""
    path = blob_path(gzip.compress(MIDDLE, mtime=0))
    files[path] = gzip.compress(MIDDLE, mtime=1)


def other_size(files: Files) -> None:
    files[blob_path(gzip.compress(MIDDLE, mtime=0))] += b"\0"


def changed_manifest(files: Files) -> None:
    path, _ = manifest_of(files)
    files[path] = files[path].replace(b'"schemaVersion": 2', b'"schemaVersion": 3')


def odd_digest(files: Files) -> None:
    _, manifest = manifest_of(files)
    manifest["layers"][0]["digest"] = "sha256:../../../../etc/passwd"
    replace_manifest(files, manifest)


def negative_size(files: Files) -> None:
    _, manifest = manifest_of(files)
    manifest["layers"][0]["size"] = -1
    replace_manifest(files, manifest)


def no_layers(files: Files) -> None:
    _, manifest = manifest_of(files)
    del manifest["layers"]
    replace_manifest(files, manifest)


def encrypted(files: Files) -> None:
    _, manifest = manifest_of(files)
    manifest["layers"][0]["mediaType"] += "+encrypted"
    replace_manifest(files, manifest)


def not_an_image(files: Files) -> None:
    _, manifest = manifest_of(files)
    manifest["config"] = put_json(files, {"some": "artifact"}, "application/vnd.example")
    replace_manifest(files, manifest)


def windows(files: Files) -> None:
    _, manifest = manifest_of(files)
    config = json.loads(APP.config)
    manifest["config"] = put_json(files, {**config, "os": "windows"}, "application/vnd.oci.image.config.v1+json")
    replace_manifest(files, manifest)


def deep_indexes(files: Files) -> None:
    entries = json.loads(files["index.json"])["manifests"][:1]
    for _ in range(20):
        entries = [oci_index(files, entries)]
    files["index.json"] = json.dumps({"manifests": entries}).encode()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (changed_blob, "layer 2 of 3"),
        (recompressed_blob, "layer 2 of 3 .*blob is damaged"),
        (other_size, "bytes, not"),
        (changed_manifest, "damaged"),
        (odd_digest, "digest"),
        (negative_size, "no size"),
        (no_layers, "no list of layers"),
        (encrypted, "encrypted"),
        (not_an_image, "an artifact, not an image"),
        (windows, "another operating system"),
        (deep_indexes, "nested"),
        (lambda files: files.update({"index.json": b"[]"}), "not a JSON object"),
        (lambda files: files.update({"index.json": b"{}"}), "no list of manifests"),
        (lambda files: files.update({"index.json": b'{"manifests":[]}'}), "no image"),
        (lambda files: files.update({"index.json": b'{"manifests":[7]}'}), "not an object"),
    ],
)
def test_a_bad_layout_leaves_nothing(images: Images, store: LayerStore, spoil: Any, words: str) -> None:
    image = packed(APP, lambda layer: gzip.compress(layer, mtime=0))
    check_refused(images, store, oci_files(image), spoil, words)


def check_refused(images: Images, store: LayerStore, files: Files, spoil: Any, words: str) -> None:
    warm(store)
    store.context.scratch_directory()
    before = tree(store.root)
    descriptors = os.listdir("/proc/self/fd")
    spoil(files)
    with pytest.raises(InvalidImage, match=words):
        images.load(io.BytesIO(tar_files(files)))
    assert tree(store.root) == before
    assert len(os.listdir("/proc/self/fd")) == len(descriptors)


def test_a_load_that_fails_keeps_layers_with_other_references(images: Images, store: LayerStore) -> None:
    with store.register(io.BytesIO(BASE)) as base:
        with pytest.raises(InvalidImage):
            images.load(io.BytesIO(docker_archive(ImageSpec(APP.layers, (), (BASE, TOP, TOP)))))
        assert list(store.layers()) == [base.chain_id]
    images.load(io.BytesIO(docker_archive(ImageSpec((BASE,), ("kept:1",)))))
    bad, worse = ImageSpec((BASE, MIDDLE), ("bad:1",), (BASE, TOP)), ImageSpec((BASE, TOP), ("worse:1",), (BASE, BASE))
    with pytest.raises(InvalidImage, match=r"no image in it can be loaded: bad:1.*; worse:1"):
        images.load(io.BytesIO(docker_archive(bad, worse)))
    assert [image.names for image in images.all()] == [("kept:1",)]
    assert list(store.layers()) == [sha256(BASE)]


def test_load_accepts_sha512_digests(images: Images) -> None:
    blob = gzip.compress(BASE)
    files: Files = {}
    image = ImageSpec((BASE,))
    digest = hashlib.sha512(blob).hexdigest()
    files[f"blobs/sha512/{digest}"] = blob
    files[blob_path(image.config)] = image.config
    manifest = {
        "config": descriptor(image.config, ""),
        "layers": [{"mediaType": "", "digest": f"sha512:{digest}", "size": len(blob)}],
    }
    files["index.json"] = json.dumps({"manifests": [put_json(files, manifest, "")]}).encode()
    assert images.load(io.BytesIO(tar_files(files)))[0].chain_id == sha256(BASE)


def test_progress_is_reported_for_each_layer(images: Images) -> None:
    reports: dict[str, list[int]] = {}

    def begin(name: str, size: int) -> Callable[[int, int], None]:
        reports[name] = [size]
        return lambda read, entries: reports[name].append(read)

    images.load(io.BytesIO(docker_archive(TOOL)), progress=begin)
    assert [name.split(" (")[0] for name in reports] == ["layer 1 of 2", "layer 2 of 2"]
    assert all(counts[0] == counts[-1] for counts in reports.values())


def test_load_returns_images_that_another_process_removes_at_once(
    images: Images, store: LayerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result is the loaded images, and not those that still exist."""
    real = loading.load

    def load(*args: Any, **kwargs: Any) -> Any:
        loaded = real(*args, **kwargs)
        Images(store).remove(["tool:2", *map(str, APP.names)])
        return loaded

    monkeypatch.setattr(loading, "load", load)
    loaded = images.load(io.BytesIO(docker_archive(APP, TOOL)))
    assert [image.image_id for image in loaded] == [APP.image_id, TOOL.image_id]
    assert [image.size for image in loaded] == [None, None]
    assert store.layers() == {}


def test_a_load_does_not_fail_if_blobs_cannot_be_recorded(
    images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The images are recorded already: an error would mean that the store is unchanged."""

    calls = []

    def record_blob(*_: object) -> None:
        calls.append(1)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(ImageDB, "record_blob", record_blob)
    source = write_files(tmp_path / "layout", oci_files(packed(APP, gzip.compress)))
    assert [image.image_id for image in images.load(source)] == [APP.image_id]
    assert calls == [1]
    assert [image.image_id for image in images.all()] == [APP.image_id]


def test_a_reserved_name_is_refused_but_an_archive_may_bring_it(images: Images, tmp_path: Path) -> None:
    """As with Docker: `docker tag` refuses the name, and `docker load` takes it."""
    (tmp_path / "image.tar").write_bytes(docker_archive(ImageSpec((BASE,), ("scratch:latest",))))
    with pytest.raises(InvalidReference, match="'scratch:latest' is reserved"):
        images.load(tmp_path / "image.tar", name="scratch")
    assert images.all() == []
    assert [image.names for image in images.load(tmp_path / "image.tar")] == [("scratch:latest",)]
