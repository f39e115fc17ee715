"""Layouts of other programs come back with the same digests; other programs read what we compress."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import pytest

from layerstore_core import LayerStore
from layerstore_core.images import Images
from tests.docker.contents import APP
from tests.images.archives import docker_archive, write_files
from tests.images.keep.layouts import artifact, cosign, image_for, multi_platform
from tests.images.keep.test_incoming import config, foreign_gzip
from tests.images.test_clients import client
from tests.store.layers import BASE, MIDDLE, TOP


@pytest.fixture
def source(images: Images, store: LayerStore, tmp_path: Path) -> Path:
    """A layout of ours with uncompressed layers; the store is empty again, and keeps blobs."""
    images.load(io.BytesIO(docker_archive(APP)))
    images.save("app:1", tmp_path / "source", form="oci")
    images.remove(APP.image_id, force=True)
    config(store, "unreproducible")
    return tmp_path / "source"


@pytest.mark.parametrize("compressor", ["gzip", "zstd"])
def test_a_layout_of_skopeo_and_its_referrers_come_back(
    images: Images, source: Path, tmp_path: Path, compressor: str
) -> None:
    layout = tmp_path / "layout"
    options = ("--dest-compress", "--dest-compress-format", compressor)
    client("skopeo", "copy", *options, f"oci:{source}:1", f"oci:{layout}:app")
    raw = client("skopeo", "inspect", "--raw", f"oci:{layout}:app")
    index = json.loads((layout / "index.json").read_bytes())
    files: dict[str, bytes] = {}
    manifest = index["manifests"][0]
    index["manifests"] += [cosign(files, manifest), artifact(files, manifest, b"packages")]
    for name, data in files.items():
        (layout / name).write_bytes(data)
    (layout / "index.json").write_text(json.dumps(index))
    images.load(layout, name="app:1")
    images.save("app:1", tmp_path / "back", form="oci", referrers=True)
    assert client("skopeo", "inspect", "--raw", f"oci:{tmp_path}/back:1") == raw
    # Skopeo verifies all blobs when it copies them.
    client("skopeo", "copy", f"oci:{tmp_path}/back:1", f"dir:{tmp_path}/dir")
    signature = f"oci:{tmp_path}/back:{manifest['digest'].replace(':', '-')}.sig"
    assert json.loads(client("skopeo", "inspect", "--raw", signature))["layers"]
    assert {path.name for path in (layout / "blobs/sha256").iterdir()} == {
        path.name for path in (tmp_path / "back/blobs/sha256").iterdir()
    }


def test_a_directory_of_skopeo_comes_back_identical(images: Images, source: Path, tmp_path: Path) -> None:
    client("skopeo", "copy", "--format", "v2s2", f"oci:{source}:1", f"dir:{tmp_path}/dir")
    images.load(tmp_path / "dir", name="app:1")
    images.save("app:1", tmp_path / "back", form="dir")
    before, after = (
        {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (tmp_path / name).iterdir()}
        for name in ("dir", "back")
    )
    assert after == before


def test_a_layout_of_umoci_comes_back_identical(images: Images, source: Path, tmp_path: Path) -> None:
    client("umoci", "config", "--image", f"{source}:1", "--config.label", "a=b", "--tag", "labelled")
    client("umoci", "insert", "--image", f"{source}:labelled", source / "index.json", "/inserted")
    client("umoci", "remove", "--image", f"{source}:1")
    client("umoci", "gc", "--layout", source)
    images.load(source, name="app:labelled")
    images.save("app:labelled", tmp_path / "back", form="oci")
    raw, back = (
        client("skopeo", "inspect", "--raw", f"oci:{layout}:labelled") for layout in (source, tmp_path / "back")
    )
    assert back == raw


@pytest.mark.parametrize("compression", ["gzip:9", "zstd:19"])
def test_buildah_and_umoci_read_what_we_compress(
    images: Images, source: Path, tmp_path: Path, compression: str
) -> None:
    images.load(source, name="app:1")
    images.save("app:1", tmp_path / "layout", form="oci", compression=compression)
    images.save("app:1", tmp_path / "docker.tar", compression=compression)
    own = ("--storage-driver", "vfs", "--root", tmp_path / "buildah", "--runroot", tmp_path / "run")
    for name in (f"oci:{tmp_path}/layout:1", f"docker-archive:{tmp_path}/docker.tar"):
        assert f"sha256:{client('buildah', *own, 'pull', '--quiet', name).strip()}" == APP.image_id
        client("buildah", *own, "rmi", "--all", "--force")
    if compression.startswith("gzip"):
        client("umoci", "unpack", "--image", f"{tmp_path}/layout:1", tmp_path / "bundle")
        assert (tmp_path / "bundle/rootfs/top").stat().st_size == 70_000


def test_skopeo_copies_all_platforms_of_what_we_save(images: Images, store: LayerStore, tmp_path: Path) -> None:
    config(store, "unreproducible")
    packed = [tuple(map(foreign_gzip, layers)) for layers in ((BASE, MIDDLE), (BASE, TOP))]
    files, _ = multi_platform(image_for("amd64", (BASE, MIDDLE), packed[0]), image_for("arm64", (BASE, TOP), packed[1]))
    write_files(tmp_path / "layout", files)
    images.load(tmp_path / "layout", all_platforms=True)
    images.save("app:1", tmp_path / "back", form="oci", all_platforms=True)
    images.save("app:1", tmp_path / "dir", form="dir", all_platforms=True)
    client("skopeo", "copy", "--all", f"oci:{tmp_path}/back:1", f"dir:{tmp_path}/of-skopeo")
    ours, skopeos = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("dir", "of-skopeo")
    )
    assert ours == skopeos
