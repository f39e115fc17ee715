"""Changes by others between reading the records and getting the lock."""

from __future__ import annotations

import pytest

from layerstore_core.store.handles import RWLayer
from tests.store.faults import around
from tests.store.layers import BASE, MIDDLE, chain, register
from tests.store.other_process import OtherProcess


@pytest.mark.parametrize("by", ["this process", "another store", "another process"])
def test_a_layer_stays_while_its_child_is_being_deleted(driver, open_store, store, store_root, by):
    """The driver still has the child, and may need the files of the parent to remove it."""
    base, top = chain(store, BASE, MIDDLE)
    cache_id = base.cache_id
    name = base.chain_id
    meanwhile: list[object] = []
    another = open_store()
    with OtherProcess(store_root, driver) as other:

        def try_parent() -> None:
            if meanwhile:
                return
            if by == "this process":
                meanwhile.append(store.release(base))
            else:
                base.close()
                if by == "another store":
                    meanwhile.append(another.release(another.get(name)))
                else:
                    meanwhile.append(other.run("answer = store.release(store.get(name))", name=name))

        with around(store, "remove", before=try_parent):
            gone = store.release(top)
    assert meanwhile == [[]]
    assert [layer.chain_id for layer in gone] == [top.chain_id, name]
    assert not store.driver.exists(cache_id)


@pytest.mark.parametrize("created_again", [True, False])
def test_opening_a_writable_layer_that_another_store_deletes_meanwhile(open_store, store, monkeypatch, created_again):
    base = register(store, BASE)
    store.create_rw_layer("box", base.chain_id).close()
    other = open_store()
    real, done = store.context.locks.acquire, []

    def acquire(key: str, owner: object = None) -> bool:
        if key.startswith("rw ") and not done:
            done.append(key)
            other.release_rw_layer(other.get_rw_layer("box"))
            if created_again:
                other.create_rw_layer("box", base.chain_id)
        return real(key, owner)

    monkeypatch.setattr(store.context.locks, "acquire", acquire)
    found = store.context.catalog.open_mount("box", lambda node: RWLayer(store, node))
    assert done
    if created_again:
        assert isinstance(found, RWLayer)
        assert found._node.record.mount_id == other.mount_id("box")
    else:
        assert found is None
    assert not store.context.locks.is_referenced(done[0]), "no reference to the deleted layer is left"


def test_the_parent_of_an_open_layer_is_referenced_after_the_records_were_changed(open_store):
    """The parent's node is loaded again; the child, to which there is a handle, keeps its own."""
    with open_store() as store, open_store() as other:
        with register(store, BASE) as base:
            child = register(store, MIDDLE, base.chain_id)
            rw = store.create_rw_layer("box", base.chain_id)
        references = store.holders(child.parent_id)
        with store.context.changing_records():
            pass
        assert store.holders(child.parent_id) == references == [f"layer {child.chain_id}", "writable layer 'box'"]
        with other.context.changing_records():
            pass
        assert store.unheld_layers() == []
        store.release_rw_layer(rw)
        assert [layer.chain_id for layer in store.release(child)] == [child.chain_id, base.chain_id]
