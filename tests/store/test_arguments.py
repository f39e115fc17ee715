"""Arguments of an unusual type: they work, or fail at once with a message that says what is expected."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from layerstore_core import InvalidMountName, LayerDoesNotExist, LayerStore
from tests.store.layers import BASE, MIDDLE, register


def test_a_layer_is_accepted_in_place_of_its_chain_id(store):
    base = register(store, BASE)
    upper = store.register(io.BytesIO(MIDDLE), base)
    assert upper.parent_id == base.chain_id
    assert store.create_rw_layer("work", parent=base).parent.chain_id == base.chain_id
    assert store.create_rw_layer("empty", parent=None).parent is None
    assert store.get(base).chain_id == base.chain_id
    assert store.has_layer(base)
    store.pin(base)
    store.unpin(base)
    assert store.holders(base)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda store, layer: store.register(io.BytesIO(BASE), 7), "a str, or given as a Layer, not 7"),
        (lambda store, layer: store.register(BASE), "binary mode, not as bytes"),
        (lambda store, layer: store.register(io.StringIO("x")), "binary mode, not as StringIO"),
        (lambda store, layer: store.register(None), "binary mode, not as NoneType"),
        (lambda store, layer: store.get(b"sha256:00"), "a str, or given as a Layer"),
        (lambda store, layer: store.create_rw_layer(b"work"), "the name of a writable layer, a str, not bytes"),
        (lambda store, layer: store.get_rw_layer(None), "the name of a writable layer, a str, not NoneType"),
        (lambda store, layer: store.pin(layer.chain_id), "expected a handle to a layer"),
        (lambda store, layer: store.release(layer.chain_id), "expected a handle to a layer"),
        (lambda store, layer: store.release_rw_layer("work"), "expected a handle to a writable layer"),
        (lambda store, layer: store.unpin(7), "a str, or given as a Layer"),
    ],
)
def test_a_wrong_type_is_refused_at_once(store, call, words):
    layer = register(store, BASE)
    with pytest.raises(TypeError, match=words):
        call(store, layer)


def test_wrong_values_are_refused(store):
    with pytest.raises(ValueError, match="at least one layer"):
        store.register_chain([])
    with pytest.raises(LayerDoesNotExist):
        store.get("nonsense")
    with pytest.raises(InvalidMountName):
        store.create_rw_layer("")


@pytest.mark.parametrize("kind", [str, Path, lambda root: {"root": root}])
def test_a_root_in_place_of_a_configuration_is_refused(tmp_path, kind):
    with pytest.raises(TypeError, match=r"LayerStore\.open\(root=…\), not"):
        LayerStore.open(kind(tmp_path))
