"""Saving images: archives, layouts, compressed layers, and failures."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import subprocess
import tarfile
import threading
import zlib
from pathlib import Path

import pytest

from layerstore_core import IntegrityError, LayerStore
from layerstore_core.errors import ImageDoesNotExist
from layerstore_core.images import Images
from tests import tars
from tests.images.archives import ImageSpec, docker_archive, oci_files, sha256, tar_files
from tests.store.layers import BASE, MIDDLE, TOP

APP = ImageSpec((BASE, MIDDLE, TOP), ("example.com/app:1", "app:latest"))
TOOL = ImageSpec((BASE, TOP), ("tool:2",))


@pytest.fixture
def loaded(images: Images) -> Images:
    images.load(io.BytesIO(docker_archive(APP, TOOL)))
    return images


def members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        assert {(m.mode, m.uid, m.gid, m.mtime) for m in tar} == {(0o644, 0, 0, 0)}
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


def files_below(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def test_save_writes_an_archive_for_docker(loaded: Images, tmp_path: Path) -> None:
    loaded.save(["app", "example.com/app:1", TOOL.image_id[:20]], tmp_path / "out.tar")
    files = members(tmp_path / "out.tar")
    manifest = json.loads(files["manifest.json"])
    assert [item["RepoTags"] for item in manifest] == [["app:latest", "example.com/app:1"], None]
    for image, item in zip((APP, TOOL), manifest, strict=True):
        assert files[item["Config"]] == image.config
        assert [files[path] for path in item["Layers"]] == list(image.layers)
    # The archive has each blob once, and nothing else.
    assert len(files) == 3 + 2 * 2 + 3
    assert {name for name in files if "/" not in name} == {"index.json", "manifest.json", "oci-layout"}


@pytest.mark.parametrize("form", ["docker", "oci"])
def test_saving_twice_gives_the_same_bytes(loaded: Images, tmp_path: Path, form: str) -> None:
    for name in ("one.tar", "two.tar"):
        loaded.save(["app", "tool:2"], tmp_path / name, form=form)  # type: ignore[arg-type]
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["one.tar", "store", "two.tar"]


def test_save_writes_a_layout_as_directory_and_as_tar(loaded: Images, tmp_path: Path) -> None:
    loaded.save(["app:latest"], tmp_path / "layout", form="oci")
    loaded.save(["app:latest"], tmp_path / "layout.tar", form="oci")
    files = files_below(tmp_path / "layout")
    assert files == members(tmp_path / "layout.tar")
    assert "manifest.json" not in files
    (entry,) = json.loads(files["index.json"])["manifests"]
    assert entry["platform"] == {"architecture": "amd64", "os": "linux"}
    assert entry["annotations"] == {
        "io.containerd.image.name": "docker.io/library/app:latest",
        "org.opencontainers.image.ref.name": "latest",
    }
    for path, data in files.items():
        if path.startswith("blobs/"):
            assert sha256(data) == path.removeprefix("blobs/").replace("/", ":")


@pytest.mark.parametrize("form", ["docker", "oci"])
@pytest.mark.parametrize("target", ["out.tar", "out"])
def test_saved_images_can_be_loaded(loaded: Images, store: LayerStore, tmp_path: Path, form: str, target: str) -> None:
    before = loaded.all()
    loaded.save(["app", "example.com/app:1", "tool:2"], tmp_path / target, form=form)  # type: ignore[arg-type]
    for name in ("app", "example.com/app:1", "tool:2"):
        loaded.remove(name)
    assert store.layers() == {}
    loaded.load(tmp_path / target)
    assert loaded.all() == before


@pytest.mark.parametrize("level", [1, 6, 9])
def test_a_layer_compressed_by_zlib_is_saved_with_its_digest(images: Images, tmp_path: Path, level: int) -> None:
    big = ImageSpec((noise_and_text(900_000), MIDDLE), ("big:1",))
    packed = [gzip.compress(layer, level, mtime=7) for layer in big.layers]
    images.load(io.BytesIO(tar_files(oci_files(ImageSpec(big.layers, big.names, packed)))))
    images.save(["big:1"], tmp_path / "out", form="oci")
    files = files_below(tmp_path / "out")
    assert {sha256(blob) for blob in packed} <= {sha256(data) for data in files.values()}
    manifest = next(doc for doc in map(as_json, files.values()) if "layers" in doc)
    assert [layer["mediaType"] for layer in manifest["layers"]] == ["application/vnd.oci.image.layer.v1.tar+gzip"] * 2
    images.remove("big:1")
    assert os.listdir(tmp_path / "store/layerstore/recipes/vfs") == []


def as_json(data: bytes) -> dict[str, object]:
    try:
        found = json.loads(data)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def noise_and_text(size: int) -> bytes:
    """Return a tar that compresses to some degree: neither random nor constant."""
    words = b" ".join(b"%x" % (n * 2654435761 % 4093) for n in range(size // 4))
    return tars.tar(tars.entry(b"text", words[:size]))


def test_a_layer_whose_recipe_is_wrong_is_saved_uncompressed(images: Images, store: LayerStore, tmp_path: Path) -> None:
    layer = tars.tar(tars.entry(b"noise", random.Random(5).randbytes(800_000).hex().encode()))
    encoder = zlib.compressobj(6, zlib.DEFLATED, 31)
    # Level 6 in the part that a recipe is tried on, then a flush, which no level alone produces.
    packed = (
        encoder.compress(layer[:-100])
        + encoder.flush(zlib.Z_SYNC_FLUSH)
        + encoder.compress(layer[-100:])
        + encoder.flush()
    )
    images.load(io.BytesIO(tar_files(oci_files(ImageSpec((layer,), ("a:1",), (packed,))))))
    assert len(os.listdir(store.root / "layerstore/recipes/vfs")) == 1
    images.save(["a:1"], tmp_path / "out.tar", form="oci")
    files = members(tmp_path / "out.tar")
    assert layer in files.values()
    assert packed not in files.values()
    assert len(files) == 5


@pytest.mark.parametrize("spoilt", [b"", b"{", b"[]", b'{"digest":1}', b"\xff"])
def test_a_damaged_recipe_is_ignored(images: Images, store: LayerStore, tmp_path: Path, spoilt: bytes) -> None:
    packed = gzip.compress(BASE, mtime=0)
    images.load(io.BytesIO(tar_files(oci_files(ImageSpec((BASE,), ("a:1",), (packed,))))))
    (recipe,) = (store.root / "layerstore/recipes/vfs").iterdir()
    recipe.write_bytes(spoilt)
    images.save(["a:1"], tmp_path / "out.tar", form="oci")
    assert BASE in members(tmp_path / "out.tar").values()


def test_saving_a_damaged_layer_leaves_the_old_archive(loaded: Images, store: LayerStore, tmp_path: Path) -> None:
    with store.get(sha256(BASE)) as layer:
        (store.driver.home / "dir" / layer.cache_id / "etc/hosts").write_bytes(b"127.0.0.1 localhosT\n")
    (tmp_path / "out.tar").write_bytes(b"old")
    with pytest.raises(IntegrityError):
        loaded.save(["app"], tmp_path / "out.tar")
    with pytest.raises(IntegrityError):
        loaded.save(["app"], tmp_path / "layout", form="oci")
    assert (tmp_path / "out.tar").read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["out.tar", "store"]


def test_saving_an_unknown_image_writes_nothing(loaded: Images, tmp_path: Path) -> None:
    with pytest.raises(ImageDoesNotExist, match="layerstore images"):
        loaded.save(["app", "none"], tmp_path / "out.tar")
    assert os.listdir(tmp_path) == ["store"]


def test_save_refuses_a_directory_that_is_not_empty(loaded: Images, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    loaded.save(["tool:2"], tmp_path / "out", form="oci")
    before = files_below(tmp_path / "out")
    with pytest.raises(FileExistsError):
        loaded.save(["app"], tmp_path / "out", form="oci")
    assert files_below(tmp_path / "out") == before


def test_save_to_a_pipe_writes_the_archive(loaded: Images, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    loaded.save(["app"], tmp_path / "pipe")
    reader.join()
    loaded.save(["app"], tmp_path / "file.tar")
    assert got == [(tmp_path / "file.tar").read_bytes()]


def test_gnu_tar_reads_the_archive(loaded: Images, tmp_path: Path) -> None:
    loaded.save(["app"], tmp_path / "out.tar")
    listed = subprocess.run(["tar", "-tf", tmp_path / "out.tar"], capture_output=True, text=True, check=True)
    assert listed.stderr == ""
    assert len(listed.stdout.splitlines()) == 8


def test_saving_no_image_is_refused_and_makes_no_file(images, tmp_path):
    with pytest.raises(ValueError, match="at least one image"):
        images.save([], tmp_path / "empty.tar")
    assert not list(tmp_path.glob("empty*"))
