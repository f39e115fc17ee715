"""A file that is found without merging is the one of the merged tree."""

from __future__ import annotations

import io
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerstore_core.tarsplit.codec import LineReader
from layerstore_core.view.layers import RecordedLayer, TarLayer
from layerstore_core.view.lookup import find_file
from layerstore_core.view.nodes import FileNode
from layerstore_core.view.tree import TreeView
from tests import tars
from tests.across.chains import d, f, link, node, sym
from tests.view.test_layers import record


def recorded(*layers: list[bytes]) -> list[RecordedLayer]:
    lines = [record(tars.tar(*entries)) for entries in layers]
    return [RecordedLayer(partial(LineReader, one), lambda: pytest.fail("no content is needed")) for one in lines]


def merged(*layers: list[bytes]) -> TreeView:
    return TreeView([TarLayer(partial(io.BytesIO, tars.tar(*entries))) for entries in layers])


def place(one: FileNode | None) -> tuple[int, int, int] | None:
    return None if one is None else (one.layer, one.offset if one.size else 0, one.size)


BASE = [
    d(b"./"),
    d(b"etc/"),
    f(b"./etc/os", b"base"),
    f(b"etc/kept", b"kept"),
    sym(b"lib", b"etc"),
    sym(b"up", b"../etc/os"),
]


@pytest.mark.parametrize(
    ("path", "layer", "entries"),
    [
        (b"etc/os", 1, [d(b"etc"), f(b"etc/os", b"new")]),
        (b"/etc//./os", 1, [d(b"etc"), f(b"etc/os", b"new")]),
        (b"etc/kept", 0, [d(b"etc"), f(b"etc/os", b"new")]),
        (b"etc/os", 0, [f(b"other"), f(b".wh.gone"), d(b"x"), f(b"x/.wh..wh..opq")]),
        (b"lib/kept", 0, [f(b"other")]),
        (b"up", 0, []),
        (b"lib/os", 1, [f(b".wh.x"), sym(b"l2", b"lib"), d(b"etc"), f(b"etc/os", b"12345")]),
        (b"new", 1, [f(b"n" * 200, b"long"), sym(b"new", b"n" * 200)]),
    ],
)
def test_usual_files_are_found_in_their_layer(path: bytes, layer: int, entries: list[bytes]) -> None:
    found = find_file(recorded(BASE, entries), path)
    assert found is not None
    assert found.layer == layer
    assert place(found) == place(merged(BASE, entries).find(path)[1])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "entries",
    [
        [f(b"etc/os", b"new")],  # no entry for its directory, which may be a link below
        [f(b"etc/.wh.os")],
        [f(b".wh.etc")],
        [d(b"etc"), f(b"etc/.wh..wh..opq")],
        [f(b".wh..wh..opq")],
        [d(b"etc"), d(b"etc/os")],
        [d(b"etc"), link(b"etc/os", b"etc/kept")],
        [d(b"etc"), sym(b"etc/os", b"os")],
        [d(b"etc"), f(b"etc/os", b"1"), f(b"etc/os", b"2")],
        [d(b"/etc"), f(b"/etc/os", b"absolute")],
        [d(b"a"), sym(b"a", b"etc"), f(b"a/os", b"through a link")],
        [d(b"."), d(b"././etc"), f(b"././etc/os", b"dots")],
        [node(b"etc", b"3", (0, 0))],
        [f(b"etc", b"a file now")],
        [d(b"etc"), node(b"etc/os", b"6")],
    ],
)
def test_what_only_merging_can_interpret_is_not_found_here(entries: list[bytes]) -> None:
    assert find_file(recorded(BASE, entries), b"etc/os") is None


def test_directory_hides_a_link_of_the_layer_below() -> None:
    layers = [d(b"b"), f(b"b/x", b"1"), sym(b"a", b"b")], [d(b"a")]
    assert find_file(recorded(*layers), b"a/x") is None
    with pytest.raises(FileNotFoundError):
        merged(*layers).find(b"a/x")


def test_loops_parents_and_directories_are_left_to_merging() -> None:
    layers = recorded([*BASE, sym(b"loop", b"loop")])
    for path in (b"loop", b"etc/../etc/os", b"etc", b"etc/", b"", b"nowhere", b"etc/os/"):
        assert find_file(layers, path) is None
    assert find_file([*layers, TarLayer(lambda: io.BytesIO(tars.tar()))], b"etc/os") is None


NAMES = (b"a", b"b", b"c")
PATHS = [b"/".join(parts) for parts in ((x,) for x in NAMES)] + [x + b"/" + y for x in NAMES for y in NAMES]
PATHS += [x + b"/" + y + b"/c" for x in NAMES for y in NAMES]
KINDS = ("file", "file", "dir", "dir", "link", "whiteout", "opaque", "symlink")


@st.composite
def usual_layers(draw: st.DrawFn) -> list[bytes]:
    """Draw a layer as builders write it: each directory has an entry before what is in it."""
    chosen = draw(st.dictionaries(st.sampled_from(PATHS), st.sampled_from(KINDS), max_size=6))
    targets = st.sampled_from([*PATHS, b"/a", b"../a", b"b/../c"])
    entries: dict[bytes, bytes] = {}
    for path, kind in sorted(chosen.items()):
        parents = [b"/".join(path.split(b"/")[:count]) for count in range(1, path.count(b"/") + 1)]
        if any(chosen.get(parent, "dir") not in ("dir", "opaque") for parent in parents):
            continue
        for parent in parents:
            entries.setdefault(parent, d(parent))
        above, _, base = path.rpartition(b"/")
        inside = above + b"/" if above else b""
        if kind == "whiteout":
            entries[inside + b".wh." + base] = f(inside + b".wh." + base)
        elif kind == "opaque":
            entries.setdefault(path, d(path))
            entries[path + b"/.wh..wh..opq"] = f(path + b"/.wh..wh..opq")
        elif kind == "symlink":
            entries[path] = sym(path, draw(targets))
        elif kind == "file":
            entries[path] = f(path, draw(st.sampled_from([b"", b"x", b"yy"])))
        elif kind == "dir":
            entries[path] = d(path)
        elif above:
            files = [one for one, what in chosen.items() if what == "file" and one in entries]
            if files:
                entries[path] = link(path, files[0])
    return list(entries.values())


@given(st.lists(usual_layers(), min_size=1, max_size=4))
def test_any_file_that_is_found_is_that_of_the_merged_tree(layers: list[list[bytes]]) -> None:
    view, quick = merged(*layers), recorded(*layers)
    for path in PATHS:
        found = find_file(quick, path)
        if found is None:
            continue
        _, wanted = view.find(path)
        assert isinstance(wanted, FileNode)
        assert place(found) == place(wanted), path
