"""`ImageArchive` reads archives and layouts in place, without a store."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pytest

from layerstore_core import ImageArchive, ImageDoesNotExist, Images, InvalidImage, InvalidLayer, LayerStore
from tests import tars
from tests.across.chains import CHAINS, f, sym
from tests.images.archives import ImageSpec, docker_archive, oci_files, write_files
from tests.view.test_mounted_trees import tree_in

LAYERS = (tars.tar(f(b"etc/a", b"old"), f(b"etc/b", b"b"), sym(b"l", b"/etc/a")), tars.tar(f(b"etc/a", b"new")))
PACKED = tuple(gzip.compress(layer) for layer in LAYERS)
SPEC = ImageSpec(LAYERS, ["app:1"], PACKED)


@pytest.fixture(params=["docker-archive", "compressed archive", "layout", "stream"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> object:
    if request.param == "layout":
        write_files(tmp_path / "layout", oci_files(SPEC))
        return tmp_path / "layout"
    data = docker_archive(ImageSpec(LAYERS, ["app:1"]))
    if request.param == "stream":
        return io.BytesIO(data)
    (tmp_path / "image.tar").write_bytes(gzip.compress(data) if request.param == "compressed archive" else data)
    return tmp_path / "image.tar"


def test_image_of_any_source_is_read_in_place(source: object) -> None:
    with ImageArchive(source) as archive:  # type: ignore[arg-type]
        (image,) = archive.images
        assert image.config.document["architecture"] == "amd64"
        assert (image.image_id, image.names) == (SPEC.image_id, ("app:1",))
        with archive.view() as view:
            assert (view / "l").read_text() == "new"
            assert sorted(map(str, (view / "/").rglob("*"))) == ["/etc", "/etc/a", "/etc/b", "/l"]
            assert [change.layer for change in view.changes_to(b"etc/a")] == [0, 1]
        tars_ = []
        for open_layer in archive.layers(image):
            with open_layer() as layer:
                tars_.append(b"".join(iter(lambda layer=layer: layer.read(1000), b"")))  # type: ignore[misc]
        assert tuple(tars_) == LAYERS


@pytest.mark.parametrize("name", CHAINS)
def test_view_is_that_of_the_loaded_image(name: str, tmp_path: Path) -> None:
    layers = [tars.tar(*entries) for entries in CHAINS[name]()]
    path = tmp_path / "image.tar"
    path.write_bytes(docker_archive(ImageSpec(layers, ["app:1"])))
    with (
        LayerStore.open(root=tmp_path / "store", driver="vfs", durability="none") as store,
        ImageArchive(path) as found,
    ):
        Images(store).load(path)
        with Images(store).view("app:1") as loaded, found.view("app:1") as view:
            assert tree_in(view) == tree_in(loaded)


def test_images_are_chosen_by_name_or_id(tmp_path: Path) -> None:
    other = ImageSpec(LAYERS[:1], ["other:latest"])
    path = tmp_path / "images.tar"
    path.write_bytes(docker_archive(ImageSpec(LAYERS, ["app:1"]), other))
    with ImageArchive(path) as archive:
        assert archive.get("app:1").image_id == ImageSpec(LAYERS).image_id
        assert archive.get("other") == archive.get(other.image_id) == archive.get(other.image_id[7:15])
        with archive.view("other") as view:
            assert (view / "etc/a").read_text() == "old"
        with pytest.raises(ImageDoesNotExist, match=r"app:1, .*other:latest"):
            archive.view()
        with pytest.raises(ImageDoesNotExist, match="no image 'app:2'"):
            archive.get("app:2")
    with ImageArchive(path, wanted="app:1") as archive:
        assert [image.names for image in archive.images] == [("app:1",)]


def test_damaged_layer_is_an_error(tmp_path: Path) -> None:
    data = docker_archive(ImageSpec(LAYERS, ["app:1"])).replace(b"etc/b", b"etc/c")
    fixed = bytearray(data)
    for start in range(0, len(data), 512):
        if data[start : start + 5] == b"etc/c":
            fixed[start : start + 512] = tars.with_checksum(bytes(data[start : start + 512]))
    path = tmp_path / "image.tar"
    path.write_bytes(fixed)
    with ImageArchive(path) as archive, archive.view() as view, pytest.raises(InvalidLayer, match="its digest is"):
        view.find(b"etc/a")


def test_bombs_and_other_sources_are_refused(tmp_path: Path) -> None:
    bomb = tars.tar(f(b"zeros", bytes(4 << 20)))
    path = tmp_path / "layout"
    write_files(path, oci_files(ImageSpec([bomb], ["app:1"], [gzip.compress(bomb)])))
    with (
        ImageArchive(path, max_size=1 << 20) as archive,
        archive.view() as view,
        pytest.raises(InvalidLayer, match="larger than the limit"),
    ):
        view.find(b"zeros")
    with pytest.raises(InvalidImage):
        ImageArchive(io.BytesIO(b"no tar" * 1000))
    with pytest.raises(InvalidImage, match="contains no image"):
        ImageArchive(io.BytesIO(LAYERS[0]))
    with pytest.raises(FileNotFoundError):
        ImageArchive(tmp_path / "none")


def test_small_layer_with_millions_of_directories_is_refused(tmp_path: Path) -> None:
    layer = tars.tar(*(f(b"%d/" % number + b"a/" * 2040 + b"x", b"") for number in range(3)))
    write_files(tmp_path / "layout", oci_files(ImageSpec((layer,), ["app:1"], (gzip.compress(layer),))))
    entries = r"with layer 1, the tree has more than 5000 entries.*'2/a/"
    for limits, expected in (({"max_entries": 5000}, entries), ({"max_path_bytes": 6 << 20}, r"max_path_bytes.*'1/a/")):
        with (
            ImageArchive(tmp_path / "layout", **limits) as archive,
            archive.view() as view,
            pytest.raises(InvalidLayer, match=expected),
        ):
            view.find(b"x")
