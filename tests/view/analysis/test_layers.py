"""What layers change and waste: by hand on small chains, and against the trees of each part of any chain."""

from __future__ import annotations

import pytest
from hypothesis import given

from layerstore_core import InvalidLayer, LayerStore
from layerstore_core.diff.change import ChangeKind
from layerstore_core.tar.entry import EntryType
from layerstore_core.view.analysis.layers import TreeAnalysis, analyze_layers
from layerstore_core.view.nodes import FileNode
from layerstore_core.view.tree import TreeView
from tests import tars
from tests.across.chains import CHAINS, d, f, link, sym
from tests.across.test_same_tree import CHAINS_OF_ENTRIES, Entry
from tests.store.layers import register
from tests.view.conftest import view_of


def changes(analysis: TreeAnalysis, layer: int) -> list[str]:
    return [f"{one.kind.value} {one.path.decode()}" for one in analysis.layers[layer].changes]


def analyzed(*layers: list[bytes]) -> TreeAnalysis:
    with view_of(*layers) as view:
        return analyze_layers(view)


def test_an_empty_view_wastes_nothing() -> None:
    analysis = analyzed()
    assert (analysis.layers, analysis.wasted, analysis.written, analysis.efficiency) == ((), (), 0, 1.0)


def test_a_layer_adds_changes_and_deletes() -> None:
    analysis = analyzed(
        [d(b"d"), f(b"d/a", b"aaaa"), f(b"d/b", b"bb"), d(b"gone"), f(b"gone/x", b"xxx"), f(b"gone/y", b"y")],
        [f(b"d/a", b"AAAAA"), f(b"d/new", b"n"), f(b"d/.wh.b"), f(b".wh.gone"), sym(b"link", b"d/a")],
    )
    assert changes(analysis, 0) == ["A d", "A d/a", "A d/b", "A gone", "A gone/x", "A gone/y"]
    assert changes(analysis, 1) == ["C d/a", "D d/b", "A d/new", "D gone", "A link"]
    assert [analysis.layers[1].count(kind) for kind in ChangeKind] == [2, 1, 2]
    assert [(layer.written, layer.wasted) for layer in analysis.layers] == [(10, 10), (6, 0)]
    assert [(one.path, one.size, one.kind) for one in analysis.wasted] == [
        (b"d/a", 4, "overwritten"),
        (b"gone/x", 3, "deleted"),
        (b"d/b", 2, "deleted"),
        (b"gone/y", 1, "deleted"),
    ]
    assert {(one.layer, one.hidden_by) for one in analysis.wasted} == {(0, 1)}
    assert (analysis.written, analysis.visible, analysis.hidden) == (16, 6, 10)
    assert analysis.efficiency == 6 / 16


def test_a_directory_with_the_same_metadata_is_no_change() -> None:
    """Builders list the directories above each file that they add."""
    analysis = analyzed([d(b"d", mode=0o750), f(b"d/a")], [d(b"d", mode=0o750), f(b"d/b")], [d(b"d", mode=0o700)])
    assert [changes(analysis, layer) for layer in (1, 2)] == [["A d/b"], ["C d"]]


def test_what_an_opaque_directory_hides_is_deleted() -> None:
    analysis = analyzed(
        [d(b"d"), f(b"d/a", b"a" * 10), f(b"d/b", b"b")], [d(b"d"), f(b"d/.wh..wh..opq"), f(b"d/b", b"B")]
    )
    assert changes(analysis, 1) == ["D d/a", "C d/b"]
    assert [(one.path, one.kind) for one in analysis.wasted] == [(b"d/a", "deleted"), (b"d/b", "overwritten")]


def test_a_file_in_the_place_of_a_directory_overwrites_what_was_in_it() -> None:
    analysis = analyzed([d(b"d"), d(b"d/e"), f(b"d/e/a", b"aaa")], [f(b"d", b"d")])
    assert changes(analysis, 1) == ["C d"]
    assert [(one.path, one.kind) for one in analysis.wasted] == [(b"d/e/a", "overwritten")]


def test_a_directory_in_the_place_of_a_file_overwrites_it() -> None:
    analysis = analyzed([f(b"d", b"dd")], [d(b"d"), f(b"d/a", b"a")])
    assert changes(analysis, 1) == ["C d", "A d/a"]
    assert [(one.path, one.size, one.kind) for one in analysis.wasted] == [(b"d", 2, "overwritten")]


def test_hard_links_count_once_and_keep_a_content_visible() -> None:
    analysis = analyzed(
        [f(b"a", b"12345"), link(b"b", b"a"), link(b"c", b"a")], [f(b".wh.a")], [f(b".wh.b"), f(b"c", b"c")]
    )
    assert [(layer.written, layer.wasted) for layer in analysis.layers] == [(5, 5), (0, 0), (1, 0)]
    (wasted,) = analysis.wasted
    assert (wasted.path, wasted.kind, wasted.hidden_by) == (b"c", "overwritten", 2)
    assert analyzed([f(b"a", b"12345"), link(b"b", b"a")], [f(b".wh.a")]).wasted == ()


def test_a_hard_link_that_changes_metadata_wastes_nothing() -> None:
    analysis = analyzed([f(b"a", b"12345")], [link(b"b", b"a", mode=0o600)])
    assert changes(analysis, 1) == ["C a", "A b"]
    assert analysis.wasted == ()


