"""What `du` counts: sizes, shared and own, what is in use, what could be freed, and when images were last used."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path

import pytest

from layerstore_core import ConfigOptions, Images, LayerStore
from layerstore_core.maintenance.usage import StoreUsage, disk_usage
from tests.images.archives import ImageSpec, docker_archive, tar_files

BASE = tar_files({"base": b"b" * 1000})
ONE, TWO = tar_files({"one": b"1" * 10}), tar_files({"two": b"2" * 300})
A, B = ImageSpec([BASE, ONE], ["a:1"]), ImageSpec([BASE, TWO], ["b:1"])


@pytest.fixture
def driver() -> str:
    return "vfs"


@pytest.fixture
def images(store: LayerStore) -> Images:
    found = Images(store)
    found.load(io.BytesIO(docker_archive(A, B)))
    return found


def totals(usage: StoreUsage) -> list[tuple[int, int, int, int]]:
    return [(total.count, total.in_use, total.size, total.reclaimable) for total in usage.totals[:3]]


def by_name(usage: StoreUsage) -> dict[str, tuple[int, int, int, bool]]:
    return {one.names[0]: (one.size, one.shared, one.own, one.in_use) for one in usage.images}


def test_an_empty_store_takes_nothing(store: LayerStore) -> None:
    assert totals(disk_usage(store)) == [(0, 0, 0, 0)] * 3


@pytest.mark.usefixtures("images")
def test_a_layer_that_images_share_counts_once(store: LayerStore) -> None:
    usage = disk_usage(store)
    assert totals(usage) == [(2, 0, 1310, 1310), (3, 3, 1310, 0), (0, 0, 0, 0)]
    assert by_name(usage) == {"a:1": (1010, 1000, 10, False), "b:1": (1300, 1000, 300, False)}
    assert sorted((layer.diff_size, layer.images) for layer in usage.layers) == [(10, 1), (300, 1), (1000, 2)]


def test_layers_of_an_image_in_use_cannot_be_freed(store: LayerStore, images: Images) -> None:
    with store.create_rw_layer("work", images.get("a:1").chain_id) as rw, rw.mounted() as path:
        (Path(path) / "new").write_bytes(b"n" * 77)
        usage = disk_usage(store)
        assert totals(usage) == [(2, 1, 1310, 300), (3, 3, 1310, 0), (1, 1, 77, 0)]
        assert {one.names[0]: one.rw_layers for one in usage.images} == {"a:1": ("work",), "b:1": ()}
    assert totals(disk_usage(store))[2] == (1, 0, 77, 77)


def test_a_pin_and_a_handle_of_another_store_are_uses(store: LayerStore, images: Images, open_store) -> None:
    other = open_store()
    handle = other.get(images.get("b:1").chain_id)
    assert by_name(disk_usage(store))["b:1"][3]
    handle.close()
    assert not by_name(disk_usage(store))["b:1"][3]
    with store.get(images.get("a:1").chain_id) as layer:
        store.pin(layer)
    assert totals(disk_usage(store))[0] == (2, 1, 1310, 300)


def test_layers_without_references_can_be_freed(store: LayerStore) -> None:
    store.register(io.BytesIO(ONE)).close()
    with store.register(io.BytesIO(TWO)) as layer:
        store.pin(layer)
    assert totals(disk_usage(store))[1] == (2, 1, 310, 10)


def test_nothing_can_be_freed_while_a_record_is_unreadable(store: LayerStore, images: Images) -> None:
    store.register(io.BytesIO(TWO)).close()
    config = store.context.image_db.config_path(images.get("a:1").image_id)
    config.write_bytes(b"{")
    usage = disk_usage(store)
    assert [one.names for one in usage.images] == [("b:1",)]
    assert [total.reclaimable for total in usage.totals[:3]] == [0, 0, 0]


def test_a_use_is_recorded_and_forgotten_with_the_layer(store: LayerStore, images: Images) -> None:
    image = images.get("a:1")
    chain, times = image.chain_id, store.context.last_used
    assert chain is not None

    def use_after_long(what) -> bool:
        times.note([chain], 1000)
        what()
        return (times.of(chain) or 0) > 1000

    assert not use_after_long(lambda: images.inspect("a:1"))
    assert use_after_long(lambda: store.create_rw_layer("box", chain))
    assert use_after_long(lambda: store.get_rw_layer("box").mount())
    assert use_after_long(lambda: images.save("a:1", io.BytesIO()))
    assert use_after_long(lambda: images.load(io.BytesIO(docker_archive(A))))


@pytest.mark.parametrize("how", ["append", "config", "squash", "rebase"])
def test_the_images_that_another_one_is_made_from_are_used(store: LayerStore, images: Images, how: str) -> None:
    config = ConfigOptions(labels={"a": "b"})
    used = [images.get("a:1").chain_id]
    store.context.last_used.note(filter(None, used), 1000)
    match how:
        case "append":
            images.append("a:1", [(__file__, "/f")])
        case "config":
            images.configure("a:1", None, config)
        case "squash":
            images.squash("a:1")
        case "rebase":
            other = images.append("a:1", [(__file__, "/f")], name="other:1")
            used += [images.get("b:1").chain_id]
            store.context.last_used.note(filter(None, used), 1000)
            images.rebase(other, "a:1", "b:1", None)
    assert all((store.context.last_used.of(chain) or 0) > 1000 for chain in used if chain)


def test_a_time_is_kept_by_no_content(store: LayerStore, images: Images) -> None:
    times, chain = store.context.last_used, images.get("a:1").chain_id
    assert chain is not None
    times.note([chain], 1000.5)
    assert (times.directory / chain.hex).stat().st_size == 0
    assert times.of(chain) == times.all()[chain] == 1000.5
    times.note([chain], time.time() + 10 * 86_400)
    assert times.of(chain) is None
    assert chain not in times.all()


@pytest.mark.parametrize("far", [10**11, 2**33])
def test_the_time_of_an_image_is_that_of_its_record_at_first(store: LayerStore, images: Images, far: int) -> None:
    recorded = store.context.image_db.recorded_at(images.get("a:1").image_id)
    for path in store.context.last_used.directory.iterdir():
        os.utime(path, (far, far))  # a wrong clock, or damage
    assert all(abs(one.last_used - recorded) < 60 for one in disk_usage(store).images)


def test_times_of_layers_that_are_gone_are_removed(store: LayerStore, images: Images) -> None:
    chain = images.get("a:1").chain_id
    assert chain is not None
    images.remove("a:1")
    assert store.context.last_used.of(chain) is None
    store.context.last_used.note([chain])
    from layerstore_core.maintenance.gc import collect_garbage

    collect_garbage(store)
    assert store.context.last_used.of(chain) is None


def test_a_root_for_reading_gets_no_times(store: LayerStore, images: Images, open_store) -> None:
    chain = images.get("a:1").chain_id
    store.context.last_used.note([chain], 1000)
    with LayerStore.open(root=store.root, driver="vfs", read_only=True) as reader:
        Images(reader).save("a:1", io.BytesIO())
        assert disk_usage(reader).totals[0].count == 2
    assert store.context.last_used.of(chain) == 1000
