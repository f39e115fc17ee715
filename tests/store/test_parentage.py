"""A record of a writable layer that has lost its parent: no layer is deleted, because the driver knows the parent."""

from __future__ import annotations

import pytest

from layerstore_core.maintenance.check import check_store
from layerstore_core.maintenance.gc import collect_garbage
from tests.store.layers import BASE, MIDDLE, TOP, register


@pytest.mark.parametrize("init", [False, True])
@pytest.mark.parametrize("instead", ["nothing", "another layer"])
def test_the_parent_that_the_driver_has_for_a_writable_layer_is_kept(open_store, instead, init):
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
