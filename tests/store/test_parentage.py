"""A writable layer's record that has lost its parent costs no layer, since the driver knows better."""

from __future__ import annotations

import pytest

from layerstore_core.maintenance.check import check_store
from layerstore_core.maintenance.gc import collect_garbage
from tests.store.layers import BASE, MIDDLE, TOP, register


@pytest.mark.parametrize("init", [False, True])
@pytest.mark.parametrize("instead", ["nothing", "another layer"])
def test_what_a_writable_layer_stands_on_by_the_driver_stays(open_store, instead, init):
    with open_store() as store:
        base, other = register(store, BASE), register(store, MIDDLE)
        name, wrong = base.chain_id, other.chain_id
        store.create_rw_layer("box", name, init=(lambda path: None) if init else None).close()
        if instead == "another layer":
            store.pin(other)
        path = store.context.db.mount_path("box") / "parent"
    path.unlink() if instead == "nothing" else path.write_text(wrong)
    with open_store() as store:
        register(store, TOP).close()
        collect_garbage(store)
        assert name in store.layers()
        assert store.release(store.get(name)) == []
        assert "wrong-parent" in {finding.code for finding in check_store(store)}
    path.write_text(name)
    with open_store() as store:
        assert name not in [found.name for found in collect_garbage(store)]
        assert check_store(store) == []
