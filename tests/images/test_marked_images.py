"""Images that carry the mark of a removal that was killed, and are recorded again."""

from __future__ import annotations

import io

import pytest

from layerstore_core import Images, LayerStore
from layerstore_core.images.config.model import ImageConfig
from layerstore_core.images.make.record import record_image
from layerstore_core.maintenance.gc import collect_garbage
from tests.images.archives import ImageSpec, docker_archive
from tests.store.layers import BASE

SPEC = ImageSpec([BASE], ["base:1"])


@pytest.fixture
def driver() -> str:
    return "vfs"


def begin_to_remove(store: LayerStore, images: Images) -> None:
    """Load an image, and do what `rmi` has done when it is killed before it removes the record."""
    (image,) = images.load(io.BytesIO(docker_archive(SPEC)))
    with store.context.changing_images() as records:
        records.begin_removal([image.image_id])
        records.set_names({})


@pytest.mark.parametrize("keep_names", [False, True])
def test_an_image_that_is_loaded_again_stays(store: LayerStore, images: Images, *, keep_names: bool) -> None:
    begin_to_remove(store, images)
    (image,) = images.load(io.BytesIO(docker_archive(SPEC)), keep_names=keep_names)
    with store.context.changing_images() as records:
        records.set_names({})  # as if another image had the name now
    assert collect_garbage(store) == []
    assert images.get(image.image_id).size == image.size


def test_adding_an_image_without_a_name_removes_the_mark(store: LayerStore, images: Images) -> None:
    config = ImageConfig.scratch()
    made = record_image(store, config, None, name=None, parent=None)
    with store.context.changing_images() as records:
        records.begin_removal([made.image_id])
        records.add(made.config.data)
    assert collect_garbage(store) == []
    assert images.get(made.image_id).image_id == made.image_id


def test_an_image_whose_removal_was_killed_goes(store: LayerStore, images: Images) -> None:
    begin_to_remove(store, images)
    assert collect_garbage(store) != []
    assert images.all() == []
