"""Random trees and random tars, registered and exported by a store."""

from __future__ import annotations

import io

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from layerstore_core import InvalidLayer, compare_trees, pack_changes
from tests import tars, trees
from tests.store.layers import export, register, tree, warm

#: One store for all examples of a test: each must leave the store as it was, which is a part of the test.
ONE_STORE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=25)

NAMES = st.sampled_from(
    [b"a", b"b", b"d", b"d/a", b"d/b", b"d/d/a", b"./a", b"a/", b".wh.a", b"d/.wh.b", b"d/.wh..wh..opq", b"\xff"]
)
CONTENT = st.sampled_from([b"", b"x", b"y" * 511, b"z" * 513])
SPARSE = (b"data" + bytes(4096) + b"more", [(0, 4), (4100, 4)])


def entries():
    """Return a strategy for one entry of any format and type, also with whiteouts and names that occur twice."""
    return st.one_of(
        st.builds(
            lambda name, data, form: tars.entry(name, data, form=form),
            NAMES,
            CONTENT,
            st.sampled_from(["v7", "ustar", "gnu"]),
        ),
        st.builds(tars.directory, NAMES),
        st.builds(tars.symlink, NAMES, st.sampled_from([b"a", b"d", b"/etc/passwd", b"../.."])),
        st.builds(tars.hard_link, NAMES, st.sampled_from([b"a", b"b", b"d/a"]), CONTENT),
        st.builds(lambda name, data: tars.entry(name, data, typeflag=b"7"), NAMES, CONTENT),
        st.builds(lambda name, data: tars.entry(name, data, typeflag=b"Z"), NAMES, CONTENT),
        st.builds(lambda name, data: tars.long_name(name) + tars.entry(b"short", data), NAMES, CONTENT),
        st.builds(
            lambda name, data: (
                tars.pax([(b"path", name), (b"mtime", b"-1.5"), (b"SCHILY.xattr.user.x", b"1")])
                + tars.entry(b"p", data)
            ),
            NAMES,
            CONTENT,
        ),
        st.builds(lambda name: tars.sparse_old_gnu(name, *SPARSE), NAMES),
        st.builds(
            lambda name, version: tars.sparse_pax(name, *SPARSE, version), NAMES, st.sampled_from(["0.0", "0.1", "1.0"])
        ),
    )


@ONE_STORE
@given(st.lists(st.lists(entries(), max_size=6), min_size=1, max_size=3))
def test_a_chain_of_random_tars_is_exported_exactly_or_refused(store, store_root, layers):
    if not store.rw_layers():
        warm(store)
    before = tree(store_root)
    parent = None
    handles = []
    for parts in layers:
        tar = tars.tar(*parts)
        try:
            layer = register(store, tar, parent or "")
        except InvalidLayer:
            continue
        handles.append(layer)
        assert export(layer) == tar
        parent = layer
    for layer in handles:
        store.release(layer)
    assert tree(store_root) == before


@ONE_STORE
@given(st.binary(max_size=2000), st.lists(entries(), max_size=3), st.integers(0, 3000), st.data())
def test_random_bytes_and_cut_tars_are_exported_exactly_or_refused(store, store_root, noise, parts, cut, data):
    warm(store)
    before = tree(store_root)
    tar = bytearray(tars.tar(*parts))
    where = data.draw(st.integers(0, len(tar) - 1))
    tar[where : where + len(noise) // 50] = noise[: len(noise) // 50]
    for candidate in (noise, bytes(tar), bytes(tar[:cut])):
        try:
            layer = register(store, candidate)
        except InvalidLayer:
            pass
        else:
            assert export(layer) == candidate
            store.release(layer)
        assert tree(store_root) == before


@ONE_STORE
@given(trees.pairs())
def test_a_random_tree_is_packed_registered_and_mounted_unchanged(store, tmp_path_factory, pair):
    """Two trees are packed as a layer and its child; the mount of the child has the second tree, but for its root."""
    lower, upper = (trees.build(tmp_path_factory.mktemp("trees") / "tree", one) for one in pair)
    base_tar = b"".join(pack_changes(lower, compare_trees(lower, None)))
    top_tar = b"".join(pack_changes(upper, compare_trees(upper, lower)))
    base = register(store, base_tar)
    top = store.register(io.BytesIO(top_tar), base.chain_id)
    assert [export(base), export(top)] == [base_tar, top_tar]
    with store.driver.mounted(top.cache_id) as path:
        assert [str(change) for change in compare_trees(path, upper) if change.path != b"/"] == []
    with top.tar_stream_from(base.chain_id) as stream:
        assert stream.read() == b"".join(pack_changes(upper, compare_trees(upper, lower)))
    store.release(base)
    store.release(top)
