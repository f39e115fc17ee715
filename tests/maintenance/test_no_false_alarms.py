"""A full check finds nothing in sound layers: with unusual tars, and as root or an ordinary user."""

from __future__ import annotations

import os

import pytest

from layerstore_core import InvalidLayer, LayerStore, StoreConfig
from layerstore_core.maintenance.check import check_store
from tests.across.chains import CHAINS
from tests.across.test_corpus import names, path_of
from tests.store.layers import chain
from tests.tars import tar


def corpus(store):
    """Register all valid tars of the corpus, each as a base layer and as a child of the layer before it."""
    parent = None
    for name in names():
        try:
            store.pin(store.register(path_of(name)))
            if parent is not None:
                store.pin(store.register(path_of(name), parent))
        except InvalidLayer:
            continue
        parent = store.register(path_of(name)).chain_id


@pytest.mark.parametrize("name", CHAINS)
def test_a_full_check_of_difficult_chains_finds_nothing(store, name):
    store.pin(chain(store, *(tar(*entries) for entries in CHAINS[name]()))[-1])
    assert check_store(store, full=True) == []


def test_a_full_check_of_the_corpus_finds_nothing(store):
    corpus(store)
    assert check_store(store, full=True) == []


class TestAsAnOrdinaryUser:
    """Layers without owners, devices and some attributes: they are no findings for the ordinary user, nor for root."""

    @pytest.fixture
    def driver(self):
        return "vfs"

    def check(self, ordinary_user, root, fill):
        """Fill a store as an ordinary user, and check it as this user and as root."""

        def open_() -> LayerStore:
            return LayerStore.open(StoreConfig(root=root, driver="vfs", durability="none"))

        with ordinary_user(), open_() as store:
            fill(store)
            assert check_store(store, full=True) == []
        with open_() as store:
            assert check_store(store, full=True) == []
        with ordinary_user(), open_() as store:  # a file too many is found
            layer = next(iter(store.layers().values()))
            path = os.path.join(store.driver.metadata(layer.cache_id)["Directory"], "more")
            open(path, "w").close()
            assert [finding.code for finding in check_store(store, full=True)] == ["tree-differs"]

    def test_a_full_check_of_the_corpus_finds_nothing(self, ordinary_user, open_directory):
        self.check(ordinary_user, open_directory / "store", corpus)

    @pytest.mark.parametrize("name", CHAINS)
    def test_a_full_check_of_difficult_chains_by_an_ordinary_user_finds_nothing(
        self, ordinary_user, open_directory, name
    ):
        def fill(store):
            store.pin(chain(store, *(tar(*entries) for entries in CHAINS[name]()))[-1])

        self.check(ordinary_user, open_directory / "store", fill)
