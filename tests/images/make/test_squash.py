"""Squashing: the same tree as before, whichever layers stay; config, history, and what cannot be squashed."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from layerstore_core import InvalidLayer, Layer, LayerStore
from layerstore_core.errors import IntegrityError
from layerstore_core.images import Image, Images
from layerstore_core.images.formats.documents import ConfigDocument
from layerstore_core.images.make.squash import squash
from tests import tars
from tests.across.chains import CHAINS
from tests.across.conftest import differences, tree_of
from tests.across.test_same_tree import CHAINS_OF_ENTRIES, Entry
from tests.images.archives import ImageSpec, docker_archive
from tests.store.layers import export, register, tar_of
from tests.view.test_mounted_trees import tree_in

needs_root = pytest.mark.needs_root
CREATED = "2024-05-06T07:08:09Z"
LAYERS = (
    tar_of({"a": None, "a/1": b"1", "a/2": b"2", "b": b"b"}),
    tar_of({"a/.wh.1": b"", "c": b"c", "a/3": b"3"}),
    tar_of({".wh.c": b"", "a/.wh.3": b"", "d": b"d", ".wh.b": b""}),
)


@pytest.fixture
def image(images: Images) -> Image:
    extra = {
        "history": [
            {"created_by": "one"},
            {"created_by": "ENV", "empty_layer": True},
            {"created_by": "two"},
            {"created_by": "three"},
        ],
        "something": {"else": 1},
    }
    (image,) = images.load(io.BytesIO(docker_archive(ImageSpec(LAYERS, ["app:1"], extra=extra))))
    return image


def image_of(layer: Layer) -> Image:
    """Return an image of a chain; it is not recorded."""
    diff_ids = []
    view: Layer | None = layer
    while view is not None:
        diff_ids.append(str(view.diff_id))
        view = view.parent
    document = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids[::-1]}}
    config = ConfigDocument.parse(json.dumps(document).encode(), "a test")
    return Image(config.image_id, config, (), 0)


class Squasher:
    """A store, and the comparison of a chain's tree with the trees of its squashed images, mounted."""

    def __init__(self, store: LayerStore) -> None:
        self.store = store

    def compare(self, layer: Layer) -> None:
        before = image_of(layer)
        with layer.view() as view:
            expected = tree_in(view)
        for keep in range(len(before.diff_ids)):
            after = squash(self.store, before, keep, name=None, created=CREATED)
            assert after.diff_ids[:keep] == before.diff_ids[:keep]
            assert len(after.diff_ids) in (keep, keep + 1)
            assert after.chain_id is not None
            with (
                self.store.get(after.chain_id) as top,
                self.store.context.driver.mounted(top.cache_id) as path,
            ):
                found = tree_of(Path(path))
                for name, file in expected.items():
                    if file[3] == "recent" and name in found:  # a directory that no layer describes
                        found[name] = (*found[name][:3], "recent", *found[name][4:])
                assert differences(expected, found) == [], keep
            Images(self.store).remove(str(after.image_id))


@pytest.fixture
def squasher(mounting_store: LayerStore) -> Squasher:
    return Squasher(mounting_store)


@needs_root
@pytest.mark.parametrize("name", CHAINS)
def test_a_squashed_chain_has_the_tree_that_it_had(squasher: Squasher, name: str) -> None:
    layer: Layer | str = ""
    for entries in CHAINS[name]():
        layer = register(squasher.store, tars.tar(*entries), layer)
    assert isinstance(layer, Layer)
    squasher.compare(layer)


