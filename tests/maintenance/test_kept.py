"""Damage to what was kept with images is found, and repaired; the images stay usable."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from layerstore_core import LayerStore
from layerstore_core.images import Images
from layerstore_core.maintenance.check import RepairSource, check_store, repair
from layerstore_core.maintenance.gc import collect_garbage
from tests.images.archives import ImageSpec, oci_files, sha256, tar_files, write_files
from tests.images.keep.layouts import image_for, multi_platform
from tests.images.keep.test_incoming import config, foreign_gzip
from tests.store.layers import BASE, MIDDLE, TOP

FILES, INDEX = multi_platform(image_for("amd64", (BASE, MIDDLE)), image_for("arm64", (BASE, TOP)))


@pytest.fixture
def driver() -> str:
    return "vfs"


@pytest.fixture
def images(store: LayerStore) -> Images:
    images = Images(store)
    images.load(io.BytesIO(tar_files(FILES)), all_platforms=True)
    return images


def found(store: LayerStore, *, full: bool = False) -> list[tuple[str, str]]:
    return [(finding.code, finding.subject) for finding in check_store(store, full=full)]


def remove(path: Path) -> None:
    path.unlink()


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b" ")


@pytest.mark.parametrize(("spoil", "code"), [(remove, "missing-document"), (damage, "damaged-document")])
@pytest.mark.parametrize("what", ["index", "manifest"])
def test_a_document_is_restored_from_the_layout(
    images: Images, store: LayerStore, tmp_path: Path, spoil: Callable[[Path], None], code: str, what: str
) -> None:
    assert found(store) == []
    kept = store.context.kept
    ((image, origin),) = kept.names()["app:1"].items()
    path = kept.path_of(INDEX["digest"] if what == "index" else origin.images[image])
    spoil(path)
    assert found(store) == [(code, str(path))]
    saved = images.save("app:1", tmp_path / "worse", form="oci", all_platforms=True)
    assert [one.as_loaded for one in saved.manifests] == [what == "index", True]
    with RepairSource(store, write_files(tmp_path / "layout", FILES)) as source:
        assert repair(store, check_store(store), source=source) == []
    assert found(store) == []
    assert images.save("app:1", tmp_path / "good", form="oci", all_platforms=True).manifests[0].as_loaded


def test_a_damaged_document_goes_into_quarantine_and_is_then_given_up(images: Images, store: LayerStore) -> None:
    path = store.context.kept.path_of(INDEX["digest"])
    damage(path)
    spoilt = path.read_bytes()
    assert repair(store, check_store(store)) == []
    (entry,) = (store.root / "layerstore/quarantine/vfs").iterdir()
    assert entry.read_bytes() == spoilt
    assert found(store) == [("missing-document", str(path))]
    assert [finding.code for finding in repair(store, check_store(store))] == ["missing-document"]
    assert repair(store, check_store(store), force=True) == []
    assert found(store) == []
    assert images.get("app:1", platform="arm64").names == ("app:1",)
    assert collect_garbage(store) == []


@pytest.mark.parametrize("place", ["names.json", "image"])
def test_a_damaged_origin_goes_into_quarantine(images: Images, store: LayerStore, place: str) -> None:
    kept = store.context.kept
    path = kept.names_path if place == "names.json" else next((kept.path / "images").iterdir())
    path.write_bytes(b"{")
    assert found(store) == [("unreadable-origin", str(path))]
    assert collect_garbage(store) == []
    assert repair(store, check_store(store)) == []
    assert found(store) == []
    assert len(images.all()) == 2


def test_lost_origins_are_begun_anew_only_by_force(images: Images, store: LayerStore) -> None:
    shutil.rmtree(store.root / "layerstore/manifests")
    ((code, subject),) = found(store)
    assert (code, subject) == ("unreadable-origin", str(store.context.kept.path / "images"))
    assert [finding.code for finding in repair(store, check_store(store))] == ["unreadable-origin"]
    assert repair(store, check_store(store), force=True) == []
    assert found(store) == []
    images.load(io.BytesIO(tar_files(FILES)), all_platforms=True)
    assert images.get("app:1", platform="arm64").names == ("app:1",)


def test_a_damaged_blob_is_found_by_a_full_check(store: LayerStore) -> None:
    config(store, "always")
    blob = foreign_gzip(BASE)
    Images(store).load(io.BytesIO(tar_files(oci_files(ImageSpec((BASE,), ("app:1",), (blob,))))))
    path = store.root / "layerstore/blobs/vfs" / sha256(BASE)[7:] / sha256(blob)[7:]
    assert found(store, full=True) == []
    damage(path)
    assert found(store) == []
    assert found(store, full=True) == [("damaged-blob", str(path))]
    assert repair(store, check_store(store, full=True)) == []
    assert not path.exists()
    assert found(store, full=True) == []
