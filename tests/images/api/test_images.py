"""Finding, naming and removing images."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from layerstore_core import LayerStore
from layerstore_core.errors import ImageDoesNotExist, ImageInUse, InvalidReference, done_before
from layerstore_core.images import Images, Removal
from layerstore_core.images.keep.recipe import Recipes
from layerstore_core.maintenance.check import check_store
from layerstore_core.maintenance.gc import collect_garbage
from layerstore_core.store.context import images_key
from tests.conftest import OpenStore
from tests.images.archives import ImageSpec, docker_archive, docker_files, tar_files
from tests.store.layers import BASE, MIDDLE, TOP, export, names_of

APP = ImageSpec((BASE, MIDDLE), ("app:1",))
CHILD = ImageSpec((BASE, MIDDLE, TOP), ("child:1",))


@pytest.fixture
def app(images: Images) -> Images:
    images.load(io.BytesIO(docker_archive(APP)))
    return images


def load_with_parent(images: Images, *chain: ImageSpec) -> None:
    """Load images, each of which was built from the one before, as in archives of the classic builder."""
    files = docker_files(*chain)
    manifest = json.loads(files["manifest.json"])
    for item, parent in zip(manifest[1:], chain, strict=False):
        item["Parent"] = parent.image_id
    images.load(io.BytesIO(tar_files({**files, "manifest.json": json.dumps(manifest).encode()})))


def test_layers_of_an_image_are_not_removed(app: Images, store: LayerStore, open_store: OpenStore) -> None:
    assert collect_garbage(store) == []
    with store.get(names_of(*APP.layers)[-1]) as top:
        assert store.release(top) == []
    other = open_store()
    assert collect_garbage(other) == []
    with other.get(names_of(*APP.layers)[-1]) as top:
        assert export(top) == MIDDLE
    assert check_store(other, full=True) == []


def test_an_image_is_found_by_name_and_by_id(app: Images) -> None:
    image = app.get("app:1")
    for name in ("docker.io/library/app:1", APP.image_id, APP.image_id[7:], APP.image_id[7:11], APP.image_id[:11]):
        assert app.get(name) == image
    for name in ("app", "app:2", "other:1", "abc", "f" * 64, "No Name", ""):
        with pytest.raises(ImageDoesNotExist):
            app.get(name)


def test_digits_that_begin_two_ids_are_ambiguous(images: Images) -> None:
    made: dict[str, ImageSpec] = {}
    number = 0
    while True:
        spec = ImageSpec((BASE,), (f"a:{number}",), extra={"comment": str(number)})
        twin = made.setdefault(spec.image_id[7:11], spec)
        if twin is not spec:
            break
        number += 1
    images.load(io.BytesIO(docker_archive(twin, spec)))
    with pytest.raises(ImageDoesNotExist, match="give more digits") as caught:
        images.get(spec.image_id[7:11])
    assert twin.image_id in str(caught.value) and spec.image_id in str(caught.value)


def test_a_name_is_preferred_to_an_id_with_the_same_digits(images: Images) -> None:
    images.load(io.BytesIO(docker_archive(APP, CHILD)))
    images.tag("app:1", f"{CHILD.image_id[7:15]}:latest")
    assert images.get(CHILD.image_id[7:15]).image_id == APP.image_id


def test_tag_adds_a_name(app: Images) -> None:
    assert str(app.tag("app:1", "org/other")) == "org/other:latest"
    assert app.get("org/other").names == ("app:1", "org/other:latest")
    with pytest.raises(InvalidReference):
        app.tag("app:1", "No Name")
    with pytest.raises(InvalidReference, match="digest"):
        app.tag("app:1", "a@sha256:" + "ab" * 32)
    with pytest.raises(ImageDoesNotExist):
        app.tag("none", "new:1")


def test_history_returns_steps_with_layers_and_sizes(app: Images) -> None:
    top, base = names_of(*APP.layers)[::-1]
    steps = app.history(app.get("app:1"))
    assert [(step.created_by, step.layer) for step in steps] == [("CMD", None), ("step 1", top), ("step 0", base)]
    assert steps[0].size == 0
    assert sum(step.size for step in steps) == app.get("app:1").size


def test_an_image_is_removed_with_its_last_name(app: Images, store: LayerStore) -> None:
    app.tag("app:1", "app:2")
    first = app.remove("app:1")
    assert (first.untagged, first.deleted, first.layers) == (["app:1"], [], [])
    second = app.remove("app:2")
    assert (second.untagged, second.deleted) == (["app:2"], [APP.image_id])
    assert [layer.chain_id for layer in second.layers] == names_of(*APP.layers)[::-1]
    assert (app.all(), store.layers()) == ([], {})
    with pytest.raises(ImageDoesNotExist):
        app.remove("app:2")


def test_an_image_given_by_its_id_is_removed_with_its_name(app: Images) -> None:
    app.tag("app:1", "app:2")
    with pytest.raises(ImageInUse, match="several names: app:1, app:2"):
        app.remove(APP.image_id)
    assert app.remove(APP.image_id, force=True).untagged == ["app:1", "app:2"]
    assert app.all() == []


def test_layers_of_other_images_and_pinned_layers_stay(images: Images, store: LayerStore) -> None:
    images.load(io.BytesIO(docker_archive(APP, CHILD)))
    removed = images.remove("child:1")
    assert [layer.chain_id for layer in removed.layers] == names_of(*CHILD.layers)[-1:]
    with store.get(names_of(BASE)[0]) as base:
        store.pin(base)
    removed = images.remove("app:1")
    assert [layer.chain_id for layer in removed.layers] == names_of(*APP.layers)[-1:]
    assert list(store.layers()) == names_of(BASE)


def test_an_image_with_a_writable_layer_stays_unless_forced(app: Images, store: LayerStore) -> None:
    rw = store.create_rw_layer("work", app.get("app:1").chain_id or "")
    with pytest.raises(ImageInUse, match="work"):
        app.remove("app:1")
    assert app.get("app:1").names == ("app:1",)
    removed = app.remove("app:1", force=True)
    assert (removed.deleted, removed.layers) == ([APP.image_id], [])
    assert len(store.release_rw_layer(rw)) == 2


def test_the_parent_of_an_image_stays_without_a_name_until_that_image_is_removed(
    images: Images, store: LayerStore
) -> None:
    load_with_parent(images, APP, CHILD)
    first = images.remove("app:1")
    assert (first.untagged, first.deleted) == (["app:1"], [])
    with pytest.raises(ImageInUse, match=CHILD.image_id):
        images.remove(APP.image_id, force=True)
    second = images.remove("child:1")
    assert second.deleted == [CHILD.image_id, APP.image_id]
    assert store.layers() == {}


def test_the_parent_of_a_removed_image_stays_if_it_has_a_name(images: Images) -> None:
    load_with_parent(images, APP, CHILD)
    assert images.remove("child:1").deleted == [CHILD.image_id]
    assert [image.names for image in images.all()] == [("app:1",)]


def test_a_damaged_config_is_found_by_check_and_can_be_removed(app: Images, store: LayerStore) -> None:
    config = store.root / f"image/vfs/imagedb/content/sha256/{APP.image_id[7:]}"
    config.write_bytes(b"{}")
    assert app.all() == []
    (finding,) = check_store(store)
    assert (finding.code, finding.subject) == ("damaged-image", str(config))
    assert app.remove("app:1").deleted == [APP.image_id]
    assert check_store(store) == []


def test_missing_layers_are_found_by_check(app: Images, open_store: OpenStore, store: LayerStore) -> None:
    import shutil

    store.close()
    shutil.rmtree(store.context.db.layer_path(names_of(*APP.layers)[-1]))  # type: ignore[arg-type]
    other = open_store()
    assert [image.size for image in Images(other).all()] == [None]
    findings = check_store(other)
    assert [finding.code for finding in findings] == ["image-without-layers"]
    assert Images(other).remove("app:1").deleted == [APP.image_id]


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"Repositories":[]}', b'{"Repositories":{"a":{"a:1":"x"}}}'])
def test_a_damaged_file_of_names_is_found_by_check(app: Images, store: LayerStore, content: bytes) -> None:
    names = Path(store.root / "image/vfs/repositories.json")
    names.write_bytes(content)
    (finding,) = check_store(store)
    assert (finding.code, finding.subject) == ("damaged-image", str(names))


def test_recipes_are_removed_while_no_other_process_changes_images(
    store: LayerStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A load between the listing of the layers and the removal of the other recipes would lose its recipe."""
    path = tmp_path / "image.tar"
    path.write_bytes(docker_archive(ImageSpec([BASE], names=["demo:1"])))
    images = Images(store)
    images.load(path)
    locked = []
    real = Recipes.keep_only

    def keep_only(self, wanted):
        locked.append(store.context.locks._threads.get(images_key(store.driver_name)) is not None)
        real(self, wanted)

    monkeypatch.setattr(Recipes, "keep_only", keep_only)
    images.remove("demo:1")
    assert locked == [True]


def test_an_error_has_what_was_removed_before(app: Images, store: LayerStore) -> None:
    with pytest.raises(ImageDoesNotExist) as caught:
        app.remove(["app:1", "nosuch", "other"])
    done = caught.value.done
    assert isinstance(done, Removal)
    assert (done.untagged, done.deleted, len(done.layers)) == (["app:1"], [APP.image_id], 2)
    assert done_before(caught.value) is done
    with pytest.raises(ImageDoesNotExist) as caught:
        app.remove("nosuch")
    assert done_before(caught.value) is None


def test_images_built_from_each_other_are_removed_in_one_call(images: Images, store: LayerStore) -> None:
    """Each name is removed as if those before it were removed already."""
    load_with_parent(images, APP, CHILD)
    with pytest.raises(ImageInUse, match="other images were built from it"):
        images.remove([APP.image_id, "child:1"])
    assert images.remove(["child:1", APP.image_id]).deleted == [CHILD.image_id, APP.image_id]
    assert (images.all(), store.layers(), check_store(store)) == ([], {}, [])