@needs_root
@settings(
    max_examples=max(1, settings.default.max_examples // 4),  # for each driver, with each number of layers that stay
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(chain=CHAINS_OF_ENTRIES)
def test_any_squashed_chain_has_the_tree_that_it_had(squasher: Squasher, chain: list[list[Entry]]) -> None:
    registered: list[Layer] = []
    for entries in chain:
        try:
            tar = tars.tar(*(entry.tar() for entry in entries))
            registered.append(register(squasher.store, tar, registered[-1] if registered else ""))
        except InvalidLayer:
            continue
    if registered:
        squasher.compare(registered[-1])
    for layer in reversed(registered):
        squasher.store.release(layer)


def names_in(store: LayerStore, image: Image) -> list[list[str]]:
    found = []
    for chain_id in image.chain_ids:
        with store.get(chain_id) as layer, tarfile.open(fileobj=io.BytesIO(export(layer))) as tar:
            found.append(tar.getnames())
    return found


def test_whiteouts_stay_only_where_a_lower_layer_has_the_name(store: LayerStore, images: Images, image: Image) -> None:
    assert names_in(store, images.squash(image, name="all:1")) == [["a", "a/2", "d"]]
    assert names_in(store, images.squash(image, keep=1, name="two:1"))[1:] == [[".wh.b", "a", "a/.wh.1", "d"]]


def test_config_stays_and_steps_lose_their_layers(images: Images, image: Image) -> None:
    made = images.squash("app:1", keep=1, name="app:squashed", created=CREATED, message="why")
    assert made.names == ("app:squashed",)
    assert images.get("app:1").image_id == image.image_id
    old: dict[str, Any] = json.loads(image.config.data)
    new: dict[str, Any] = json.loads(made.config.data)
    assert new.pop("history") == [
        {"created_by": "one"},
        {"created_by": "ENV", "empty_layer": True},
        {"created_by": "two", "empty_layer": True},
        {"created_by": "three", "empty_layer": True},
        {"created": CREATED, "created_by": "layerstore squash", "comment": "why"},
    ]
    assert new.pop("rootfs")["diff_ids"] == list(made.diff_ids)
    assert new.pop("created") == CREATED
    assert new == {key: old[key] for key in new}
    assert set(old) - set(new) == {"history", "rootfs", "created"}
    assert [step.layer for step in images.history(made)] == [made.chain_ids[1], None, None, None, made.chain_ids[0]]
    assert images.squash("app:1", keep=1, name="again", created=CREATED, message="why").image_id == made.image_id


def test_the_lowest_layer_can_be_named(images: Images, image: Image) -> None:
    expected = images.squash(image, keep=1, created=CREATED)
    for layer in (image.chain_ids[1], image.chain_ids[1].hex[:6], image.diff_ids[1], image.diff_ids[1].hex[:8]):
        assert images.squash(image, since=layer, created=CREATED).image_id == expected.image_id


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep": 3}, "3 layers"),
        ({"keep": -1}, "3 layers"),
        ({"since": "abc"}, "four or more digits"),
        ({"since": "0000000000"}, "no layer of the image begins"),
        ({"since": "0000", "keep": 1}, "either keep or since"),
    ],
)
def test_layers_that_cannot_be_squashed(images: Images, image: Image, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        images.squash(image, name="x", **options)
    assert [found.image_id for found in images.all()] == [image.image_id]


def test_layers_that_undo_each_other_leave_no_layer(images: Images) -> None:
    layers = (tar_of({"a": b"a"}), tar_of({"b": b"b"}), tar_of({".wh.b": b""}))
    images.load(io.BytesIO(docker_archive(ImageSpec(layers, ["app:1"]))))
    made = images.squash("app:1", keep=1, name="app:2")
    assert len(made.diff_ids) == 1
    assert json.loads(made.config.data)["history"][-1]["empty_layer"] is True


def test_a_damaged_layer_is_an_error_and_leaves_nothing(store: LayerStore, images: Images, image: Image) -> None:
    before = store.chain_ids()
    with store.get(image.chain_ids[2]) as layer, store.driver.mounted(layer.cache_id) as path:
        Path(path, "d").write_bytes(b"X")
    with pytest.raises(IntegrityError):
        images.squash(image, name="x")
    assert store.chain_ids() == before
    assert [found.names for found in images.all()] == [("app:1",)]
