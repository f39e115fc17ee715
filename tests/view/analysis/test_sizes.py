"""Sums of directories: files and bytes, hard links once."""

from __future__ import annotations

from hypothesis import given

from layerstore_core import InvalidLayer
from layerstore_core.view.analysis.layers import analyze_layers
from layerstore_core.view.analysis.sizes import Sum, directory_sums
from layerstore_core.view.nodes import FileNode
from layerstore_core.view.tree import TreeView
from tests.across.chains import d, f, link, sym
from tests.across.test_same_tree import CHAINS_OF_ENTRIES, Entry
from tests.view.conftest import view_of


def sums(view: TreeView) -> dict[bytes, Sum]:
    found = directory_sums(view.root)
    return {path: found[id(node)] for path, node in view.walk() if node.is_directory}


def test_a_directory_has_the_sum_of_what_is_below_it() -> None:
    view = view_of(
        [d(b"a"), f(b"a/1", b"12"), d(b"a/b"), f(b"a/b/2", b"345"), sym(b"a/b/3", b"2"), d(b"c"), f(b"4", b"6")]
    )
    assert sums(view) == {b"": Sum(6, 7), b"a": Sum(5, 4), b"a/b": Sum(3, 2), b"c": Sum(0, 0)}


def test_hard_links_count_in_the_directory_of_their_first_path() -> None:
    view = view_of([d(b"b"), f(b"b/x", b"123"), link(b"b/y", b"b/x"), d(b"a"), link(b"a/z", b"b/x")])
    assert sums(view) == {b"": Sum(3, 5), b"a": Sum(3, 1), b"b": Sum(0, 2)}


def test_a_deep_tree_needs_no_recursion() -> None:
    path = b"/".join([b"d"] * 1500)
    view = view_of([f(path, b"1")])
    assert sums(view)[b""] == Sum(1, 1500)


@given(chain=CHAINS_OF_ENTRIES)
def test_sums_agree_with_those_of_their_directories_and_of_the_analysis(chain: list[list[Entry]]) -> None:
    view = view_of(*[[entry.tar() for entry in entries] for entries in chain])
    try:
        analysis = analyze_layers(view)
    except InvalidLayer:
        return
    found = sums(view)
    files = {id(node): node.size for _, node in view.walk() if isinstance(node, FileNode)}
    assert found[b""].size == sum(files.values()) == analysis.visible
    assert found[b""].files == sum(1 for _ in view.walk()) - 1
    for path, total in found.items():
        inner = [one for name, one in found.items() if name and name.rpartition(b"/")[0] == path and name != path]
        assert sum(one.size for one in inner) <= total.size
