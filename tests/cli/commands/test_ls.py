"""`layerstore ls`: the tree of layers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Run, tar_of


@pytest.mark.usefixtures("used")
def test_ls_of_an_empty_store_prints_nothing(run: Run) -> None:
    assert run("ls").stdout == b""
    assert run("ls", "--json").json == {"layers": [], "snapshots": []}


def test_children_are_indented_below_their_parent(run: Run, base: Path, upper: Path) -> None:
    low = run("register", base).text.strip()
    high = run("register", upper, "--parent", low).text.strip()
    side = run("register", "-", "--parent", low, stdin=tar_of({"side": b"s"})).text.strip()
    other = run("register", "-", stdin=tar_of({"other": b"o" * 2048})).text.strip()

    lines = run("ls").lines
    assert lines[0].split() == ["CHAIN", "ID", "SIZE", "CHAIN", "SIZE", "PINNED"]
    shown = [line.split("  ") if line.startswith("  ") else [line] for line in lines[1:]]
    assert len(shown) == 4
    starts = [line[:14].rstrip() for line in lines[1:]]
    children = [f"  {chain[7:19]}" for chain in sorted([high, side])]
    tree = {low: [low[7:19], *children], other: [other[7:19]]}
    assert starts == [start for chain in sorted(tree) for start in tree[chain]]
    assert next(line for line in lines if line.startswith(other[7:19])).split()[1:] == [
        "2.0", "KiB", "2.0", "KiB", "yes",
    ]  # fmt: skip

    documents = run("ls", "--json").json["layers"]
    places = {document["chain_id"]: place for place, document in enumerate(documents)}
    assert places[low] < places[high]
    assert {d["chain_id"]: (d["parent"], d["diff_size"], d["size"]) for d in documents} == {
        low: (None, 5020, 5020),
        high: (low, 314, 5334),
        side: (low, 1, 5021),
        other: (None, 2048, 2048),
    }


def test_ls_indents_a_deep_chain(run: Run) -> None:
    parent: list[str] = []
    for depth in range(20):
        chain = run("register", "-", *parent, stdin=tar_of({f"f{depth}": b""})).text.strip()
        parent = ["--parent", chain]
    lines = run("ls").lines
    assert [len(line) - len(line.lstrip()) for line in lines[1:]] == list(range(0, 40, 2))


@pytest.mark.usefixtures("used")
def test_an_empty_list_warns_of_layers_of_another_driver(run: Run, root: Path) -> None:
    assert run("ls").stderr == ""
    foreign = root / "image/zfs/layerdb/sha256" / ("a" * 64)
    foreign.mkdir(parents=True)
    outcome = run("ls")
    assert outcome.stdout == b""
    assert f"WARNING: {root} has no layers of driver vfs, but some of zfs; " in outcome.stderr
    run("rw", "create", "one")
    assert run("ls").stderr == ""
