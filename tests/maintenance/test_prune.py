"""`prune`: which images and layers go, in which order, and what is never touched."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerstore_core import ImageFilter, ImageID, Images, LayerStore, LayerStoreError, StoreConfig
from layerstore_core.base.digests import ChainID, chain_id
from layerstore_core.driver.bound import BoundDriver
from layerstore_core.errors import done_before
from layerstore_core.maintenance.check import check_store
from layerstore_core.maintenance.gc import collect_garbage
from layerstore_core.maintenance.prune import Pruned, prune
from layerstore_core.records.imagedb import ImageDB
from tests.images.archives import (
    ImageSpec,
    docker_archive,
    oci_index,
    oci_manifest,
    sha256,
    tar_files,
    write_files,
)
from tests.store.test_killed import killed

DAY = 86_400


def tar_of(name: str, size: int) -> bytes:
    return tar_files({name: name[:1].encode() * size})


def age(store: LayerStore, name: str, days: float) -> None:
    """Make an image look as if it was last used some days ago."""
    image = Images(store).get(name)
    age_image(store, image.image_id, time.time() - days * DAY)


def age_image(store: LayerStore, image: ImageID, when: float) -> None:
    records = store.context.image_db
    os.utime(records.config_path(image), (when, when))
    metadata = records.parent_path(image).parent / "lastUpdated"
    metadata.unlink(missing_ok=True)
    top = records.top_layer(image)
    if top is not None:
        store.context.last_used.note([top], when)


@pytest.fixture
def driver() -> str:
    return "vfs"


BASE = tar_of("base", 1000)
OLD, NEW = ImageSpec([BASE, tar_of("old", 100)], ["old:1", "old:2"]), ImageSpec([BASE, tar_of("new", 10)], ["new:1"])
NAMELESS = ImageSpec([tar_of("less", 5)])


@pytest.fixture
def images(store: LayerStore) -> Images:
    found = Images(store)
    found.load(io.BytesIO(docker_archive(OLD, NEW, NAMELESS)))
    age(store, "old:1", 10)
    age(store, "new:1", 1)
    age(store, NAMELESS.image_id, 3)
    return found


def names_of(store: LayerStore) -> list[str]:
    return sorted(store.context.image_db.names())


def test_without_options_only_images_without_a_name_are_removed(store: LayerStore, images: Images) -> None:
    pruned = prune(store)
    assert pruned.deleted == [NAMELESS.image_id]
    assert pruned.untagged == []
    assert [layer.diff_size for layer in pruned.layers] == [5]
    assert prune(store) == Pruned()
    assert check_store(store, full=True) == []


def test_named_images_are_removed_with_all_their_names_the_oldest_first(store: LayerStore, images: Images) -> None:
    pruned = prune(store, named=True)
    assert pruned.untagged == ["old:1", "old:2", "new:1"]
    assert pruned.deleted == [OLD.image_id, NAMELESS.image_id, NEW.image_id]
    assert (pruned.bytes, store.layers(), names_of(store)) == (1115, {}, [])


def test_images_that_were_used_lately_stay(store: LayerStore, images: Images) -> None:
    assert prune(store, older_than=2 * DAY).deleted == [OLD.image_id, NAMELESS.image_id]
    assert names_of(store) == ["new:1"]


@pytest.mark.parametrize(
    ("keep", "removed"), [(1115, []), (1114, [OLD]), (1015, [OLD]), (1014, [OLD, NAMELESS]), (0, [OLD, NAMELESS, NEW])]
)
def test_pruning_stops_when_the_rest_is_small_enough(
    store: LayerStore, images: Images, keep: int, removed: list[ImageSpec]
) -> None:
    assert prune(store, keep_storage=keep).deleted == [image.image_id for image in removed]


def test_age_and_size_have_to_be_fulfilled_both(store: LayerStore, images: Images) -> None:
    assert prune(store, older_than=5 * DAY, keep_storage=0).deleted == [OLD.image_id]


def test_a_use_makes_an_image_young_again(store: LayerStore, images: Images) -> None:
    store.release_rw_layer(store.create_rw_layer("box", images.get("old:1").chain_id))
    assert prune(store, older_than=2 * DAY).deleted == [NAMELESS.image_id]


def test_only_images_of_which_all_names_fulfil_the_condition_are_removed(store: LayerStore, images: Images) -> None:
    assert not prune(store, named=True, chosen=ImageFilter.parse([("reference", "old:1")]))
    assert prune(store, named=True, chosen=ImageFilter.parse([("reference", "old")])).deleted == [OLD.image_id]


@pytest.mark.parametrize("use", ["pin", "handle", "other store", "writable layer", "child image"])
def test_an_image_in_use_stays(store: LayerStore, images: Images, use: str, open_store) -> None:
    top = images.get("old:1").chain_id
    assert top is not None
    if use == "pin":
        with store.get(top) as layer:
            store.pin(layer)
    elif use == "handle":
        store.get(top)
    elif use == "other store":
        open_store().get(top)
    elif use == "writable layer":
        store.create_rw_layer("box", top).close()
    else:
        child = ImageID.of(b"child")
        config = json.dumps({"rootfs": {"diff_ids": [sha256(layer) for layer in OLD.layers]}, "x": child}).encode()
        with store.get(top), store.context.changing_images() as records:
            child = records.add(config, parent=ImageID(OLD.image_id))
            records.set_names({**records.names(), "child:1": child})
        chosen = ImageFilter.parse([("reference", "old")])
        assert not prune(store, named=True, chosen=chosen)
        # The child is removed first, and then the image that it was built from.
        assert prune(store, named=True, chosen=ImageFilter.parse([("reference", "[oc]*")])).deleted == [
            child,
            OLD.image_id,
        ]
        return
    assert prune(store, named=True, dry_run=True).deleted == [NAMELESS.image_id, NEW.image_id]
    assert prune(store, named=True).deleted == [NAMELESS.image_id, NEW.image_id]
    assert names_of(store) == ["old:1", "old:2"]
    assert top in store.layers()


def test_an_image_that_comes_into_use_after_the_choice_stays(
    store: LayerStore, images: Images, open_store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from layerstore_core.maintenance import prune as module

    other, plan = open_store(), module._plan
    top = images.get("old:1").chain_id

    def plan_and_use(*args, **kwargs):
        found = plan(*args, **kwargs)
        other.get(top)
        return found

    monkeypatch.setattr(module, "_plan", plan_and_use)
    assert prune(store, named=True).deleted == [NAMELESS.image_id, NEW.image_id]
    assert names_of(store) == ["old:1", "old:2"]


def test_layers_without_references_are_removed_too(store: LayerStore) -> None:
    base = store.register(io.BytesIO(BASE))
    store.register(io.BytesIO(tar_of("top", 7)), base).close()
    base.close()
    pinned = store.register(io.BytesIO(tar_of("pin", 9)))
    store.pin(pinned)
    pinned.close()
    would = prune(store, dry_run=True)
    assert [layer.diff_size for layer in would.layers] == [7, 1000]
    assert prune(store) == would
    assert list(store.layers()) == [pinned.chain_id]


def test_nothing_is_removed_while_a_record_cannot_be_read(store: LayerStore, images: Images, open_store) -> None:
    store.context.image_db.config_path(ImageID(NEW.image_id)).write_bytes(b"{")
    for dry_run in (True, False):
        with pytest.raises(LayerStoreError, match=r"nothing is pruned.*layerstore check"):
            prune(open_store(), named=True, dry_run=dry_run)
    assert len(store.layers()) == 4 and names_of(store) == ["new:1", "old:1", "old:2"]


def test_an_error_half_way_says_what_was_removed(
    store: LayerStore, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = BoundDriver.remove, iter(range(100))

    def remove(self: BoundDriver, layer_id: str) -> None:
        if next(calls) >= 2:
            raise OSError(errno.EIO, os.strerror(errno.EIO), layer_id)
        real(self, layer_id)

    monkeypatch.setattr(BoundDriver, "remove", remove)
    with pytest.raises(OSError, match="Input/output") as caught:
        prune(store, named=True)
    done = done_before(caught.value)
    assert (len(done.untagged), len(done.deleted), len(done.layers)) == (3, 3, 2)
    monkeypatch.undo()
    store.cleanup()
    prune(store)
    assert store.layers() == {} and check_store(store) == []


@pytest.mark.parametrize("where", ["set_names", "remove_all"])
@pytest.mark.parametrize("by", ["gc", "prune"])
def test_gc_or_the_next_prune_removes_what_a_killed_one_has_left(
    store: LayerStore, images: Images, open_store, where: str, by: str
) -> None:
    def work() -> None:
        with open_store() as own, pytest.MonkeyPatch.context() as patch:
            patch.setattr(ImageDB, where, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
            prune(own, named=True)

    assert killed(work)
    later = open_store()
    if where == "set_names":  # killed before any name is gone, but for that of the image without one
        assert names_of(later) == ["new:1", "old:1", "old:2"]
    else:
        assert names_of(later) == [] and len(Images(later).all()) == 3
    assert check_store(later) == []
    if by == "prune":
        assert len(prune(later, named=True).deleted) == 3
    else:
        collect_garbage(later)
        left = {OLD.image_id, NEW.image_id} if where == "set_names" else set()
        assert {image.image_id for image in Images(later).all()} == left
    assert (where, by) == ("set_names", "gc") or later.layers() == {}
    assert check_store(later) == []


def test_two_at_once_remove_each_thing_once(store: LayerStore, images: Images, open_store) -> None:
    stores, found = [store, open_store()], [Pruned(), Pruned()]

    def work(number: int) -> None:
        found[number] = prune(stores[number], named=True)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    deleted = found[0].deleted + found[1].deleted
    assert sorted(deleted) == sorted([OLD.image_id, NEW.image_id, NAMELESS.image_id])
    chains = [layer.chain_id for one in found for layer in one.layers]
    assert len(chains) == len(set(chains)) == 4


def test_images_for_several_platforms_with_one_name_go_together(store: LayerStore, tmp_path: Path) -> None:
    images = [
        ImageSpec([BASE, tar_of(arch, 10)], extra={"architecture": arch, "os": "linux"}) for arch in ("amd64", "arm64")
    ]
    files: dict[str, bytes] = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}
    entry = oci_index(files, [oci_manifest(files, image) for image in images])
    entry["annotations"] = {"io.containerd.image.name": "docker.io/library/app:1"}
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    found = Images(store)
    loaded = found.load(write_files(tmp_path / "layout", files), all_platforms=True)
    assert len(loaded) == 2
    for image in loaded:
        age_image(store, image.image_id, time.time() - 9 * DAY)
    young = loaded[1].chain_id
    assert young is not None
    store.context.last_used.note([young])
    assert not prune(store, older_than=5 * DAY)
    store.context.last_used.note([young], time.time() - 9 * DAY)
    with store.get(young):
        assert not prune(store, named=True)
    would = prune(store, older_than=5 * DAY, dry_run=True)
    assert (would.untagged, sorted(would.deleted)) == (["app:1"], sorted(image.image_id for image in loaded))
    assert prune(store, older_than=5 * DAY) == would
    assert (store.layers(), names_of(store), collect_garbage(store), check_store(store)) == ({}, [], [], [])


# A property: the result equals that of a simple model.


@dataclass(frozen=True)
class AnImage:
    """An image of the model: the numbers of its layers, its names, its age in days, and the image it was built from."""

    layers: tuple[int, ...]
    names: int
    age: int
    parent: int


Known = dict[ImageID, tuple[AnImage, list[ChainID], ImageID | None]]


@dataclass(frozen=True)
class Situation:
    images: list[AnImage]
    loose: list[tuple[int, ...]]
    pins: set[int]
    writable: set[int]
    handles: set[int] = field(default_factory=set)


PATHS = st.lists(st.integers(0, 2), min_size=1, max_size=3).map(tuple)
IMAGES = st.builds(AnImage, PATHS, st.integers(0, 2), st.integers(0, 4), st.integers(-8, 5))
SITUATIONS = st.builds(
    Situation,
    st.lists(IMAGES, max_size=6),
    st.lists(PATHS, max_size=3),
    st.sets(st.integers(0, 12), max_size=2),
    st.sets(st.integers(0, 12), max_size=2),
    st.sets(st.integers(0, 12), max_size=1),
)


def size_of(number: int) -> int:
    return 10 ** (number + 1)


TARS = [tar_files({f"f{number}": b"x" * size_of(number)}) for number in range(3)]


def chains_of(path: tuple[int, ...]) -> list[ChainID]:
    found: list[ChainID] = []
    for number in path:
        found.append(chain_id(sha256(TARS[number]), found[-1] if found else None))  # type: ignore[arg-type]
    return found


class Model:
    """A store as sets: the images that are there, and what else refers to layers."""

    def __init__(
        self, images: dict[ImageID, tuple[AnImage, list[ChainID], ImageID | None]], used: set[ChainID]
    ) -> None:
        self.images = images
        self.used = used
        self.path: dict[ChainID, list[ChainID]] = {}
        self.sizes: dict[ChainID, int] = {}

    def learn(self, path: tuple[int, ...]) -> None:
        chains = chains_of(path)
        for at, chain in enumerate(chains):
            self.path[chain] = chains[: at + 1]
            self.sizes[chain] = size_of(path[at])

    def layers(self) -> set[ChainID]:
        tops = {chains[-1] for _, chains, _ in self.images.values()} | self.used
        return {chain for top in tops for chain in self.path[top]}

    def prune(self, *, named: bool, days: int | None, keep: int | None) -> list[ImageID]:
        removed = []
        while True:
            fit = [
                (-image.age, one)
                for one, (image, chains, _) in self.images.items()
                if (named or not image.names)
                and (days is None or image.age >= days)
                and chains[-1] not in self.used
                and not any(parent == one for _, _, parent in self.images.values())
            ]
            if not fit or (keep is not None and sum(self.sizes[chain] for chain in self.layers()) <= keep):
                return removed
            removed.append(min(fit)[1])
            del self.images[removed[-1]]


def build(store: LayerStore, situation: Situation, handles: ExitStack) -> Model:
    now = time.time()
    known: Known = {}
    model = Model(known, set())
    tops = []
    names = {}
    records = store.context.image_db
    for path in [*(image.layers for image in situation.images), *situation.loose]:
        layer = None
        for number in path:
            layer = handles.enter_context(store.register(io.BytesIO(TARS[number]), layer))
        assert layer is not None
        model.learn(path)
        tops.append(layer)
    ids: list[ImageID] = []
    for number, image in enumerate(situation.images):
        diff_ids = [sha256(TARS[layer]) for layer in image.layers]
        parent = ids[image.parent] if 0 <= image.parent < len(ids) else None
        config = json.dumps({"rootfs": {"diff_ids": diff_ids}, "number": number}).encode()
        ids.append(records.add(config, parent))
        known[ids[-1]] = image, chains_of(image.layers), parent
        names.update({f"image{number}:{name}": ids[-1] for name in range(image.names)})
    records.set_names(names)
    # Images with the same layers share the time of the topmost layer: the last use of any of them.
    youngest = {
        image.layers: min(o.age for o in situation.images if o.layers == image.layers) for image in situation.images
    }
    for one, image in zip(ids, situation.images, strict=True):
        known[one] = AnImage(image.layers, image.names, youngest[image.layers], image.parent), *known[one][1:]
        age_image(store, one, now - youngest[image.layers] * DAY - 60)
    chains = sorted(model.path)
    for index in situation.pins:
        if index < len(chains):
            store.pin(handles.enter_context(store.get(chains[index])))
            model.used.add(chains[index])
    for index in situation.writable:
        if index < len(chains):
            store.create_rw_layer(f"rw{index}", chains[index]).close()
            model.used.add(chains[index])
    # A new writable layer is a use.
    for one, image in zip(ids, situation.images, strict=True):
        age_image(store, one, now - youngest[image.layers] * DAY - 60)
    return model


@given(SITUATIONS, st.none() | st.booleans(), st.none() | st.integers(0, 4), st.none() | st.integers(0, 2500))
def test_the_result_equals_that_of_a_simple_model(
    situation: Situation, named: bool | None, days: int | None, keep: int | None
) -> None:
    with (
        TemporaryDirectory() as root,
        LayerStore.open(StoreConfig(root=Path(root), driver="vfs", durability="none")) as store,
    ):
        with ExitStack() as handles:
            model = build(store, situation, handles)
        chains = sorted(model.path)
        for index in situation.handles:
            if index < len(chains):
                store.get(chains[index])
                model.used.add(chains[index])
        options = {"named": named, "older_than": None if days is None else days * DAY, "keep_storage": keep}
        would = prune(store, dry_run=True, **options)
        assert len(store.layers()) == len(chains)
        before = dict(store.context.image_db.names())
        done = prune(store, **options)
        assert done == would
        default = days is not None or keep is not None
        assert done.deleted == model.prune(named=default if named is None else named, days=days, keep=keep)
        assert set(store.layers()) == model.layers()
        assert set(store.context.image_db.image_ids()) == set(model.images)
        left = {name: image for name, image in before.items() if image in model.images}
        assert store.context.image_db.names() == left
        assert set(done.untagged) == set(before) - set(left)
        assert check_store(store) == []
