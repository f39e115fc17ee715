"""Writing the tree of an image: to a tar and to a directory, as root and as an ordinary user, whole or not at all."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from layerstore_core import LayerStore, StoreConfig
from layerstore_core.errors import IntegrityError
from layerstore_core.images import Image, Images
from layerstore_core.log import logger
from tests import tars
from tests.across.conftest import differences, tree_of
from tests.images.archives import ImageSpec, docker_archive

T = 1_600_000_000
LAYERS = (
    tars.tar(
        tars.directory(b"./", mode=0o751, mtime=T),
        tars.directory(b"etc", mtime=T),
        tars.entry(b"etc/old", b"", mtime=T),
        tars.entry(b"one", b"content", mtime=T, uid=5, gid=6, mode=0o4711),
    ),
    tars.tar(
        tars.entry(b"etc/.wh.old"),
        tars.hard_link(b"etc/two", b"one", mtime=T, uid=5, gid=6, mode=0o4711),
        tars.symlink(b"link", b"/etc", mtime=T),
        tars.entry(b"null", typeflag=b"3", device=(1, 3), mtime=T),
    ),
)


@pytest.fixture
def image(images: Images) -> Image:
    (image,) = images.load(io.BytesIO(docker_archive(ImageSpec(LAYERS, ["app:1"]))))
    return image


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    messages: list[str] = []
    sink = logger.add(lambda message: messages.append(str(message)), format="{message}")
    logger.enable("layerstore_core")
    yield messages
    logger.disable("layerstore_core")
    logger.remove(sink)


@pytest.mark.needs_root
def test_a_tar_and_a_directory_have_the_tree_that_is_mounted(
    store: LayerStore, images: Images, image: Image, tmp_path: Path
) -> None:
    images.export_root("app:1", tmp_path / "out.tar")
    images.export_root(image, tmp_path / "out")
    (tmp_path / "unpacked").mkdir()
    subprocess.run(["tar", "-xpf", tmp_path / "out.tar", "-C", tmp_path / "unpacked"], check=True)
    assert image.chain_id is not None
    with store.get(image.chain_id) as layer, store.driver.mounted(layer.cache_id) as path:
        expected = tree_of(Path(path))
    assert differences(tree_of(tmp_path / "out"), expected) == []
    assert differences(tree_of(tmp_path / "unpacked"), expected) == []


def test_a_tar_is_the_same_bytes_each_time(images: Images, image: Image, tmp_path: Path) -> None:
    images.export_root(image, tmp_path / "out.tar")
    images.export_root(image, buffer := io.BytesIO())
    assert buffer.getvalue() == (tmp_path / "out.tar").read_bytes()
    with tarfile.open(tmp_path / "out.tar") as tar:
        assert tar.getnames() == [".", "etc", "etc/two", "link", "null", "one"]


def test_an_ordinary_user_is_told_what_is_not_kept(
    open_directory: Path, ordinary_user: Callable[[], AbstractContextManager[None]], warnings: list[str], tmp_path: Path
) -> None:
    def write(where: Path) -> None:
        with LayerStore.open(StoreConfig(root=where / "store", driver="vfs", durability="none")) as store:
            images = Images(store)
            images.load(io.BytesIO(docker_archive(ImageSpec(LAYERS, ["app:1"]))))
            warnings.clear()
            images.export_root("app:1", where / "out")
            images.export_root("app:1", where / "out.tar")

    write(tmp_path / "warm")  # this user may not be able to read Python's modules: they are imported before
    with ordinary_user():
        write(open_directory / "own")
    own = open_directory / "own"
    assert "files belong to this user now" in "".join(warnings)
    assert "devices" in "".join(warnings)
    assert sorted(os.listdir(own / "out")) == ["etc", "link", "one"]
    assert (own / "out" / "one").samefile(own / "out" / "etc" / "two")
    with tarfile.open(own / "out.tar") as tar:
        members = {member.name: (member.uid, member.gid, member.mode) for member in tar}
    assert members["etc/two"] == (5, 6, 0o4711)
    assert "null" in members


def test_what_exists_stays(images: Images, image: Image, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_bytes(b"")
    (tmp_path / "file").write_bytes(b"")
    for target in ("full", "file"):
        with pytest.raises(FileExistsError, match="not an empty directory"):
            images.export_root(image, tmp_path / target)
    assert os.listdir(tmp_path / "full") == ["x"]
    (tmp_path / "empty").mkdir()
    images.export_root(image, tmp_path / "empty")
    assert (tmp_path / "empty" / "one").read_bytes() == b"content"


@pytest.mark.parametrize("target", ["out", "out.tar"])
def test_a_damaged_layer_leaves_nothing(
    store: LayerStore, images: Images, image: Image, tmp_path: Path, target: str
) -> None:
    with store.get(image.chain_ids[1]) as layer, store.driver.mounted(layer.cache_id) as path:
        Path(path, "one").write_bytes(b"changed")
    with store.get(image.chain_ids[0]) as layer, store.driver.mounted(layer.cache_id) as path:
        Path(path, "one").write_bytes(b"changed")
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(IntegrityError):
        images.export_root(image, tmp_path / target)
    assert sorted(os.listdir(tmp_path)) == before


def test_an_image_without_layers_is_an_empty_tree(images: Images, tmp_path: Path) -> None:
    images.load(io.BytesIO(docker_archive(ImageSpec([], ["none:1"]))))
    images.export_root("none:1", tmp_path / "out")
    assert os.listdir(tmp_path / "out") == []
