"""The visible rows of a tree: whatever is opened and closed, they are those of a tree that is read as a whole."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from layerstore_core import InvalidLayer
from layerstore_core.explore.file_tree import File, FileTree, Order
from layerstore_core.explore.rows import VisibleRows
from tests.across.chains import d, f
from tests.across.test_same_tree import CHAINS_OF_ENTRIES, Entry
from tests.explore.conftest import tree_of

STEPS = st.lists(st.tuples(st.sampled_from(["toggle", "open", "close", "all", "none", "size", "name"]), st.integers(0)))


def expected(tree: FileTree, opened: set[bytes], file: File) -> list[bytes]:
    found = []
    for child in tree.children(file):
        found.append(child.path)
        if child.path in opened:
            found += expected(tree, opened, child)
    return found


@given(chain=CHAINS_OF_ENTRIES, steps=STEPS, only_marked=st.booleans())
def test_rows_are_those_of_the_open_directories(
    chain: list[list[Entry]], steps: list[tuple[str, int]], only_marked: bool
) -> None:
    try:
        root, marks = tree_of(*([entry.tar() for entry in entries] for entries in chain))
    except InvalidLayer:
        return
    tree = FileTree(root, marks, only_marked=only_marked)
    rows = VisibleRows(tree)
    for step, number in steps:
        if step == "all":
            rows.open_all()
        elif step == "none":
            rows.close_all()
        elif step in ("size", "name"):
            rows.sort(Order(step))
        elif len(rows):
            getattr(rows, step)(number % len(rows))
        found = [row.path for row in rows]
        assert found == expected(tree, rows.opened, tree.top())
        for number, path in enumerate(found):
            assert rows.find(path) == number
            assert rows[rows.parent(number)].path == (path.rpartition(b"/")[0] or path)
    rows.close_all()
    for file in list(tree.walk()):
        number = rows.reveal(file.path)
        assert number is not None and rows[number].path == file.path


def test_the_nearest_row_of_a_hidden_path_is_its_directory() -> None:
    rows = VisibleRows(FileTree(*tree_of([d(b"a"), d(b"a/b"), f(b"a/b/c"), f(b"z")])))
    assert [row.path for row in rows] == [b"a", b"z"]
    assert rows.nearest(b"a/b/c") == 0
    assert rows.nearest(b"nothing") == 0
    assert rows.nearest(b"z") == 1
    assert rows.find(b"a/b/c") is None


def test_the_next_change_is_found_in_both_directions() -> None:
    rows = VisibleRows(FileTree(*tree_of([f(b"a"), f(b"b"), f(b"c")], [f(b"b", b"B")])))
    assert rows.next_marked(0, 1) == 1
    assert rows.next_marked(1, 1) is None
    assert rows.next_marked(2, -1) == 1
    assert rows.next_marked(1, -1) is None
