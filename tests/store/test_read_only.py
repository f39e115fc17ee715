"""A store that is opened read-only: it can be read, and no operation changes it."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest

from layerstore_core import LayerStore, StoreConfig
from layerstore_core.errors import LayerStoreError, ReadOnlyStore, StoreDoesNotExist
from layerstore_core.maintenance.check import check_store
from tests.store.layers import BASE, MIDDLE, TOP, chain, export, register, tree


@pytest.fixture
def reader(store: LayerStore) -> LayerStore:
    """Return a second store on the same root, opened read-only; the first stays open."""
    for layer in chain(store, BASE, MIDDLE):
        store.pin(layer)
    store.create_rw_layer("work", layer.chain_id)
    return LayerStore.open(store.config, read_only=True)


def test_everything_can_be_read_and_nothing_is_written(store: LayerStore, reader: LayerStore) -> None:
    before = tree(store.root)
    with reader:
        assert reader.layers().keys() == store.layers().keys()
        for name, tar in zip(chain_order(store), (BASE, MIDDLE), strict=True):
            with reader.get(name) as layer:
                assert export(layer) == tar
        assert reader.rw_layers() == ["work"]
        with reader.get_rw_layer("work") as rw:
            assert rw.changes() == []
        assert check_store(reader, full=True) == []
        assert reader.driver_status() is not None
    assert tree(store.root) == before


def chain_order(store: LayerStore) -> list[str]:
    """Return the chain IDs of the two layers, the parent first."""
    return sorted(store.layers(), key=lambda name: store.layers()[name].parent is not None)


def test_changes_by_another_store_are_seen(store: LayerStore, reader: LayerStore) -> None:
    with reader, register(store, TOP) as layer:
        assert layer.chain_id in reader.layers()


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.register(io.BytesIO(TOP)),
        lambda s: s.register_chain([]),
        lambda s: s.pin(s.get(next(iter(s.layers())))),
        lambda s: s.unpin(next(iter(s.layers()))),
        lambda s: s.create_rw_layer("new"),
        lambda s: s.get_rw_layer("work").mount(),
        lambda s: s.get_rw_layer("work").apply_diff(io.BytesIO(TOP)),
        lambda s: s.release_rw_layer(s.get_rw_layer("work")),
        lambda s: s.cleanup(),
        lambda s: s.collect(next(iter(s.layers().values()))),
        lambda s: s.context.changing_images().__enter__(),
    ],
)
def test_operations_that_change_the_store_are_refused(
    store: LayerStore, reader: LayerStore, change: Callable[[Any], object]
) -> None:
    before = tree(store.root)
    with reader, pytest.raises(ReadOnlyStore):
        change(reader)
    assert tree(store.root) == before


def test_releasing_deletes_nothing(store: LayerStore, reader: LayerStore) -> None:
    with reader:
        for name in store.pins():
            store.unpin(name)
        assert [reader.release(reader.get(name)) for name in reader.layers()] == [[], []]


def test_opening_read_only_creates_no_store(driver: str, store_root: Any) -> None:
    with pytest.raises(StoreDoesNotExist):
        LayerStore.open(StoreConfig(root=store_root, driver=driver), read_only=True)
    assert not store_root.exists()
    assert issubclass(ReadOnlyStore, LayerStoreError)
