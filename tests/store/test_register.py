"""Registering a layer: names, sizes, descriptors, limits, and exports with the same bytes."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import threading

import pytest

from layerstore_core import (
    ChainID,
    DiffID,
    InvalidLayer,
    LayerDoesNotExist,
    LayerStoreError,
    MaxDepthExceeded,
    chain_id,
)
from tests.store.layers import BASE, MIDDLE, TOP, chain, export, names_of, record_path, register, tar_of, tree, warm


def test_an_export_gives_the_same_bytes(store):
    layer = register(store, BASE)

    assert layer.chain_id == layer.diff_id == DiffID.of(BASE)
    assert layer.parent is None
    assert export(layer) == BASE
    assert layer.size == layer.diff_size == len("127.0.0.1 localhost\n") + 1200


def test_a_chain_has_docker_s_chain_ids_and_sizes(store):
    base, middle, top = chain(store, BASE, MIDDLE, TOP)

    assert [base.chain_id, middle.chain_id, top.chain_id] == names_of(BASE, MIDDLE, TOP)
    assert middle.chain_id == chain_id(DiffID.of(MIDDLE), base.chain_id)
    assert top.parent.chain_id == middle.chain_id
    assert top.parent.parent.parent is None
    assert (middle.diff_size, middle.size) == (4014, base.size + 4014)
    assert (top.diff_size, top.size) == (5, middle.size + 5)
    assert [export(layer) for layer in (base, middle, top)] == [BASE, MIDDLE, TOP]


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress], ids=["gzip", "bzip2", "xz"])
def test_the_diff_id_is_that_of_the_uncompressed_tar(store, compress):
    layer = register(store, compress(BASE))
    assert layer.diff_id == DiffID.of(BASE)
    assert export(layer) == BASE


def test_a_layer_is_read_from_a_path_and_from_a_pipe(store, tmp_path):
    path = tmp_path / "layer.tar"
    path.write_bytes(BASE)
    from_path = store.register(path)

    reading, writing = os.pipe()
    feeder = threading.Thread(target=lambda: (os.write(writing, MIDDLE), os.close(writing)))
    feeder.start()
    with open(reading, "rb") as pipe:
        from_pipe = store.register(pipe)
    feeder.join()

    assert [export(from_path), export(from_pipe)] == [BASE, MIDDLE]


def test_registering_a_known_layer_returns_it_and_leaves_no_files(store, store_root):
    first = register(store, BASE)
    before = tree(store_root)
    second = register(store, BASE)

    assert second.chain_id == first.chain_id
    assert second.cache_id == first.cache_id
    assert tree(store_root) == before
    assert store.release(first) == []  # the other handle keeps it
    assert [gone.chain_id for gone in store.release(second)] == [second.chain_id]


def test_the_same_tar_on_two_parents_is_two_layers(store):
    one, other = register(store, BASE), register(store, MIDDLE)
    on_one, on_other = register(store, TOP, one), register(store, TOP, other)
    assert on_one.chain_id != on_other.chain_id
    assert on_one.diff_id == on_other.diff_id
    assert len(store.layers()) == 4


def test_a_descriptor_is_kept_as_docker_writes_it(open_store):
    descriptor = {
        "digest": "sha256:" + "0" * 64,
        "size": 7023,
        "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
        "annotations": {"a<b": "\u2028 & é"},
        "extra": None,
    }
    store = open_store()
    layer = store.register(io.BytesIO(BASE), descriptor=descriptor)
    assert layer.descriptor == descriptor
    assert (record_path(layer) / "descriptor.json").read_bytes() == (
        b'{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","size":7023,"digest":"sha256:' + b"0" * 64 + b'",'
        b'"annotations":{"a\\u003cb":"\\u2028 \\u0026 \xc3\xa9"},"extra":null}'
    )
    assert open_store().get(layer.chain_id).descriptor == descriptor


def test_a_descriptor_that_json_cannot_express_is_refused_and_leaves_nothing(store, store_root):
    warm(store)
    before = tree(store_root)
    with pytest.raises((TypeError, ValueError)):
        store.register(io.BytesIO(BASE), descriptor={"size": float("nan")})
    with pytest.raises(TypeError):
        store.register(io.BytesIO(BASE), descriptor={"size": object()})
    assert tree(store_root) == before


@pytest.mark.parametrize(
    "parent",
    [
        "sha256:" + "0" * 64,
        "sha256:short",
        "md5:" + "0" * 32,
        "../../etc",
        "sha256:" + "A" * 64,
        "sha256:" + "0" * 64 + "\n",
    ],
)
def test_an_unknown_parent_is_refused_before_anything_is_read(store, store_root, parent):
    warm(store)
    before = tree(store_root)
    stream = io.BytesIO(BASE)
    with pytest.raises(LayerDoesNotExist, match="layerstore ls"):
        store.register(stream, parent)
    assert stream.tell() == 0
    assert tree(store_root) == before
    with pytest.raises(LayerDoesNotExist):
        store.get(parent)


def test_a_deleted_parent_is_unknown(store):
    base = register(store, BASE)
    store.release(base)
    with pytest.raises(LayerDoesNotExist):
        register(store, MIDDLE, base.chain_id)


def test_depth_is_limited_by_the_setting(open_store, store_root):
    store = open_store(max_depth=3)
    *_, last = chain(store, *[tar_of({f"{number}": b""}) for number in range(3)])
    before = tree(store_root)
    with pytest.raises(MaxDepthExceeded, match="3 layers deep; this store allows 3"):
        register(store, BASE, last)
    assert tree(store_root) == before
    assert store.holders(last.chain_id) == ["1 open handle(s)"]


def test_a_layer_over_the_size_limit_is_refused(open_store, store_root):
    store = open_store(max_layer_size=len(BASE) - 1)
    warm(store)
    before = tree(store_root)
    with pytest.raises(InvalidLayer, match="limit"):
        register(store, BASE)
    assert tree(store_root) == before


def test_progress_is_reported(store):
    seen = []
    store.register(io.BytesIO(BASE), progress=lambda count, entries: seen.append((count, entries)))
    assert seen[-1][0] == len(BASE)
    assert seen == sorted(seen)


def test_an_error_of_the_progress_function_stops_the_registration(store, store_root):
    warm(store)
    before = tree(store_root)

    def interrupted(count, entries):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.register(io.BytesIO(BASE), progress=interrupted)
    assert tree(store_root) == before


def test_using_a_closed_store_is_an_error(store):
    layer = register(store, BASE)
    store.close()
    store.close()
    for use in (
        lambda: register(store, BASE),
        lambda: store.get(layer.chain_id),
        store.layers,
        store.chain_ids,
        lambda: store.release(layer),
        store.rw_layers,
        lambda: store.create_rw_layer("x"),
        lambda: store.holders(layer.chain_id),
        store.pins,
        store.driver_status,
        store.cleanup,
        lambda: store.load_problems,
        lambda: store.pin(layer),
    ):
        with pytest.raises(LayerStoreError):
            use()


def test_layers_are_listed_by_chain_id(store):
    layers = chain(store, BASE, MIDDLE)
    listed = store.layers()
    assert {name: type(name) for name in listed} == {layer.chain_id: ChainID for layer in layers}
    assert store.chain_ids() == sorted(layer.chain_id for layer in layers)
    assert json.dumps(sorted(listed))  # they are strings
