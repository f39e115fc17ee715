"""Images from images: another config without reading a layer, or layers that are in the store."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from layerstore_core import (
    ChainID,
    ConfigOptions,
    ImageConfig,
    ImageDoesNotExist,
    Images,
    InvalidImage,
    InvalidLayer,
    InvalidReference,
    LayerDoesNotExist,
    LayerStore,
)
from layerstore_core.maintenance.check import check_store
from layerstore_core.maintenance.gc import collect_garbage
from tests.images.make.images_of import RUN, WHEN, document, load
from tests.store.layers import BASE, MIDDLE, TOP, chain, names_of, register, tar_of, tree

AT = ConfigOptions(created=WHEN)


def test_another_config_has_the_same_layers(store: LayerStore, images: Images) -> None:
    base = load(images, BASE, MIDDLE)
    options = ConfigOptions(created=WHEN, env={"A": "2"}, labels={"l": None}, message="why", author="me")
    made = images.configure("base:1", "app:1", options)
    assert made == images.get("app:1")
    assert made.diff_ids == base.diff_ids
    assert made.size == base.size
    found, before = document(made), document(base)
    assert found["config"] == {**{key: RUN[key] for key in RUN if key != "Labels"}, "Env": ["PATH=/bin", "A=2"]}
    assert found["history"] == [
        *before["history"],
        {"created": WHEN, "author": "me", "created_by": "ENV A=2; LABEL l-", "comment": "why", "empty_layer": True},
    ]
    assert list(found)[: len(before)] == list(before), "the keys keep their places"
    assert store.context.image_db.parent(made.image_id) == base.image_id
    assert images.get("base:1") == base
    assert check_store(store, full=True) == []


def test_no_layer_is_read(store: LayerStore, images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    load(images, BASE)

    def refuse(*_: object, **__: object) -> Any:
        raise AssertionError("a layer is read")

    for name in ("diff_getter", "diff", "get", "apply_diff"):
        monkeypatch.setattr(type(store.driver), name, refuse)
    assert images.configure("base:1", "app", AT).names == ("app:latest",)


def test_the_same_changes_and_time_give_the_same_image(images: Images) -> None:
    base = load(images, BASE)
    options = ConfigOptions(created=WHEN, env={"B": "1"})
    first, second = images.configure(base, "a", options), images.configure(base.image_id, "b", options)
    assert first.image_id == second.image_id
    assert images.get("a").names == ("a:latest", "b:latest")


def test_source_date_epoch_is_the_time(images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    found = document(images.configure(load(images, BASE), "a", ConfigOptions(user="me")))
    assert (found["created"], found["history"][-1]["created"]) == ("2023-11-14T22:13:20Z", "2023-11-14T22:13:20Z")


def test_a_name_can_be_kept(images: Images) -> None:
    load(images, BASE)
    made = images.configure("base:1", "base:1", AT)
    assert images.get("base:1").image_id == made.image_id
    removal = images.remove("base:1")
    assert len(removal.deleted) == 2, "the image that lost its name goes with the one made from it"


def test_an_image_without_layers(images: Images) -> None:
    assert document(images.configure(load(images), "app", ConfigOptions(created=WHEN, cmd=["x"])))["config"]["Cmd"] == [
        "x"
    ]


def test_annotations_belong_to_the_manifest(store: LayerStore, images: Images) -> None:
    base = load(images, BASE)
    first = images.configure(base, "a", ConfigOptions(created=WHEN, annotations={"x": "1", "y": "2"}))
    second = images.configure(first, "b", ConfigOptions(created=WHEN, annotations={"x": None}, user="me"))
    kept = store.context.kept
    for image, expected in ((first, {"x": "1", "y": "2"}), (second, {"y": "2"})):
        origin = kept.origin(image.image_id)
        assert origin is not None
        assert origin.annotations == expected
    assert "annotations" not in document(first)


@pytest.mark.parametrize(
    ("run", "message"),
    [({"Env": "A=1"}, "config.Env"), ([], "config"), ({"Labels": {"a": 1}}, "config.Labels.a")],
)
def test_a_hostile_config_is_kept_but_not_changed(store: LayerStore, images: Images, run: Any, message: str) -> None:
    load(images, BASE, run=run)
    before = tree(store.root)
    with pytest.raises(InvalidImage, match=message):
        images.configure("base:1", "app", AT)
    assert tree(store.root) == before


def test_an_image_whose_layers_are_missing(store: LayerStore, images: Images) -> None:
    base = load(images, BASE)
    data = base.config.data.replace(base.diff_ids[0].encode(), b"sha256:" + b"1" * 64)
    with store.context.changing_images() as records:
        image = records.add(data)
    with pytest.raises(LayerDoesNotExist):
        images.configure(image, "app", AT)
    assert len(store.context.image_db.image_ids()) == 2


def test_how_docker_made_the_base_is_left_out(images: Images, tmp_path: Path) -> None:
    """`container`, `container_config` and `docker_version` say how the base's last step was built."""
    of_docker = {"container": "1" * 64, "container_config": {"Cmd": ["#(nop) CMD"]}, "docker_version": "20.10.24"}
    load(images, BASE, name="old", **of_docker)
    load(images, tar_of({"new": b"new"}), name="new", **of_docker)
    base = load(images, BASE, MIDDLE, **of_docker, id="kept")
    (tmp_path / "file").write_bytes(b"x")
    with images.create_rw_layer("work", "base:1") as rw:
        made = [
            images.commit(rw, None, config=AT),
            images.configure("base:1", None, AT),
            images.append("base:1", [(tmp_path / "file", "/")], name="app", config=AT),
            images.squash("base:1", name="flat", created=WHEN),
            images.rebase("base:1", "old", "new", "rebased", created=WHEN),
        ]
    for image in made:
        found = document(image)
        assert [key for key in of_docker if key in found] == []
        assert found["id"] == "kept"
    given = ImageConfig.of(base.config)
    assert given.container == "1" * 64


