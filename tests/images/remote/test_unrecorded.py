"""A pull that was killed after a layer was registered, and before its digest was recorded: the next pull does that."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from layerstore_core import LayerStore
from layerstore_core.base.digests import DiffID
from layerstore_core.images import Images
from layerstore_core.images.keep.compressed import CompressedLayers
from layerstore_core.images.keep.recipe import Recipes
from layerstore_core.images.remote.receive.leftovers import downloads_directory
from layerstore_core.locking.file_locks import try_lock
from layerstore_core.records.blob_sources import BlobSources
from tests.conftest import OpenStore
from tests.images.archives import ImageSpec, sha256
from tests.images.remote.published import layer, publish, sent, spec
from tests.registry.fake_registry import FakeRegistry

APP = spec(layer(1), layer(2))


def pull_unrecorded(images: Images, fake: FakeRegistry, at: tuple[type, str] = (CompressedLayers, "learn")) -> str:
    """Pull an image, and stop at a method, by default where a kill leaves most unrecorded; return its name."""
    publish(fake, APP, "1")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(*at, stop)
        with pytest.raises(KeyboardInterrupt):
            images.pull(f"{fake.host}/app:1")
    return f"{fake.host}/app:1"


def left(store: LayerStore) -> list[Path]:
    return [path for path in downloads_directory(store.root).rglob("*") if path.is_file()]


def known(store: LayerStore, image: ImageSpec = APP) -> list[bool]:
    """Return which layers' blobs are known."""
    sources = BlobSources(store.context.image_db.path)
    return [sources.diff_id(sha256(blob)) == sha256(tar) for tar, blob in zip(image.layers, image.blobs, strict=True)]


def test_the_next_pull_records_what_it_had_received(images: Images, store: LayerStore, fake: FakeRegistry) -> None:
    name = pull_unrecorded(images, fake)
    assert (known(store), len(left(store))) == ([False, False], 2)
    fake.log.clear()
    images.pull(name)
    assert (known(store), left(store), sent(fake)) == ([True, True], [], 0)
    with FakeRegistry() as other:
        pushed = images.push(name, f"{other.host}/app:1")
        assert pushed.digest == fake.repository("app").tags["1"]


def test_a_pull_that_is_killed_at_a_recipe_loses_none(images: Images, store: LayerStore, fake: FakeRegistry) -> None:
    name = pull_unrecorded(images, fake, (Recipes, "put"))
    images.pull(name)
    recipes = CompressedLayers(store).recipes
    assert [recipes.get(DiffID(sha256(tar))) is not None for tar in APP.layers] == [True, True]
    assert (known(store), left(store)) == ([True, True], [])


def test_blobs_are_kept_where_the_settings_say_so(open_store: OpenStore, fake: FakeRegistry) -> None:
    store = open_store(keep_blobs="always")
    name = pull_unrecorded(Images(store), fake)
    Images(store).pull(name)
    kept = CompressedLayers(store).blobs
    assert all(kept.has(DiffID(sha256(tar)), sha256(blob)) for tar, blob in zip(APP.layers, APP.blobs, strict=True))
    assert left(store) == []


@pytest.mark.parametrize("damage", ["wrong", "incomplete"])
def test_what_is_damaged_is_not_recorded(images: Images, store: LayerStore, fake: FakeRegistry, damage: str) -> None:
    name = pull_unrecorded(images, fake)
    path = downloads_directory(store.root) / sha256(APP.blobs[0]).replace(":", "/")
    if damage == "wrong":
        with path.open("r+b") as file:
            file.seek(1000)
            file.write(b"other")
    else:
        os.truncate(path, 0)
    images.pull(name)
    assert known(store) == [False, True]
    assert [one == path for one in left(store)] == ([] if damage == "wrong" else [True])


def test_what_another_process_has_locked_is_left_alone(images: Images, store: LayerStore, fake: FakeRegistry) -> None:
    name = pull_unrecorded(images, fake)
    with open(downloads_directory(store.root) / sha256(APP.blobs[0]).replace(":", "/"), "r+b") as file:
        assert try_lock(file.fileno())
        images.pull(name)
    assert known(store) == [False, True]
    images.pull(name)
    assert (known(store), left(store)) == ([True, True], [])
