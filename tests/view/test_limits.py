"""A view of layers that were made to be costly ends with an error that names the layer and the entry."""

from __future__ import annotations

import io
from functools import partial

import pytest

from layerstore_core import InvalidLayer, InvalidSource
from layerstore_core.images.layer import places
from layerstore_core.images.layer.places import Item, Places
from layerstore_core.tar.entry import EntryType, TarEntry
from layerstore_core.view.layers import TarLayer
from layerstore_core.view.limits import Budget, clean_target
from layerstore_core.view.merge import Merger
from layerstore_core.view.tree import TreeView
from tests import tars
from tests.across.chains import attributes, d, f, sym


def _layer(*entries: object) -> TarLayer:
    return TarLayer(partial(io.BytesIO, tars.tar(*entries)))  # type: ignore[arg-type]


def test_directories_that_names_imply_count_as_entries() -> None:
    layers = [_layer(f(b"first", b"")), _layer(f(b"a/" * 50 + b"x", b""))]
    with TreeView(layers, max_entries=52) as view:
        assert view.root.children
    with (
        TreeView(layers, max_entries=51) as view,
        pytest.raises(InvalidLayer, match=r"with layer 2, the tree has more than 51 entries .max_entries.*'a/a/"),
    ):
        view.walk().__next__()


def test_plain_entries_count() -> None:
    layer = _layer(*(f(b"%d" % number, b"") for number in range(20)))
    with TreeView([layer], max_entries=20) as view:
        assert len(view.root.children) == 20
    with TreeView([layer], max_entries=19) as view, pytest.raises(InvalidLayer, match=r"layer 1, .* 19 entries"):
        view.changes_to(b"1")


def test_paths_of_all_directories_above_a_name_count() -> None:
    layer = _layer(*(f(b"%d/" % number + b"a/" * 1000 + b"x", b"") for number in range(3)))
    with (
        TreeView([layer], max_path_bytes=2_000_000) as view,
        pytest.raises(InvalidLayer, match=r"bytes .max_path_bytes.*entry '1/a/"),
    ):
        assert view.root


def test_paths_that_a_layer_touches_count_for_that_layer_only() -> None:
    layers = [_layer(f(b"a/" * 100 + b"x", b"")) for _ in range(20)]
    with TreeView(layers, max_path_bytes=20_000) as view:
        assert view.find(b"a/" * 100 + b"x")


def test_extended_attributes_count() -> None:
    entry = attributes(f(b"x", b""), user_a=b"v" * 500)
    with TreeView([_layer(entry)], max_path_bytes=400) as view, pytest.raises(InvalidLayer, match="max_path_bytes"):
        assert view.root


@pytest.mark.parametrize("pad", [b"a/../", b"./"])
def test_steps_through_links_are_bounded(pad: bytes) -> None:
    links = [sym(b"L0", pad * 200 + b"d"), *(sym(b"L%d" % n, pad * 200 + b"L%d" % (n - 1)) for n in range(1, 30))]
    pairs = [one for n in range(40) for one in (sym(b"s", b"x"), f(b"L29/y%d" % n, b""))]
    merger = Merger(budget=Budget(max_steps=50_000))
    layer = _layer(d(b"d"), d(b"a"), *links, *pairs)
    if pad == b"./":  # these steps are not made at all
        merger.add_layer(layer)
        assert len(merger.root.children[b"d"].children) == 40
        assert merger.root.children[b"L0"].linkname == pad * 200 + b"d"
    else:
        with pytest.raises(InvalidLayer, match=r"layer 1 take more than 50000 steps .*entry 'L29/y"):
            merger.add_layer(layer)


def test_opaque_directories_over_many_files_are_bounded() -> None:
    files = [f(b"d/%d" % number, b"") for number in range(200)]
    opaque = [f(b"d/.wh..wh..opq", b"")] * 200
    with pytest.raises(InvalidLayer, match="steps"):
        Merger(budget=Budget(max_steps=20_000)).add_layer(_layer(d(b"d"), *files, *opaque))


@pytest.mark.parametrize(
    ("target", "clean"),
    [(b"a/b", b"a/b"), (b"./a//./b/.", b"a/b"), (b"//a/./", b"/a"), (b"./", b""), (b"../x", b"../x"), (b"/.//", b"/")],
)
def test_clean_target_drops_what_leads_nowhere(target: bytes, clean: bytes) -> None:
    assert clean_target(target) == clean


def test_steps_of_a_new_layer_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "MAX_STEPS", 1000)
    layer = Places()
    layer.put(b"l", Item(TarEntry(b"l", EntryType.SYMLINK, linkname=b"./" * 600 + b"a/../" * 300 + b"d")))
    assert layer.resolve(b"l/x") == b"d/x"
    with pytest.raises(InvalidSource, match="more than 1000 steps"):
        layer.resolve(b"l/./y/z")
