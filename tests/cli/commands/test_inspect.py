"""`layerstore inspect`: an image's config, platform, names and layers, or a chain of layers."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Run, tar_of
from tests.images.archives import ImageSpec, docker_archive, oci_files, write_files

LAYERS = (tar_of({"hosts": b"127.0.0.1\n"}), tar_of({"new": b"y" * 300}))
CONFIG = {
    "Env": ["PATH=/bin", "A=tab\there"],
    "Cmd": ["/bin/sh", "-c", "echo a b"],
    "Labels": {"org.example.version": "1", "evil": "\x1b[31m"},
    "ExposedPorts": {"80/tcp": {}},
    "User": "nobody",
    "Volumes": None,
}
APP = ImageSpec(LAYERS, ("app:1", "app:2"), extra={"config": CONFIG, "author": "A. Uthor"})


@pytest.fixture
def loaded(run: Run, tmp_path: Path) -> None:
    (tmp_path / "app.tar").write_bytes(docker_archive(APP))
    run("load", tmp_path / "app.tar")


@pytest.mark.usefixtures("loaded")
def test_raw_prints_the_bytes_of_the_config(run: Run) -> None:
    printed = run("inspect", "app:1", "--raw").stdout
    assert printed == APP.config
    assert "sha256:" + hashlib.sha256(printed).hexdigest() == APP.image_id
    assert "--json" in run("inspect", "app:1", "--raw", "--json", code=2).stderr


@pytest.mark.usefixtures("loaded")
def test_the_document_describes_image_and_layers(run: Run) -> None:
    document = run("inspect", APP.image_id[7:15], "--json").json
    assert document["id"] == APP.image_id
    assert document["names"] == ["app:1", "app:2"]
    assert document["platform"] == "linux/amd64"
    assert document["created"] == "2024-05-06T07:08:09.123456789Z"
    assert document["config"] == json.loads(APP.config)
    assert [layer["diff_size"] for layer in document["layers"]] == [10, 300]
    assert document["size"] == 310
    assert document["layers"][-1]["chain_id"] == document["chain_id"]
    assert [layer["diff_id"] for layer in document["layers"]] == document["config"]["rootfs"]["diff_ids"]


@pytest.mark.usefixtures("loaded")
def test_people_see_the_config_in_lines_without_control_characters(run: Run) -> None:
    text = run("inspect", "app:1").text
    lines = [line.strip() for line in text.splitlines()]
    assert "Platform:    linux/amd64" in lines
    assert "Author:      A. Uthor" in lines
    assert 'Cmd: ["/bin/sh", "-c", "echo a b"]' in lines
    assert lines[lines.index("Env:") + 1 :][:2] == ["PATH=/bin", "A=tab\\there"]
    assert "org.example.version=1" in lines and "evil=\\x1b[31m" in lines
    assert "80/tcp" in lines and "User: nobody" in lines
    assert not any("Volumes" in line for line in lines)
    assert lines[-1].endswith("300 B") and lines[-2].endswith("10 B")


@pytest.mark.usefixtures("loaded")
def test_a_chain_of_layers_has_no_config(run: Run) -> None:
    base, top = (layer["chain_id"] for layer in run("ls", "--json").json["layers"])
    document = run("inspect", top, "--json").json
    assert [layer["chain_id"] for layer in document["layers"]] == [base, top]
    assert (document["id"], document["config"], document["size"]) == (None, None, 310)
    assert run("inspect", base).lines[0] == f"Chain ID:    {base}"
    assert "is a layer, not an image" in run("inspect", base, "--raw", code=1).stderr


@pytest.mark.usefixtures("loaded")
def test_a_missing_layer_has_no_size(run: Run, root: Path) -> None:
    top = run("inspect", "app:1", "--json").json["chain_id"]
    shutil.rmtree(root / "image/vfs/layerdb/sha256" / top.removeprefix("sha256:"))
    document = run("inspect", "app:1", "--json").json
    assert [layer["diff_size"] for layer in document["layers"]] == [10, None]
    assert document["size"] is None
    assert "layers missing" in run("inspect", "app:1").text and "missing" in run("inspect", "app:1").lines[-1]


def test_an_image_without_layers(run: Run, tmp_path: Path) -> None:
    empty = ImageSpec((), ("empty:1",), extra={"architecture": "", "config": "odd"})
    (tmp_path / "i.tar").write_bytes(docker_archive(empty))
    run("load", tmp_path / "i.tar")
    document = run("inspect", "empty:1", "--json").json
    assert (document["chain_id"], document["layers"], document["size"], document["platform"]) == (None, [], 0, None)
    assert "none: the image has no layers" in run("inspect", "empty:1").text


def test_a_config_that_no_json_document_can_have_is_only_printed_raw(run: Run, tmp_path: Path) -> None:
    odd = ImageSpec(LAYERS, ("odd:1",), extra={"x": float("nan")})
    (tmp_path / "i.tar").write_bytes(docker_archive(odd))
    run("load", tmp_path / "i.tar")
    assert "--raw prints it" in run("inspect", "odd:1", code=1).stderr
    assert run("inspect", "odd:1", "--raw").stdout == odd.config


def test_a_config_that_is_nested_deep_gives_no_traceback(run: Run, tmp_path: Path) -> None:
    extra: list[object] = []
    for _ in range(400):
        extra = [extra]
    deep = ImageSpec(LAYERS, ("deep:1",), extra={"x": extra})
    (tmp_path / "i.tar").write_bytes(docker_archive(deep))
    run("load", tmp_path / "i.tar")
    for options in ([], ["--json"]):
        shown = run("inspect", "deep:1", *options, code=None)
        assert shown.code == 0 or "nested too deep" in shown.stderr


@pytest.mark.usefixtures("loaded")
def test_unknown_and_ambiguous_words(run: Run) -> None:
    assert "there is no image" in run("inspect", "none:1", code=1).stderr
    assert "no layer sha256:" in run("inspect", "00" * 32, code=1).stderr


def test_digests_and_annotations_are_those_of_the_manifest_that_came_in(run: Run, tmp_path: Path) -> None:
    files = oci_files(ImageSpec(LAYERS, ("app:1",)))
    index = json.loads(files["index.json"])
    old = index["manifests"][0]["digest"]
    manifest = json.loads(files.pop(f"blobs/{old.replace(':', '/')}"))
    manifest["annotations"] = {"org.example.key": "v\x1b"}
    data = json.dumps(manifest).encode()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    files[f"blobs/{digest.replace(':', '/')}"] = data
    index["manifests"][0] |= {"digest": digest, "size": len(data)}
    files["index.json"] = json.dumps(index).encode()
    run("load", write_files(tmp_path / "layout", files))
    document = run("inspect", "app:1", "--json").json
    assert (document["digests"], document["annotations"]) == ([digest], {"org.example.key": "v\x1b"})
    lines = [line.strip() for line in run("inspect", "app:1").lines]
    assert f"Digest:      {digest}" in lines and r"org.example.key=v\x1b" in lines
    assert run("images", "--format", "{{.Digest}}").text == f"{digest}\n"
    assert run("images").lines[1].split()[2] == digest[7:19]
    assert run("images", "--no-trunc").lines[1].split()[2] == digest
    assert run("images", "--json").json["images"][0]["digest"] == digest
    kept = next((tmp_path / "store").glob(f"layerstore/manifests/**/{digest[7:]}"))
    kept.write_bytes(b"{")
    assert run("inspect", "app:1", "--json").json["annotations"] == {}
