"""`layerstore rm`: what is removed, and what is in use and stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from layerstore_core import SnapshotExists, Snapshots
from layerstore_core.store.store import LayerStore
from tests.cli.conftest import InUse, Run, tar_of, tree


def test_rm_prints_removed_layers(run: Run, base: Path, used: Path) -> None:
    before = tree(used)
    chain = run("register", base).text.strip()
    assert run("rm", chain[:15]).text == f"{chain}\n"
    assert run("ls").text == ""
    assert tree(used) == before


def test_rm_removes_an_unpinned_parent_and_keeps_a_pinned_one(run: Run, base: Path, upper: Path, root: Path) -> None:
    low = run("register", base).text.strip()
    high = run("register", upper, "--parent", low).text.strip()
    assert run("rm", high).lines == [high]
    high = run("register", upper, "--parent", low).text.strip()
    with LayerStore.open(root=root, driver="vfs") as store:
        store.unpin(low)
    document = run("rm", high, "--json").json
    assert [layer["chain_id"] for layer in document["removed"]] == [high, low]
    assert [(layer["size"], layer["diff_size"]) for layer in document["removed"]] == [(5334, 314), (5020, 5020)]


def test_a_layer_with_a_child_is_not_removed_and_stays_pinned(run: Run, base: Path, upper: Path) -> None:
    low = run("register", base).text.strip()
    high = run("register", upper, "--parent", low).text.strip()
    outcome = run("rm", low, code=1)
    assert outcome.stdout == b""
    assert f"used by layer {high}" in outcome.stderr
    assert run("show", low, "--json").json["pinned"] is True
    assert run("--json", "rm", low, code=1).error["type"] == "LayerInUse"


def test_a_layer_with_a_writable_layer_is_not_removed(run: Run, base: Path) -> None:
    chain = run("register", base).text.strip()
    run("rw", "create", "work", "--parent", chain)
    assert "used by writable layer 'work'" in run("rm", chain, code=1).stderr
    run("rw", "rm", "work")
    assert run("rm", chain).lines == [chain]


def test_a_layer_that_is_a_snapshot_of_an_engine_is_not_removed(run: Run, base: Path, root: Path) -> None:
    chain = run("register", base).text.strip()
    with LayerStore.open(root=root, driver="vfs") as store, Snapshots(store) as snapshots:
        with pytest.raises(SnapshotExists):
            snapshots.prepare("any", labels={"containerd.io/snapshot.ref": chain})
        (offered,) = snapshots.walk()
        assert f"used by snapshot {offered.key!r}" in run("rm", chain, code=1).stderr
        assert run("show", chain, "--json").json["pinned"] is True
        snapshots.remove(offered.key)
    assert run("rm", chain).lines == [chain]


def test_a_layer_that_another_process_uses_is_not_removed_and_stays_pinned(run: Run, in_use: InUse, base: Path) -> None:
    chain = run("register", base).text.strip()
    with in_use(f"store.get({chain!r})"):
        outcome = run("rm", chain, code=1)
        assert outcome.stdout == b""
        assert f"layer {chain} is not removed: another process uses it" in outcome.stderr
        assert run("--json", "rm", chain, code=1).error["type"] == "LayerInUse"
    assert run("show", chain, "--json").json["pinned"] is True
    assert run("rm", chain).lines == [chain]


@pytest.mark.usefixtures("used")
def test_rm_of_an_unknown_layer(run: Run) -> None:
    assert run("--json", "rm", "ab" * 32, code=1).error["type"] == "LayerDoesNotExist"


def test_several_layers_are_removed_children_first(run: Run, base: Path, upper: Path) -> None:
    parent = run("register", base).text.strip()
    child = run("register", upper, "--parent", parent).text.strip()
    other = run("register", "-", stdin=tar_of({"other": b""})).text.strip()
    assert sorted(run("rm", parent, other[7:15], child, parent).lines) == sorted([parent, child, other])
    assert run("ls").text == ""


def test_a_parent_that_goes_with_its_child_may_be_named_too(run: Run, base: Path, upper: Path) -> None:
    parent = run("register", base).text.strip()
    child = run("register", upper, "--parent", parent).text.strip()
    with LayerStore.open(root=Path(run("info", "--json").json["root"]), driver="vfs") as store:
        store.unpin(parent)
    assert run("rm", parent, child).lines == [child, parent]


def test_several_layers_are_removed_up_to_the_first_in_use(run: Run, base: Path, upper: Path) -> None:
    parent = run("register", base).text.strip()
    child = run("register", upper, "--parent", parent).text.strip()
    run("rw", "create", "work", "--parent", parent)
    outcome = run("--json", "rm", parent, child, code=1)
    assert [layer["chain_id"] for layer in outcome.json["removed"]] == [child]
    assert "used by writable layer 'work'" in outcome.error["message"]
    assert run("rm", child, parent, code=1).stdout == b""  # the first word is unknown: nothing is removed
    assert run("show", parent, "--json").json["pinned"]
