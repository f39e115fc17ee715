"""The deepest chains that are allowed can be mounted, written to, committed and exported. Deeper ones are refused."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerstore_core import LayerStore, MaxDepthExceeded
from layerstore_core.maintenance.check import check_store
from tests import tars
from tests.conftest import OpenStore
from tests.driver_roots import mounts_below
from tests.store.layers import MTIME, chain, export, register


def tars_of_chain(depth: int) -> Iterator[bytes]:
    """Yield the tars of a chain. Each adds a file, replaces the common file, and deletes that of ten layers before."""
    for number in range(depth):
        parts = [tars.entry(b"common", b"%d" % number, mtime=MTIME), tars.directory(b"d", mtime=MTIME)]
        parts.append(tars.entry(b"d/%d" % number, b"of layer %d" % number, mtime=MTIME))
        if number >= 10:
            parts.append(tars.entry(b"d/.wh.%d" % (number - 10), mtime=MTIME))
        yield tars.tar(*parts)


def assert_works_to_the_limit(store: LayerStore, root: Path, depth: int) -> None:
    given = list(tars_of_chain(depth - 1))
    layers = chain(store, *given)
    rw = store.create_rw_layer("box", layers[-1].chain_id, init=lambda path: Path(path, "init").touch())
    with rw.mounted() as path:
        assert Path(path, "common").read_bytes() == b"%d" % (depth - 2)
        assert set(os.listdir(f"{path}/d")) == {str(number) for number in range(depth - 11, depth - 1)}
        Path(path, "common").write_bytes(b"by the writable layer")
        Path(path, "d", str(depth - 2)).unlink()
        Path(path, "new").write_bytes(b"new")
    assert [str(one) for one in rw.changes()] == ["C /common", "C /d", f"D /d/{depth - 2}", "A /new"]
    with rw.tar_stream() as stream:
        tar = stream.read()
    top = register(store, tar, layers[-1])
    assert export(top) == tar
    assert [export(layer) for layer in layers] == given

    with pytest.raises(MaxDepthExceeded, match=str(depth)):
        register(store, given[0], top)
    with store.create_rw_layer("top", top.chain_id, init=lambda path: None).mounted() as path:
        assert Path(path, "common").read_bytes() == b"by the writable layer"
        assert set(os.listdir(path)) == {"common", "d", "new"}
    assert check_store(store) == []
    assert mounts_below(root) == []


def test_a_chain_as_deep_as_dockers_limit(store: LayerStore, store_root: Path) -> None:
    assert store.max_depth == 125
    assert_works_to_the_limit(store, store_root, 125)


@pytest.mark.nightly
@pytest.mark.parametrize("driver", ["overlay2"], indirect=True)
def test_a_chain_deeper_than_dockers_limit(open_store: OpenStore, store_root: Path) -> None:
    store = open_store(max_depth=300)
    if (store.driver.capabilities.max_depth or 300) < 300:
        pytest.skip("this kernel's overlayfs has no option `lowerdir+` for single lower layers (Linux 6.8)")
    assert_works_to_the_limit(store, store_root, 300)
