"""Folding trees: no bytes are lost, and what is left fits."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from layerstore_core.report.page.fold import fold, length_of


def tree(files: dict[str, tuple[int, int]]) -> list[dict[str, Any]]:
    """Return the list of a document: of files by path, with size and layer, and of their directories."""
    sizes: dict[str, int] = {"/": 0}
    for path, (size, _) in files.items():
        names = path.split("/")[1:-1]
        for depth in range(len(names) + 1):
            directory = "/" + "/".join(names[:depth])
            sizes[directory] = sizes.get(directory, 0) + size
    found: list[dict[str, Any]] = []

    def add(directory: str) -> None:
        found.append({"path": directory, "type": "directory", "size": sizes[directory], "layer": 0})
        prefix = directory.rstrip("/") + "/"
        for path, (size, layer) in sorted(files.items()):
            if path.rpartition("/")[0] + "/" == prefix:
                found.append({"path": path, "type": "file", "size": size, "layer": layer})
        for inner in sorted(sizes):
            if inner != "/" and inner.rpartition("/")[0] + "/" == prefix:
                add(inner)

    add("/")
    return found


NAMES = st.sampled_from(["a", "b", "c"])
FILES = st.dictionaries(
    st.tuples(st.lists(NAMES, max_size=3), st.text("xyz<", min_size=1, max_size=9)).map(
        lambda parts: "/" + "/".join([*parts[0], f"f{parts[1]}"])
    ),
    st.tuples(st.integers(0, 9999), st.integers(0, 5)),
    max_size=40,
)


@given(FILES, st.integers(0, 2500))
def test_sizes_and_counts_stay_and_the_rows_fit(files: dict[str, tuple[int, int]], most: int) -> None:
    listed = tree(files)
    rows, left_out = fold(listed, most)
    assert rows[0] == [0, "/"]
    by_layer: dict[int, int] = {}
    for size, layer in files.values():
        by_layer[layer] = by_layer.get(layer, 0) + size
    sums: dict[int, int] = {}
    counted = 0
    depth = 0
    for row in rows:
        assert int(row[0]) <= depth + 1
        depth = int(row[0]) if len(row) == 2 else int(row[0]) - 1
        if len(row) > 2:
            sums[int(row[3])] = sums.get(int(row[3]), 0) + int(row[2])
        counted += int(row[4]) if len(row) == 5 else 1
    assert {layer: size for layer, size in sums.items() if size} == {k: v for k, v in by_layer.items() if v}
    assert counted == len(listed)
    assert left_out == sum(int(row[4]) for row in rows if len(row) == 5)
    # The root is always there, with what is folded of each layer.
    assert length_of(rows) <= most + 300


@given(FILES)
def test_a_tree_that_fits_is_whole(files: dict[str, tuple[int, int]]) -> None:
    listed = tree(files)
    rows, left_out = fold(listed, 1_000_000)
    assert left_out == 0
    assert [row[1] for row in rows] == [one["path"].rpartition("/")[2] or "/" for one in listed]


def test_the_largest_files_stay() -> None:
    files = {f"/d/{number:04}": (number, 0) for number in range(1000)}
    rows, left_out = fold(tree(files), 6000)
    kept = [str(row[1]) for row in rows if len(row) == 4]
    assert kept == [f"{number:04}" for number in range(1000 - len(kept), 1000)]
    assert 200 < len(kept) < 300
    assert left_out == 1000 - len(kept)
    assert [2, 0, sum(range(left_out)), 0, left_out] in rows
