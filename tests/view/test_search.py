"""A file that layers find by searching themselves is the one of the merged tree, and a missing one is missing there."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerstore_core.view.layers import Batch, TarLayer
from layerstore_core.view.lookup import locate_file
from layerstore_core.view.nodes import FileNode
from layerstore_core.view.search import EntrySearch, Found, SearchedLayer, search_all
from layerstore_core.view.tree import TreeView
from tests import tars
from tests.across.chains import d, f, link, node, sym
from tests.view.test_lookup import BASE, PATHS, merged, place, usual_layers


class Searched(TarLayer):
    """A tar that is searched: to its end, or up to what decides."""

    def __init__(self, entries: list[bytes], *, early: bool) -> None:
        super().__init__(partial(io.BytesIO, tars.tar(*entries)))
        self._early = early
        self.entries_read = 0

    def search(self, wanted: Mapping[bytes, int]) -> Found:
        self.entries_read = 0
        if not self._early:
            return search_all(self._counted(), wanted)
        search = EntrySearch(wanted)
        for batch in self._counted():
            if search.add(batch):
                break
        return search.finish()

    def _counted(self) -> Iterator[Batch]:
        for batch in self.batches():
            for one in batch if isinstance(batch, list) else [None]:
                self.entries_read += 1
                yield batch if one is None else [one]


def searched(*layers: list[bytes], early: bool = True) -> list[Searched]:
    return [Searched(entries, early=early) for entries in layers]


def outcome(find: TreeView | list[Searched], path: bytes) -> object:
    """Return where the file is, or the kind of error; `None` if the merged tree has to be asked."""
    try:
        if isinstance(find, TreeView):
            found = find.find(path)[1]
            return place(found) if isinstance(found, FileNode) else IsADirectoryError if found.is_directory else OSError
        located = locate_file(find, path)
        return None if located is None else place(located[1])
    except OSError as error:
        return type(error)


def test_layer_that_can_be_searched_is_known_as_such() -> None:
    assert isinstance(searched([])[0], SearchedLayer)
    assert not isinstance(TarLayer(io.BytesIO), SearchedLayer)


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize(
    ("path", "entries"),
    [
        (b"etc/os", [d(b"etc"), f(b"etc/os", b"new")]),
        (b"etc/os", [f(b"etc/os", b"new")]),
        (b"etc/os", [d(b"etc"), f(b"etc/.wh.os")]),
        (b"etc/os", [f(b".wh.etc")]),
        (b"etc/os", [d(b"etc"), f(b"etc/.wh..wh..opq")]),
        (b"etc/os", [d(b"etc"), f(b"etc/.wh..wh..opq"), f(b"etc/os", b"12")]),
        (b"etc/os", [f(b".wh..wh..opq")]),
        (b"etc/os", [d(b"etc"), node(b"etc/os", b"3", (0, 0))]),
        (b"etc/os", [d(b"etc"), d(b"etc/os")]),
        (b"etc/os", [f(b"etc", b"a file now")]),
        (b"etc/os", [d(b"etc"), f(b"etc/new", b"123456"), link(b"etc/os", b"etc/new")]),
        (b"etc/os", [d(b"etc"), link(b"etc/os", b"etc/kept")]),
        (b"etc/os", [d(b"etc"), sym(b"etc/os", b"kept")]),
        (b"lib/os", []),
        (b"up", [d(b"etc"), f(b"etc/os", b"x")]),
        (b"etc/none", []),
        (b"etc", [f(b".wh..wh.aufs")]),
    ],
)
def test_usual_files_are_found_or_missing(path: bytes, entries: list[bytes], early: bool) -> None:
    expected = outcome(merged(BASE, entries), path)
    assert expected is not None
    assert outcome(searched(BASE, entries, early=early), path) == expected


@pytest.mark.parametrize(
    ("path", "entries"),
    [
        (b"lib/os", [f(b"lib/os", b"through a link of the layer below")]),
        (b"etc/os", [d(b"etc"), f(b"etc/os", b"1"), f(b"etc/os", b"2")]),
        (b"etc/os", [d(b"etc"), f(b"etc/os", b"1"), f(b"etc/.wh.os")]),
        (b"etc/os", [d(b"etc"), f(b"etc/os", b"1"), f(b"lib/os", b"12")]),
        (b"etc/os", [f(b"lib/os", b"12")]),
        (b"etc/os", [f(b"lib/.wh.os")]),
        (b"etc/os", [d(b"etc"), f(b"etc/1", b"1"), link(b"etc/os", b"etc/1"), f(b"etc/1", b"123")]),
        (b"etc/os", [d(b"etc"), f(b"etc/1", b"1"), link(b"etc/os", b"etc/1"), f(b"etc/.wh.1")]),
        (b"etc/os", [f(b".wh..wh.plnk/1.2", b"aufs"), d(b"etc"), link(b"etc/os", b".wh..wh.plnk/1.2")]),
        (b"a/os", [d(b"a"), sym(b"a", b"etc"), f(b"a/os", b"through a link")]),
        (b"lib/kept", [d(b"lib")]),
        (b"etc", [f(b".wh..wh.aufs"), d(b".wh..wh.plnk"), f(b".wh..wh.plnk/1.2", b"?")]),
        (b"lib/s", [sym(b"lib/s", b"os")]),
    ],
)
def test_what_only_merging_can_interpret_is_left_to_it(path: bytes, entries: list[bytes]) -> None:
    found = outcome(searched(BASE, entries, early=False), path)
    assert found in (None, outcome(merged(BASE, entries), path))


def test_layers_are_read_up_to_the_file_and_no_further() -> None:
    layers = searched([*BASE, f(b"more")], [d(b"etc"), f(b"etc/os", b"new"), *(f(b"f%d" % n) for n in range(9))])
    located = locate_file(layers, b"/etc/./os")
    assert located is not None
    assert located[0] == b"etc/os"
    assert [one.entries_read for one in layers] == [0, 2]
    assert outcome(layers, b"lib/kept") == place(merged(BASE).find(b"etc/kept")[1])  # type: ignore[arg-type]
    assert layers[0].entries_read == 4


@st.composite
def any_layers(draw: st.DrawFn) -> list[bytes]:
    """Draw a layer with entries in any order, several at one path, and without their directories."""
    names = st.sampled_from([*PATHS, b"a/.wh.b", b".wh.a", b"b/.wh..wh..opq", b".wh..wh..opq"])
    entries = []
    for name in draw(st.lists(names, max_size=6)):
        kind = draw(st.sampled_from(("file", "file", "dir", "sym", "hard")))
        if kind == "file" or b".wh." in name:
            entries.append(f(name, draw(st.sampled_from([b"", b"x", b"yy"]))))
        elif kind == "dir":
            entries.append(d(name))
        elif kind == "sym":
            entries.append(sym(name, draw(st.sampled_from([*PATHS, b"/a", b"../a", b"."]))))
        else:
            entries.append(link(name, draw(st.sampled_from(PATHS))))
    return entries


def check(layers: list[list[bytes]], *, early: bool) -> None:
    view, quick = merged(*layers), searched(*layers, early=early)
    try:
        view.root  # noqa: B018 - it may be impossible to merge them
    except Exception:
        return
    for path in PATHS:
        found = outcome(quick, path)
        assert found in (None, outcome(view, path)), path


@given(st.lists(any_layers(), min_size=1, max_size=3))
def test_what_is_found_in_any_layers_is_that_of_the_merged_tree(layers: list[list[bytes]]) -> None:
    check(layers, early=False)


@given(st.lists(usual_layers(), min_size=1, max_size=4))
def test_what_is_found_early_in_usual_layers_is_that_of_the_merged_tree(layers: list[list[bytes]]) -> None:
    check(layers, early=True)
