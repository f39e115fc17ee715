"""The tree of files: against the merged trees of any chain of layers."""

from __future__ import annotations

from hypothesis import given

from layerstore_core import InvalidLayer
from layerstore_core.explore.file_tree import File, FileTree, Order
from layerstore_core.explore.marks import Mark, Marks, marks_of
from layerstore_core.view.analysis.layers import analyze_layers, changes_between
from layerstore_core.view.nodes import FileNode, Node
from tests.across.chains import d, f
from tests.across.test_same_tree import CHAINS_OF_ENTRIES, Entry
from tests.explore.conftest import tree_of
from tests.view.conftest import view_of


def paths(root: Node) -> dict[bytes, Node]:
    found: dict[bytes, Node] = {}
    pending = [(b"", root)]
    while pending:
        prefix, node = pending.pop()
        for name, child in node.children.items():
            found[prefix + name] = child
            pending.append((prefix + name + b"/", child))
    return found


def shown(tree: FileTree) -> dict[bytes, Mark]:
    return {file.path: file.mark for file in tree.walk()}


def test_files_have_marks_and_deleted_ones_are_there() -> None:
    root, marks = tree_of(
        [d(b"d"), f(b"d/a", b"a"), f(b"d/same", b"s"), d(b"gone"), f(b"gone/x", b"xxxx"), f(b"old", b"content")],
        [f(b"d/a", b"AA"), f(b"d/new"), f(b".wh.gone"), f(b".wh.old"), f(b"renamed", b"content")],
    )
    marked = {b"d/a": Mark.CHANGED, b"d/new": Mark.ADDED, b"gone": Mark.DELETED, b"gone/x": Mark.DELETED}
    same = {b"d": Mark.SAME, b"d/same": Mark.SAME}
    assert shown(FileTree(root, marks)).items() >= (marked | same).items()
    assert b"d/same" not in shown(FileTree(root, marks, only_marked=True))
    assert shown(FileTree(root, marks, only_marked=True)).items() >= marked.items()


def test_a_moved_file_says_where_it_was_and_where_it_went() -> None:
    with view_of([f(b"old", b"content")], [f(b".wh.old"), f(b"new", b"content")]) as view:
        analysis = analyze_layers(view)
        for change in analysis.layers[1].changes:
            assert change.moved is None  # without checksums nothing is known
    root = analysis.root
    changes = [one._replace(moved=b"old" if one.path == b"new" else b"new") for one in analysis.layers[1].changes]
    found = {file.path: (file.mark, file.moved) for file in FileTree(root, marks_of(changes)).walk()}
    assert found == {b"new": (Mark.MOVED, b"old"), b"old": (Mark.DELETED, b"new")}


def test_directories_have_the_sizes_of_what_is_in_them_also_deleted_ones() -> None:
    root, marks = tree_of(
        [d(b"a"), f(b"a/1", b"1" * 10), d(b"a/b"), f(b"a/b/2", b"2" * 20), d(b"gone"), f(b"gone/3", b"3" * 30)],
        [f(b".wh.gone"), f(b"top", b"4" * 4)],
    )
    tree = FileTree(root, marks)
    sizes = {file.path: file.size for file in tree.walk()}
    assert sizes == {b"a": 30, b"a/1": 10, b"a/b": 20, b"a/b/2": 20, b"gone": 30, b"gone/3": 30, b"top": 4}
    tree.order = Order.SIZE
    assert [file.path for file in tree.children(tree.top())] == [b"a", b"gone", b"top"]


@given(chain=CHAINS_OF_ENTRIES)
def test_a_tree_has_all_files_and_all_deleted_ones(chain: list[list[Entry]]) -> None:
    try:
        view = view_of(*([entry.tar() for entry in entries] for entries in chain))
        analysis = analyze_layers(view, keep_trees=True)
    except InvalidLayer:
        return
    before = analysis.layers[-2].tree
    assert before is not None
    marks = marks_of(analysis.layers[-1].changes)
    tree = FileTree(analysis.root, marks)
    files = {file.path: file for file in tree.walk()}
    now, was = paths(analysis.root), paths(before)
    living = {path for path, file in files.items() if file.mark is not Mark.DELETED}
    assert living == set(now)
    # What is in a directory that another file has replaced is one change of that path.
    assert {path for path, file in files.items() if file.mark is Mark.DELETED} <= set(was) - set(now)
    hidden = {path for path in was if path not in now and path not in files}
    assert all(any(path.startswith(other + b"/") for other in marks.paths) for path in hidden)
    for path, file in files.items():
        assert file.depth == path.count(b"/")
        assert file.name == path.rpartition(b"/")[2]
    only = {file.path for file in FileTree(analysis.root, marks, only_marked=True).walk()}
    on_the_way = {path for path in only if path not in marks.paths and files[path].mark is not Mark.DELETED}
    assert set(marks.paths) - {b""} <= only
    assert on_the_way <= marks.inside


@given(chain=CHAINS_OF_ENTRIES)
def test_the_sizes_of_a_directory_are_those_of_its_files(chain: list[list[Entry]]) -> None:
    try:
        view = view_of(*([entry.tar() for entry in entries] for entries in chain))
        root = view.root
    except InvalidLayer:
        return
    files = {id(node): node.size for node in paths(root).values() if isinstance(node, FileNode)}
    assert FileTree(root, Marks()).top().size == sum(files.values())


@given(chain=CHAINS_OF_ENTRIES)
def test_changes_between_a_tree_and_itself_are_none_and_from_the_base_they_lead_to_the_top(
    chain: list[list[Entry]],
) -> None:
    try:
        view = view_of(*([entry.tar() for entry in entries] for entries in chain))
        analysis = analyze_layers(view, keep_trees=True)
    except InvalidLayer:
        return
    base = analysis.layers[0].tree
    assert base is not None
    assert changes_between(analysis.root, analysis.root) == ()
    marks = marks_of(changes_between(base, analysis.root))
    for path, node in paths(analysis.root).items():
        if path not in paths(base):
            assert marks.paths[path].mark in (Mark.ADDED, Mark.MOVED), (path, node)


def test_files_are_selected_with_the_directories_on_the_way() -> None:
    root, marks = tree_of([d(b"a"), d(b"a/b"), f(b"a/b/c"), f(b"a/x"), f(b"y")])
    tree = FileTree(root, marks)

    def fits(file: File) -> bool:
        return file.name == b"c"

    assert tree.select(fits) == ({b"a", b"a/b", b"a/b/c"}, 1)
    tree.chosen = {b"a", b"a/b", b"a/b/c"}
    assert [file.path for file in tree.children(tree.top())] == [b"a"]
    found = tree.find(b"a/b/c")
    assert found is not None and not tree.has_children(found)
    assert tree.find(b"a/nothing") is None


def test_selecting_ends_when_it_is_cancelled() -> None:
    seen: list[bytes] = []

    def fits(file: File) -> bool:
        seen.append(file.path)
        return True

    tree = FileTree(*tree_of([f(b"a"), f(b"b"), f(b"c")]))
    assert tree.select(fits, cancelled=lambda: seen == [b"a", b"b"]) is None
    assert seen == [b"a", b"b"]
