"""References: what keeps a layer, and what is deleted without one."""

from __future__ import annotations

import pytest

from layerstore_core import LayerDoesNotExist, LayerNotRetained
from layerstore_core.maintenance.gc import collect_garbage
from tests.store.layers import BASE, MIDDLE, TOP, chain, export, register, tar_of, tree, warm


def test_releasing_the_last_handle_deletes_the_chain(store, store_root):
    warm(store)
    before = tree(store_root)
    base, middle, top = chain(store, BASE, MIDDLE, TOP)
    for handle in (base, middle):
        assert store.release(handle) == []

    sizes = [(top.chain_id, top.diff_id, top.size, top.diff_size)]
    sizes += [(one.chain_id, one.diff_id, one.size, one.diff_size) for one in (top.parent, top.parent.parent)]
    removed = store.release(top)

    assert [(gone.chain_id, gone.diff_id, gone.size, gone.diff_size) for gone in removed] == sizes
    assert store.layers() == {}
    assert tree(store_root) == before


def test_a_shared_parent_stays_for_the_other_child(store):
    base = register(store, BASE)
    left, right = register(store, MIDDLE, base), register(store, TOP, base)
    store.release(base)

    assert [gone.chain_id for gone in store.release(left)] == [left.chain_id]
    assert export(right) == TOP
    assert [gone.chain_id for gone in store.release(right)] == [right.chain_id, base.chain_id]


def test_release_with_two_children_of_one_layer(store):
    """moby's TestLayerRelease: two children of a layer that is itself a child."""
    one = register(store, tar_of({"layer1": b"1"}))
    two = register(store, tar_of({"layer2": b"2"}), one)
    store.release(one)
    three_a = register(store, tar_of({"layer3": b"a"}), two)
    three_b = register(store, tar_of({"layer3": b"b"}), two)
    store.release(two)

    assert len(store.layers()) == 4
    assert [gone.chain_id for gone in store.release(three_b)] == [three_b.chain_id]
    assert [gone.chain_id for gone in store.release(three_a)] == [three_a.chain_id, two.chain_id, one.chain_id]


def test_each_get_is_a_reference(store):
    first = register(store, BASE)
    second, third = store.get(first.chain_id), store.get(first.chain_id)
    assert store.holders(first.chain_id) == ["3 open handle(s)"]
    assert store.release(second) == []
    assert store.release(first) == []
    assert len(store.release(third)) == 1
    with pytest.raises(LayerDoesNotExist):
        store.get(first.chain_id)


def test_a_released_handle_cannot_be_used(store):
    layer, _other = register(store, BASE), register(store, BASE)
    store.release(layer)
    for use in (
        lambda: store.release(layer),
        lambda: layer.diff_id,
        lambda: layer.parent,
        lambda: layer.size,
        lambda: layer.diff_size,
        lambda: layer.cache_id,
        lambda: layer.descriptor,
        lambda: layer.pinned,
        layer.metadata,
        layer.tar_stream,
        lambda: layer.tar_stream_from(""),
        lambda: store.pin(layer),
    ):
        with pytest.raises(LayerNotRetained, match=layer.chain_id):
            use()
    assert "released" in repr(layer)
    assert len(store.layers()) == 1


def test_a_view_keeps_no_layer_and_cannot_be_released(store):
    layer = register(store, BASE)
    view = store.layers()[layer.chain_id]
    assert export(view) == BASE
    for use in (store.release, store.pin):
        with pytest.raises(LayerNotRetained, match="view"):
            use(view)
    view.close()
    assert len(store.release(layer)) == 1


def test_closing_a_handle_deletes_nothing(store):
    with register(store, BASE) as layer:
        pass
    layer.close()
    assert store.chain_ids() == [layer.chain_id]
    assert [gone.name for gone in collect_garbage(store)] == [layer.chain_id]


def test_closing_the_store_deletes_nothing(open_store):
    store = open_store()
    base, _top = chain(store, BASE, MIDDLE)
    store.close()
    again = open_store()
    assert len(again.layers()) == 2
    with pytest.raises(LayerNotRetained):
        base.tar_stream()
    with pytest.raises(LayerNotRetained):
        again.release(base)


def test_a_handle_of_another_store_cannot_be_released(open_store):
    one, other = open_store(), open_store()
    layer = register(one, BASE)
    with pytest.raises(LayerNotRetained):
        other.release(layer)
    assert export(layer) == BASE


def test_a_pin_outlives_the_store(open_store):
    store = open_store()
    layer = register(store, BASE)
    store.pin(layer)
    store.pin(layer)
    assert layer.pinned
    assert store.release(layer) == []
    store.close()

    again = open_store()
    assert again.pins() == {layer.chain_id}
    assert again.holders(layer.chain_id) == ["its pin"]
    assert collect_garbage(again) == []
    again.unpin(layer.chain_id)
    again.unpin(layer.chain_id)
    assert [gone.name for gone in collect_garbage(again)] == [layer.chain_id]
    with pytest.raises(LayerDoesNotExist):
        again.unpin(layer.chain_id)


def test_a_pinned_parent_stays_when_its_child_is_deleted(store):
    base, top = chain(store, BASE, MIDDLE)
    store.pin(base)
    store.release(base)
    assert [gone.chain_id for gone in store.release(top)] == [top.chain_id]


def test_a_deep_chain_needs_no_recursion(open_store):
    """A new store loads and deletes a chain of 30 layers; the limit is Docker's, 125."""
    store = open_store(max_depth=125)
    layers = chain(store, *[tar_of({f"{number}": b"x"}) for number in range(30)])
    last = layers[-1].chain_id
    store.close()

    again = open_store()
    layer = again.get(last)
    assert layer.size == 30
    assert len(again.release(layer)) == 30
    assert again.chain_ids() == []
