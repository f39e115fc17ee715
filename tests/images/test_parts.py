"""Loading a part of an archive or a layout: skipped items, chosen platforms and chosen images."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from layerstore_core import InvalidImage, LayerStore, Platform
from layerstore_core.images import Images
from tests import tars
from tests.images.archives import (
    Files,
    ImageSpec,
    descriptor,
    docker_archive,
    docker_files,
    oci_index,
    oci_manifest,
    put_json,
    sha256,
    tar_files,
    write_files,
)

BASE, MIDDLE, TOP = (tars.tar(tars.entry(name.encode(), b"1")) for name in ("base", "middle", "top"))
APP = ImageSpec((BASE, MIDDLE), ("app:1",))
TOOL = ImageSpec((BASE, TOP), ("tool:1",))
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"


def layout(files: Files, *entries: dict[str, Any]) -> io.BytesIO:
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": entries}).encode()
    return io.BytesIO(tar_files(files))


def named(entry: dict[str, Any], name: str) -> dict[str, Any]:
    return {**entry, "annotations": {**entry.get("annotations", {}), "io.containerd.image.name": name}}


def artifact(files: Files, config_type: str, layer_type: str, config: bytes = b"{}", **more: Any) -> dict[str, Any]:
    layer = json.dumps({"of": layer_type}).encode()
    for data in (config, layer):
        files[f"blobs/{sha256(data).replace(':', '/')}"] = data
    document = {
        "schemaVersion": 2,
        "config": descriptor(config, config_type),
        "layers": [descriptor(layer, layer_type)],
        **more,
    }
    return put_json(files, document, MANIFEST)


def for_platform(architecture: str, layer: bytes, variant: str = "", **extra: Any) -> ImageSpec:
    return ImageSpec(
        (layer,), extra={"architecture": architecture, **({"variant": variant} if variant else {}), **extra}
    )


def test_an_image_that_is_listed_twice_gets_all_its_names(images: Images) -> None:
    files = docker_files(APP)
    (item,) = json.loads(files["manifest.json"])
    files["manifest.json"] = json.dumps([item, {**item, "RepoTags": ["app:2"]}]).encode()
    (image,) = images.load(io.BytesIO(tar_files(files)))
    assert image.names == ("app:1", "app:2")
    assert [found.names for found in images.all()] == [("app:1", "app:2")]


def test_the_last_of_two_images_with_one_name_gets_it(images: Images) -> None:
    loaded = images.load(io.BytesIO(docker_archive(APP, ImageSpec(TOOL.layers, ("app:1",)))))
    assert [(image.names, image.image_id) for image in loaded] == [((), APP.image_id), (("app:1",), TOOL.image_id)]
    assert images.get("app:1").image_id == TOOL.image_id
    assert [(item.what, item.kind) for item in loaded.skipped] == [("app:1", "name")]


def test_save_returns_the_saved_names(images: Images, tmp_path: Path) -> None:
    images.load(io.BytesIO(docker_archive(ImageSpec(APP.layers, ("a:1", "a:2")))))
    assert [image.names for image in images.save(["a:2"], tmp_path / "x.tar")] == [("a:2",)]
    assert [image.names for image in images.save([APP.image_id], tmp_path / "y.tar")] == [()]


@pytest.mark.parametrize("in_index", [True, False])
@pytest.mark.parametrize("levels", [0, 1, 2])
@pytest.mark.parametrize(
    ("wanted", "layer"),
    [(None, MIDDLE), ("linux/amd64", MIDDLE), ("linux/arm64", BASE), ("linux/arm64/v8", BASE), ("linux/arm/v7", TOP)],
)
def test_the_platform_is_read_from_the_config_if_the_index_has_none(
    images: Images, monkeypatch: pytest.MonkeyPatch, in_index: bool, levels: int, wanted: str | None, layer: bytes
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    files: Files = {}
    entries = []
    for architecture, content, variant in (("arm64", BASE, "v8"), ("amd64", MIDDLE, ""), ("arm", TOP, "")):
        entry = oci_manifest(files, for_platform(architecture, content, variant))
        entries.append({**entry, "platform": {"os": "linux", "architecture": architecture}} if in_index else entry)
    for _ in range(levels):
        entries = [oci_index(files, entries)]
    (image,) = images.load(layout(files, *entries), platform=wanted)
    assert image.chain_id == sha256(layer)


@pytest.mark.parametrize(
    ("host", "variants", "chosen"),
    [
        ("armv7l", ["v5", "v6", "v7"], "v7"),
        ("armv7l", ["v5", "v6"], "v6"),
        ("armv6l", ["v7", "v6"], "v6"),
        ("armv6l", ["v7", "v8"], None),
        ("armv7l", ["v8", ""], ""),
    ],
)
def test_the_best_variant_is_loaded(
    images: Images, monkeypatch: pytest.MonkeyPatch, host: str, variants: list[str], chosen: str | None
) -> None:
    monkeypatch.setattr("platform.machine", lambda: host)
    files: Files = {}
    specs = {
        variant: for_platform("arm", tars.tar(tars.entry(f"v{variant}".encode())), variant) for variant in variants
    }
    archive = layout(files, oci_index(files, [oci_manifest(files, spec) for spec in specs.values()]))
    if chosen is None:
        with pytest.raises(InvalidImage, match="no image for linux/arm/v6"):
            images.load(archive)
    else:
        assert [image.image_id for image in images.load(archive)] == [specs[chosen].image_id]


def test_the_platform_of_the_config_overrides_that_of_the_index(images: Images) -> None:
    files: Files = {}
    lying = {**oci_manifest(files, for_platform("arm64", BASE)), "platform": {"os": "linux", "architecture": "amd64"}}
    with pytest.raises(InvalidImage, match="for linux/arm64, not linux/amd64"):
        images.load(layout(files, lying), platform=("linux", "amd64"))
    assert images.load(layout(files, lying), platform=Platform("linux", "arm64"))


ODD_MANIFESTS: dict[str, Any] = {
    "cosign": lambda files: artifact(
        files,
        CONFIG,
        "application/vnd.dev.cosign.simplesigning.v1+json",
        b'{"architecture":"","os":"","rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' % (b"0" * 64),
    ),
    "sbom": lambda files: artifact(
        files, "application/vnd.oci.empty.v1+json", "application/spdx+json", artifactType="application/spdx+json"
    ),
    "referrer": lambda files: artifact(
        files, CONFIG, "application/x", subject=descriptor(b"x", MANIFEST), artifactType="application/x"
    ),
    "chart": lambda files: artifact(
        files, "application/vnd.cncf.helm.config.v1+json", "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
    ),
    "in-toto": lambda files: artifact(
        files, CONFIG, "application/vnd.in-toto+json", b'{"os":"unknown","rootfs":{"diff_ids":[]}}'
    ),
    "old artifact": lambda files: put_json(
        files, {"mediaType": "application/vnd.oci.artifact.manifest.v1+json", "blobs": []}, ""
    ),
    "attestation": lambda files: {
        **artifact(files, CONFIG, "application/x"),
        "platform": {"os": "unknown", "architecture": "unknown"},
    },
    "marked": lambda files: {
        **artifact(files, CONFIG, "application/x"),
        "annotations": {"vnd.docker.reference.type": "attestation-manifest"},
    },
    "unknown type": lambda files: descriptor(b"never there", "application/vnd.example.thing"),
    "unknown inside": lambda files: put_json(files, {"mediaType": "application/vnd.example.thing"}, ""),
    "schema 1": lambda files: put_json(files, {"schemaVersion": 1, "fsLayers": []}, ""),
    "no digest": lambda files: {"mediaType": MANIFEST, "digest": "md5:1", "size": 1},
    "no object": lambda files: 7,
    "no manifest": lambda files: descriptor(b"gone", MANIFEST),
    "no JSON": lambda files: _raw(files, b"{"),
    "deep JSON": lambda files: _raw(files, b"[" * 200_000),
    "windows": lambda files: oci_manifest(files, for_platform("amd64", BASE, os="windows")),
    "windows in the index": lambda files: {
        **descriptor(b"gone", MANIFEST),
        "platform": {"os": "windows", "architecture": "amd64", "os.version": "10.0"},
    },
    "artifact index": lambda files: put_json(
        files, {"manifests": [], "artifactType": "application/x"}, "application/vnd.oci.image.index.v1+json"
    ),
}


def _raw(files: Files, data: bytes) -> dict[str, Any]:
    files[f"blobs/{sha256(data).replace(':', '/')}"] = data
    return descriptor(data, MANIFEST)


@pytest.mark.parametrize("kind", ODD_MANIFESTS)
@pytest.mark.parametrize("nested", [False, True])
def test_an_item_that_is_no_image_is_skipped(images: Images, store: LayerStore, kind: str, nested: bool) -> None:
    files: Files = {}
    entries = [ODD_MANIFESTS[kind](files), named(oci_manifest(files, APP), "app:1")]
    if nested:
        entries = [named(oci_index(files, entries), "app:1")]
    loaded = images.load(layout(files, *entries))
    assert [(image.image_id, image.names) for image in loaded] == [(APP.image_id, ("app:1",))]
    (item,) = loaded.skipped
    assert item.kind in ("artifact", "attestation", "platform", "unknown-type", "invalid")
    assert item.reason and item.what
    alone: Files = {}
    with pytest.raises(InvalidImage):
        images.load(layout(alone, ODD_MANIFESTS[kind](alone)))


def test_the_error_says_that_a_layout_has_only_artifacts(images: Images) -> None:
    files: Files = {}
    odd = [ODD_MANIFESTS[kind](files) for kind in ("sbom", "chart")]
    with pytest.raises(InvalidImage, match=r"an artifact, not an image: application/spdx\+json"):
        images.load(layout(files, *odd))


def missing_layer(files: Files) -> None:
    del files[f"{sha256(TOP)[7:]}/layer.tar"]


def damaged_layer(files: Files) -> None:
    files[f"{sha256(TOP)[7:]}/layer.tar"] = MIDDLE


def missing_config(files: Files) -> None:
    del files[f"{TOOL.image_id[7:]}.json"]


def other_system(files: Files) -> None:
    name = f"{TOOL.image_id[7:]}.json"
    files[name] = files[name].replace(b'"linux"', b'"windows"')


def no_list_of_layers(files: Files) -> None:
    edit_second(files, Layers=7)


def no_object(files: Files) -> None:
    files["manifest.json"] = json.dumps([json.loads(files["manifest.json"])[0], 7]).encode()


def edit_second(files: Files, **changes: Any) -> None:
    document = json.loads(files["manifest.json"])
    document[1].update(changes)
    files["manifest.json"] = json.dumps(document).encode()


@pytest.mark.parametrize(
    "spoil", [missing_layer, damaged_layer, missing_config, other_system, no_list_of_layers, no_object]
)
def test_an_image_that_cannot_be_loaded_is_skipped(images: Images, spoil: Any) -> None:
    files = docker_files(APP, TOOL)
    spoil(files)
    loaded = images.load(io.BytesIO(tar_files(files)))
    assert [image.image_id for image in loaded] == [image.image_id for image in images.all()] == [APP.image_id]
    assert [item.kind for item in loaded.skipped] == ["platform" if spoil is other_system else "invalid"]
    with pytest.raises(InvalidImage):
        images.load(io.BytesIO(tar_files(files)), wanted=["app:1", "tool:1"])


def test_invalid_names_are_skipped(images: Images) -> None:
    files = docker_files(APP)
    document = json.loads(files["manifest.json"])
    document[0]["RepoTags"] = ["A B", "app:1", "\ud800\x9b"]
    files["manifest.json"] = json.dumps(document).encode()
    loaded = images.load(io.BytesIO(tar_files(files)))
    assert loaded[0].names == ("app:1",)
    assert [item.kind for item in loaded.skipped] == ["name", "name"]


@pytest.mark.parametrize("tags", [["app:1", 5, None, ["x"]], ["\udc9b", "app:1"]])
def test_names_that_are_not_text_are_skipped(images: Images, tags: list[Any]) -> None:
    files = docker_files(APP)
    (item,) = json.loads(files["manifest.json"])
    files["manifest.json"] = json.dumps([{**item, "RepoTags": tags}]).encode()
    loaded = images.load(io.BytesIO(tar_files(files)))
    assert [image.names for image in loaded] == [("app:1",)]
    assert {item.kind for item in loaded.skipped} == {"name"}
    assert len(loaded.skipped) == len(tags) - 1


def test_names_that_are_not_a_list_are_skipped(images: Images) -> None:
    files = docker_files(APP)
    (item,) = json.loads(files["manifest.json"])
    files["manifest.json"] = json.dumps([{**item, "RepoTags": {"a": 1}}]).encode()
    loaded = images.load(io.BytesIO(tar_files(files)))
    assert ([image.image_id for image in loaded], len(loaded.skipped)) == ([APP.image_id], 1)


def test_an_image_with_two_equal_entries_is_not_listed_as_skipped(images: Images) -> None:
    files: Files = {}
    entry = named(oci_manifest(files, APP), "app:1")
    loaded = images.load(layout(files, entry, entry))
    assert ([image.image_id for image in loaded], loaded.skipped) == ([APP.image_id], ())


@pytest.mark.parametrize("spoilt", ["manifest.json", "index.json"])
@pytest.mark.parametrize("content", [b"junk", b"[]", b'[{"Config": "nope", "RepoTags": ["app:1"]}]', b"5"])
@pytest.mark.parametrize(
    "asked", [{}, {"platform": "linux/amd64"}, {"wanted": "app:1"}], ids=["nothing", "platform", "image"]
)
def test_one_of_two_lists_of_images_may_be_damaged(
    images: Images, spoilt: str, content: bytes, asked: dict[str, Any]
) -> None:
    files = docker_files(APP)
    files["index.json"] = json.dumps({"manifests": [named(oci_manifest(files, APP), "app:1")]}).encode()
    files[spoilt] = content
    (image,) = images.load(io.BytesIO(tar_files(files)), **asked)
    assert (image.image_id, image.names) == (APP.image_id, ("app:1",))


def test_an_image_that_is_its_own_ancestor_has_no_parent(images: Images, store: LayerStore) -> None:
    files = docker_files(APP, TOOL)
    document = json.loads(files["manifest.json"])
    document[0]["Parent"], document[1]["Parent"] = TOOL.image_id, APP.image_id
    files["manifest.json"] = json.dumps(document).encode()
    loaded = images.load(io.BytesIO(tar_files(files)))
    assert [item.kind for item in loaded.skipped] == ["parent"]
    assert sorted(filter(None, (store.context.image_db.parent(image.image_id) for image in loaded))) in (
        [APP.image_id],
        [TOOL.image_id],
    )


@pytest.mark.parametrize("rename", ["x/{}", "./{}", "/{}", "{}.json"])
def test_any_names_of_members_are_accepted(images: Images, rename: str) -> None:
    config, layer = rename.format("0" * 64), rename.format("f" * 64)
    files = {
        config: APP.config,
        layer: BASE,
        layer + "2": MIDDLE,
        "./manifest.json": json.dumps(
            [{"Config": config, "RepoTags": ["app:1"], "Layers": [layer, layer + "2"]}]
        ).encode(),
    }
    (image,) = images.load(io.BytesIO(tar_files(files)))
    assert (image.image_id, image.names) == (APP.image_id, ("app:1",))


def both(files: Files) -> io.BytesIO:
    return layout(
        files, named(oci_manifest(files, APP), "app:1"), {**oci_manifest(files, TOOL), "annotations": {REF: "tool"}}
    )


REF = "org.opencontainers.image.ref.name"


@pytest.mark.parametrize("form", ["docker", "oci"])
@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (["app:1"], [APP]),
        (["docker.io/library/app:1"], [APP]),
        ([APP.image_id], [APP]),
        ([APP.image_id[7:19]], [APP]),
        (["app:1", TOOL.image_id[:17]], [APP, TOOL]),
    ],
)
def test_load_of_wanted_images(images: Images, form: str, wanted: list[str], found: Sequence[ImageSpec]) -> None:
    archive = io.BytesIO(docker_archive(APP, TOOL)) if form == "docker" else both({})
    loaded = images.load(archive, wanted=wanted)
    assert [image.image_id for image in loaded] == [spec.image_id for spec in found]
    assert not loaded.skipped


def test_an_image_wanted_by_a_name_gets_only_this_name(images: Images) -> None:
    archive = docker_archive(ImageSpec(APP.layers, ("a:1", "a:2")), TOOL)
    assert [image.names for image in images.load(io.BytesIO(archive), wanted="a:2")] == [("a:2",)]


def test_an_image_may_be_wanted_by_its_annotation(images: Images) -> None:
    assert [image.image_id for image in images.load(both({}), wanted=["tool"])] == [TOOL.image_id]


def test_a_missing_wanted_image_is_an_error_and_nothing_is_loaded(images: Images, store: LayerStore) -> None:
    with pytest.raises(InvalidImage, match=r"there is no image 'other:1'; there are: app:1, tool:1"):
        images.load(io.BytesIO(docker_archive(APP, TOOL)), wanted=["app:1", "other:1"])
    assert not images.all()


def test_an_image_for_another_platform_is_loaded_by_its_digest(images: Images) -> None:
    files: Files = {}
    specs = [for_platform(architecture, BASE) for architecture in ("amd64", "s390x")]
    entries = [oci_manifest(files, spec) for spec in specs]
    index = oci_index(files, entries)
    signature = artifact(files, CONFIG, "application/x")
    (image,) = images.load(layout(files, index, signature), wanted=entries[1]["digest"])
    assert image.image_id == specs[1].image_id
    (image,) = images.load(layout(files, index, signature), wanted=index["digest"], platform="amd64")
    assert image.image_id == specs[0].image_id
    with pytest.raises(InvalidImage, match="an artifact, not an image"):
        images.load(layout(files, index, signature), wanted=signature["digest"])


@pytest.mark.parametrize("several", [False, True])
def test_load_of_a_dir_layout_of_skopeo(images: Images, tmp_path: Path, several: bool) -> None:
    files: Files = {}
    entry = oci_manifest(files, APP)
    if several:
        entry = oci_index(files, [{**entry, "platform": {"os": "linux", "architecture": "amd64"}}])
    top = f"blobs/{entry['digest'].replace(':', '/')}"
    out: Files = {"version": b"Directory Transport Version: 1.1\n", "manifest.json": files.pop(top)}
    for path, data in files.items():
        out[path.rpartition("/")[2] + (".manifest.json" if b'"layers"' in data[:1000] else "")] = data
    write_files(tmp_path / "d", out)
    (image,) = images.load(tmp_path / "d", platform="amd64")
    assert image.image_id == APP.image_id
    (image,) = images.load(io.BytesIO(tar_files(out)), name="other:1")
    assert image.names == ("other:1",)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"manifest.json": b"[" + b"7," * 20_000 + b"7]"}, "at most 10000"),
        ({"index.json": b'{"manifests":[' + b"7," * 20_000 + b"7]}"}, "more than 10000 manifests"),
        ({"manifest.json": b'[{"RepoTags":[' + b'"a",' * 20_000 + b'"a"]}]'}, "more than 10000 names"),
        ({"index.json": b'{"x":[' + b"{}," * 1_000_001 + b"7]}"}, "values together"),
        ({"manifest.json": b"[" * 1_000_000}, "nested too deep"),
    ],
)
def test_the_size_of_documents_is_limited(images: Images, files: Files, words: str) -> None:
    with pytest.raises(InvalidImage, match=words):
        images.load(io.BytesIO(tar_files(files)))


def test_repeated_nested_indexes_are_limited(images: Images) -> None:
    files: Files = {}
    entry = oci_manifest(files, APP)
    for _ in range(7):
        entry = oci_index(files, [entry] * 10)
    with pytest.raises(InvalidImage, match=r"more than 10000 manifests|MiB together|values together"):
        images.load(layout(files, entry))


def test_the_size_of_all_documents_together_is_limited(images: Images) -> None:
    files: Files = {}
    padding = b" " * (7 << 20)
    items = []
    for number in range(12):
        files[f"{number}"] = json.dumps({"rootfs": {}, "n": number}).encode() + padding
        items.append({"Config": f"{number}", "Layers": []})
    files["manifest.json"] = json.dumps(items).encode()
    with pytest.raises(InvalidImage, match="64 MiB together"):
        images.load(io.BytesIO(tar_files(files)))