def test_a_file_that_its_own_tar_replaces_is_not_written() -> None:
    analysis = analyzed([f(b"a", b"1" * 100), f(b"a", b"22")])
    assert (analysis.written, analysis.wasted) == (2, ())


def test_a_content_that_comes_and_goes_several_times_is_wasted_each_time() -> None:
    analysis = analyzed([f(b"a", b"1")], [f(b".wh.a")], [f(b"a", b"22")], [f(b"a", b"333")])
    assert [(one.size, one.layer, one.hidden_by, one.kind) for one in analysis.wasted] == [
        (2, 2, 3, "overwritten"),
        (1, 0, 1, "deleted"),
    ]


def test_the_content_of_holes_counts_as_other_bytes() -> None:
    """`ls -l` and `du` of this program count them, too."""
    analysis = analyzed([tars.sparse_old_gnu(b"s", b"x" * 10 + bytes(990), [(0, 10)])])
    assert analysis.written == 1000


def test_moves_and_repeated_contents_are_recognized(store: LayerStore) -> None:
    base = register(store, tars.tar(d(b"old"), f(b"old/a", b"moved"), f(b"b", b"stays", mode=0o644)), "")
    tar = tars.tar(d(b"new"), f(b"new/a", b"moved"), f(b".wh.old"), f(b"old-a", b"x"), f(b"b", b"stays", mode=0o600))
    top = register(store, tar, base)
    tar = tars.tar(f(b"c", b"moved"), f(b"new/.wh.a"))
    with register(store, tar, top).view() as view:
        analysis = analyze_layers(view)
    moved = {(one.kind, one.path): one.moved for one in analysis.layers[2].changes}
    assert moved == {(ChangeKind.ADD, b"c"): b"new/a", (ChangeKind.DELETE, b"new/a"): b"c"}
    repeated = {one.path: one.repeated for one in analysis.wasted}
    assert repeated == {b"old/a": False, b"b": True, b"new/a": False}


def check(view: TreeView, parts: list[TreeView]) -> None:
    """Compare an analysis with the trees of the first layer, the first two, and so on, each merged by itself."""
    analysis = analyze_layers(view, keep_trees=True)
    known: dict[tuple[int, int], int] = {}
    written = []
    before: dict[bytes, object] = {b"": None}
    for number, part in enumerate(parts):
        files = dict(part.walk())
        own = {
            (node.layer, node.offset): node.size
            for node in files.values()
            if isinstance(node, FileNode) and node.layer == number
        }
        known |= own
        written.append(sum(own.values()))
        now = {path: described(node) for path, node in files.items()}
        changed = {one.path: one.kind for one in analysis.layers[number].changes}
        assert {path for path, kind in changed.items() if kind is ChangeKind.ADD} == now.keys() - before.keys()
        deleted = before.keys() - now.keys()
        tops = {path for path in deleted if path.rpartition(b"/")[0] not in deleted}
        replaced = {path for path in deleted if any(now.get(above, ("d",))[0] != "d" for above in parents(path))}
        assert {path for path, kind in changed.items() if kind is ChangeKind.DELETE} == tops - replaced
        both = {path for path in before.keys() & now.keys() if path and before[path] != now[path]}
        assert {path for path, kind in changed.items() if kind is ChangeKind.MODIFY and path} == both
        tree = analysis.layers[number].tree
        assert tree is not None
        with TreeView(()) as kept:
            kept._root = tree
            assert {path: described(node) for path, node in kept.walk()} == now
        before = dict(now)
    assert [layer.written for layer in analysis.layers] == written
    visible = {(node.layer, node.offset) for _, node in view.walk() if isinstance(node, FileNode)}
    assert analysis.visible == sum(known[payload] for payload in visible)
    assert sorted((one.layer, one.size) for one in analysis.wasted) == sorted(
        (layer, size) for (layer, offset), size in known.items() if (layer, offset) not in visible
    )
    assert sum(layer.wasted for layer in analysis.layers) == sum(one.size for one in analysis.wasted)
    assert 0 <= analysis.efficiency <= 1


def parents(path: bytes) -> list[bytes]:
    parts = path.split(b"/")
    return [b"/".join(parts[:number]) for number in range(1, len(parts))]


def described(node: object) -> tuple[object, ...]:
    """Return all that a change can be, the type first: "d" for a directory."""
    kind = node.type  # type: ignore[attr-defined]
    names = ("mode", "uid", "gid", "mtime_ns", "linkname", "devmajor", "devminor", "xattrs", "implied")
    content = (node.layer, node.offset) if isinstance(node, FileNode) else ()
    return "d" if kind is EntryType.DIR else kind, *(getattr(node, name) for name in names), content


@pytest.mark.parametrize("name", CHAINS)
def test_the_analysis_of_a_difficult_chain_agrees_with_its_trees(name: str) -> None:
    layers = list(CHAINS[name]())
    check(view_of(*layers), [view_of(*layers[: number + 1]) for number in range(len(layers))])


@given(chain=CHAINS_OF_ENTRIES)
def test_the_analysis_of_any_chain_agrees_with_its_trees(chain: list[list[Entry]]) -> None:
    layers = [[entry.tar() for entry in entries] for entries in chain]
    try:
        parts = [view_of(*layers[: number + 1]) for number in range(len(layers))]
        for part in parts:
            part.root  # noqa: B018 - whether it can be merged
    except InvalidLayer:
        return
    check(view_of(*layers), parts)