def test_what_does_not_exist_and_bad_names(store: LayerStore, images: Images) -> None:
    load(images, BASE)
    with pytest.raises(ImageDoesNotExist):
        images.configure("none", "app", AT)
    for name in ("UPPER", "a@sha256:" + "1" * 64):
        with pytest.raises(InvalidReference):
            images.configure("base:1", name, AT)
    with pytest.raises(TypeError):
        images.configure(1, "app", AT)  # type: ignore[arg-type]


def test_an_image_of_layers_in_the_store(store: LayerStore, images: Images) -> None:
    layers = chain(store, BASE, MIDDLE, TOP)
    config = ImageConfig.scratch()
    config.created, config.execution.cmd = WHEN, ["sh"]
    before = config.to_bytes()
    made = images.create(layers, config, name="app:1")
    assert made == images.get("app:1")
    assert made.chain_ids == [layer.chain_id for layer in layers]
    assert [step["created_by"] for step in document(made)["history"]] == ["layerstore create"] * 3
    assert config.to_bytes() == before
    assert images.create([layers[-1]], config).image_id == made.image_id, "a layer brings its parents along"
    assert images.create([layers[-1].chain_id], config).image_id == made.image_id
    for layer in layers:
        layer.close()
    assert collect_garbage(store) == []


def test_layers_are_put_on_one_another(store: LayerStore, images: Images, tmp_path: Path) -> None:
    base, alone = register(store, BASE), register(store, MIDDLE)
    (tmp_path / "top.tar").write_bytes(TOP)
    made = images.create([base, alone, tmp_path / "top.tar"])
    assert [str(name) for name in made.chain_ids] == names_of(BASE, MIDDLE, TOP)
    assert [str(name) for name in images.create([io.BytesIO(BASE), io.BytesIO(MIDDLE)]).chain_ids] == names_of(
        BASE, MIDDLE
    )


def test_a_history_that_is_given_is_kept(store: LayerStore, images: Images) -> None:
    base = load(images, BASE, MIDDLE)
    assert base.chain_id is not None
    found = images.create([base.chain_id], ImageConfig.of(base.config))
    assert found.image_id == base.image_id
    assert found.config.data == base.config.data


def test_an_image_of_nothing(images: Images) -> None:
    assert images.create([], name="empty").diff_ids == ()


def test_layers_that_cannot_be_had_leave_nothing(store: LayerStore, images: Images) -> None:
    load(images, BASE)
    before = tree(store.root)
    with pytest.raises(InvalidLayer):
        images.create([io.BytesIO(MIDDLE), io.BytesIO(b"no tar")], name="x")
    with pytest.raises(LayerDoesNotExist):
        images.create([io.BytesIO(MIDDLE), ChainID.from_hex("1" * 64)], name="x")
    config = ImageConfig.scratch()
    config.execution.env = [1]  # type: ignore[list-item]
    with pytest.raises(InvalidImage):
        images.create([io.BytesIO(MIDDLE)], config, name="x")
    with pytest.raises(TypeError):
        images.create("base.tar")
    assert tree(store.root) == before
