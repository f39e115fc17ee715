"""Exchange of images with other programs: Skopeo, umoci and Buildah read our archives, and we read theirs."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from layerstore_core import LayerStore
from layerstore_core.images import Images
from tests.across.conftest import differences, tree_of
from tests.docker.contents import APP, MTIME
from tests.images.archives import docker_archive, sha256


def client(name: str, *args: str | Path) -> str:
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed (Debian's package of that name)")
    if os.geteuid() != 0:
        pytest.skip(f"{name} needs the rights of root for owners and devices")
    done = subprocess.run([name, *map(str, args)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def saved(images: Images, tmp_path: Path) -> Path:
    """A directory with an image saved as `docker.tar`, `oci` and `oci.tar`; the store is empty again."""
    images.load(io.BytesIO(docker_archive(APP)))
    images.save(["app:1"], tmp_path / "docker.tar")
    images.save(["app:1"], tmp_path / "oci", form="oci")
    images.save(["app:1"], tmp_path / "oci.tar", form="oci")
    images.remove(APP.image_id, force=True)
    return tmp_path


SOURCES = {"docker-archive": "docker.tar", "oci": "oci:1", "oci-archive": "oci.tar:1"}


def load_again(images: Images, store: LayerStore, path: Path, *, same_config: bool = True) -> None:
    """Load an archive that a client has written; the image has the same layers."""
    assert store.layers() == {}
    (image,) = images.load(path, name="again:1")
    assert list(image.diff_ids) == [sha256(layer) for layer in APP.layers]
    if same_config:
        assert image.image_id == APP.image_id


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("target", ["docker-archive:{}/copy.tar:again:1", "oci:{}/copy:1", "oci-archive:{}/copy.tar:1"])
def test_skopeo_copies_our_images_and_we_load_the_copies(
    images: Images, store: LayerStore, saved: Path, source: str, target: str
) -> None:
    client("skopeo", "copy", f"{source}:{saved}/{SOURCES[source]}", target.format(saved))
    # From a docker-archive to an OCI layout, Skopeo rewrites the config.
    converted = source == "docker-archive" and target.startswith("oci")
    load_again(images, store, next(saved.glob("copy*")), same_config=not converted)


def test_umoci_unpacks_our_layout_and_we_load_its_layout(images: Images, store: LayerStore, saved: Path) -> None:
    client("umoci", "unpack", "--image", f"{saved}/oci:1", saved / "bundle")
    rootfs = saved / "bundle" / "rootfs"
    assert not (rootfs / "old").exists() and not (rootfs / "opaque/hidden").exists()
    assert os.getxattr(rootfs / "bin/ping", "security.capability")
    (rootfs / "new").write_text("from umoci")
    (rootfs / "top").unlink()
    os.utime(rootfs / "new", (MTIME, MTIME))
    client("umoci", "repack", "--image", f"{saved}/oci:2", saved / "bundle")
    client("umoci", "tag", "--image", f"{saved}/oci:2", "3")
    # umoci copies the annotation with the complete name from the first image to the other two.
    assert [image.names for image in images.load(saved / "oci")] == [("app:1",), ("app:2", "app:3")]
    images.remove(APP.image_id, force=True)
    images.remove("app:3", force=True)
    images.remove("app:2", force=True)
    client("umoci", "remove", "--image", f"{saved}/oci:1")
    client("umoci", "gc", "--layout", saved / "oci")
    (image,) = images.load(saved / "oci", name="repacked:1")
    assert list(image.diff_ids[:3]) == [sha256(layer) for layer in APP.layers]
    with store.get(image.chain_id or "") as top:
        rw = store.create_rw_layer("look", top.chain_id)
    with rw.mounted() as path:
        assert Path(path, "new").read_text() == "from umoci"
        assert not Path(path, "top").exists()
        assert Path(path, "linked").stat().st_ino == Path(path, "noted").stat().st_ino
    store.release_rw_layer(rw)


@pytest.mark.parametrize("source", SOURCES)
def test_buildah_pulls_our_images_and_we_load_its_archives(
    images: Images, store: LayerStore, saved: Path, source: str
) -> None:
    own = ("--storage-driver", "vfs", "--root", saved / "buildah", "--runroot", saved / "run")
    image_id = client("buildah", *own, "pull", "--quiet", f"{source}:{saved}/{SOURCES[source]}").strip()
    assert f"sha256:{image_id}" == APP.image_id
    client("buildah", *own, "push", image_id, f"docker-archive:{saved}/copy.tar:again:1")
    client("buildah", *own, "push", image_id, f"oci:{saved}/copy:1")
    load_again(images, store, saved / "copy.tar")
    images.remove("again:1")
    load_again(images, store, saved / "copy", same_config=False)
    client("buildah", *own, "rmi", image_id)


def test_umoci_unpacks_what_append_and_squash_make(images: Images, store: LayerStore, tmp_path: Path) -> None:
    images.load(io.BytesIO(docker_archive(APP)))
    (tmp_path / "tree" / "bin").mkdir(parents=True)
    (tmp_path / "tree" / "bin" / "mine").write_text("mine")
    images.append("app:1", [tmp_path / "tree", (tmp_path / "tree", "/new/place")], name="app:2")
    images.squash("app:2", name="app:3", keep=1)
    images.squash("app:2", name="app:4")
    for name in ("app:2", "app:3", "app:4"):
        tag = name.partition(":")[2]
        images.save([name], tmp_path / f"oci-{tag}", form="oci")
        client("umoci", "unpack", "--image", f"{tmp_path}/oci-{tag}:{tag}", tmp_path / f"bundle-{tag}")
    first, *others = (tree_of(tmp_path / f"bundle-{tag}" / "rootfs") for tag in "234")
    assert first[b"bin/mine"] and first[b"new/place/bin/mine"]
    for other in others:
        assert differences(other, first) == []
    chain_id = images.get("app:2").chain_id or ""
    with store.get(chain_id) as layer, store.driver.mounted(layer.cache_id) as path:
        assert differences(tree_of(Path(path)), first) == []
