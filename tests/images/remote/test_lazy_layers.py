"""The view of layers in a registry is that of the same layers here, however they are read."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerstore_core.errors import InvalidLayer
from layerstore_core.tar.entry import EntryType
from layerstore_core.view.entries import iter_entries
from layerstore_core.view.layers import TarLayer
from layerstore_core.view.tree import TreeView
from tests import tars
from tests.across.chains import CHAINS, attributes, d, f, link, node, sym
from tests.images.remote.blobs import view_of
from tests.images.remote.lazy_formats import Packed, estargz, inflated, zstd_chunked
from tests.view.test_lookup import PATHS, usual_layers
from tests.view.test_search import any_layers

Pack = Callable[[bytes], Packed]


def plain(tar: bytes) -> Packed:
    return Packed(tar, tar, {}, {})


def gzipped(tar: bytes) -> Packed:
    return Packed(gzip.compress(tar, 1, mtime=0), tar, {}, {})


FORMS: dict[str, Pack] = {
    "plain": plain,
    "gzip": gzipped,
    "estargz": partial(estargz, chunk=3),
    "zstd:chunked": partial(zstd_chunked, chunk=3),
}


def described(view: TreeView) -> dict[bytes, Any]:
    """Return all that a view says, by path. Times are in seconds: tables of contents have no other ones."""
    return {
        path: (
            *(node.type, node.mode, node.uid, node.gid, node.mtime_ns // 1_000_000_000, node.linkname, node.size),
            *(node.devmajor, node.devminor, dict(node.xattrs), node.layer, node.implied),
            tuple(view.names_of(node)),
            b"".join(view.chunks(node)) if node.type is EntryType.FILE else None,
        )
        for path, node in view.walk(follow=False)
    }


def local(layers: Sequence[Packed]) -> TreeView:
    """Return the view of the same layers here. The fields of sparse files and of what no table has are left out."""
    return TreeView([TarLayer(partial(io.BytesIO, one.tar)) for one in layers])


def outcome(function: Callable[[], Any]) -> Any:
    try:
        return function()
    except (InvalidLayer, OSError) as error:
        return type(error)


def in_a_table(entries: list[bytes]) -> bool:
    """Return whether a table of contents can say all that a tar says."""
    found = [entry for entry, _ in iter_entries(io.BytesIO(tars.tar(*entries)))]
    try:
        for one in found:
            (one.name + one.linkname + b"".join(one.xattrs)).decode()
    except UnicodeDecodeError:
        return False
    return all(one.sparse is None and abs(one.mtime_ns) < 1 << 61 for one in found)


USABLE = {name: chain for name, make in CHAINS.items() if all(map(in_a_table, chain := make()))}


def test_usable_chains_are_most_of_them() -> None:
    assert len(USABLE) * 3 > len(CHAINS) * 2


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("pack", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("chain", USABLE.values(), ids=USABLE)
def test_difficult_chain_is_the_same_as_here(chain: list[list[bytes]], pack: Pack, whole: bool) -> None:
    layers = [pack(tars.tar(*entries)) for entries in chain]
    view, blobs = view_of(*layers, whole=whole)
    with view:
        assert described(view) == described(local(layers))
    assert [blob.opened for blob in blobs] == [0] * len(blobs)
    has_table = not whole and bool(layers[0].annotations)
    assert all((0 in [start for start, _ in blob.requests]) != has_table for blob in blobs)


@pytest.mark.parametrize("pack", FORMS.values(), ids=FORMS)
def test_layer_decompresses_to_its_tar_for_other_programs(pack: Pack) -> None:
    packed = pack(tars.tar(d(b"a"), f(b"a/b", b"content")))
    if packed.blob != packed.tar:
        assert inflated(packed) == packed.tar
    names = [name for name, _ in view_of(packed)[0].walk()]
    assert (b"stargz.index.json" in names) == (pack is FORMS["estargz"])


def some_entries() -> st.SearchStrategy[list[bytes]]:
    entries = [
        d(b"a", mode=0o1777, uid=1, gid=2),
        f(b"a/c", b"0123456789", uid=70_000, mtime=-5),
        f(b"zeros", bytes(9)),
        sym(b"s", b"a/c"),
        link(b"h", b"a/c", mode=0o4755),
        node(b"null", b"3", (1, 3)),
        node(b"disk", b"4", (8, 1)),
        node(b"fifo", b"6"),
        attributes(f(b"x", b"x"), user_a=b"\0\xff", security_capability=bytes(20)),
        f(b"a/" + b"n" * 200, b"long name"),
    ]
    return st.lists(st.sampled_from(entries), unique=True)


@given(st.lists(st.tuples(any_layers(), some_entries()), min_size=1, max_size=3), st.sampled_from(sorted(FORMS)))
def test_any_layers_are_the_same_as_here(chain: list[tuple[list[bytes], list[bytes]]], form: str) -> None:
    layers = [FORMS[form](tars.tar(*one, *other)) for one, other in chain]
    view, blobs = view_of(*layers)
    expected = outcome(lambda: described(local(layers)))
    assert outcome(lambda: described(view)) == expected
    view.close()
    if not isinstance(expected, dict):
        return
    for path, (kind, *_, content) in expected.items():
        if kind is EntryType.FILE and path.count(b"/") < 3:
            # Of a stream that stops at a file, what follows is not known.
            other, _ = view_of(*layers, whole="zip" in form or form == "plain")
            with other, other.open(path) as file:
                assert file.read() == content, path
    assert [blob.opened for blob in blobs] == [0] * len(blobs)


@given(
    st.lists(usual_layers(), min_size=1, max_size=3),
    st.lists(st.sampled_from(PATHS), min_size=1, max_size=3),
    st.sampled_from(sorted(FORMS)),
)
def test_files_that_are_looked_up_in_usual_layers_are_those_of_the_merged_tree(
    chain: list[list[bytes]], paths: list[bytes], form: str
) -> None:
    layers = [FORMS[form](tars.tar(*entries)) for entries in chain]
    expected = local(layers)
    view, blobs = view_of(*layers)
    with view:
        for path in paths:
            assert outcome(lambda: read(view, path)) == outcome(lambda: read(expected, path)), path  # noqa: B023
    assert [blob.opened for blob in blobs] == [0] * len(blobs)


def read(view: TreeView, path: bytes) -> bytes:
    with view.open(path) as file:
        return file.read()
