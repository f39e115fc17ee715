"""What people and scripts see of the snapshots of an engine: in `ls`, `show`, `info`, `du`, `check`, `rm`, `prune`."""

from __future__ import annotations

from pathlib import Path

import pytest

from layerstore_core import LayerStore, SnapshotExists, Snapshots
from tests.cli.conftest import Run, tar_of
from tests.images.archives import ImageSpec, docker_archive
from tests.snapshots.mounting import committed

REF = "containerd.io/snapshot.ref"


@pytest.fixture
def chain(run: Run, root: Path) -> str:
    """Make snapshots as an engine does that runs a container of an image, and return its layer."""
    run("load", "-", stdin=docker_archive(ImageSpec([tar_of({"base": b"b" * 2048})], ["app:1"])))
    chain: str = run("inspect", "app:1", "--json").json["chain_id"]
    with LayerStore.open(root=root, driver="vfs") as store, Snapshots(store) as snapshots:
        with pytest.raises(SnapshotExists):
            snapshots.prepare("k8s.io/1/extract", "", {REF: chain})
        remote = next(snapshots.walk()).key
        committed(snapshots, "k8s.io/2/built", remote, {"file": b"12345"})
        snapshots.prepare("k8s.io/3/box\x1b", "k8s.io/2/built")
        snapshots.view("k8s.io/4/look", "k8s.io/2/built")
    return chain


def test_lists_show_them(run: Run, chain: str) -> None:
    lines = run("ls").lines
    digits = chain.removeprefix("sha256:")[:12]
    assert lines[0].split() == ["CHAIN", "ID", "SIZE", "CHAIN", "SIZE", "PINNED"]
    assert lines[2:4] == ["", lines[3]]
    assert lines[3].split() == ["SNAPSHOT", "KIND", "PARENT", "LAYER"]
    remote = lines[4].split()[0]
    assert remote.endswith(chain)
    assert [line.split() for line in lines[4:]] == [
        [remote, "committed", "none", digits],
        ["k8s.io/2/built", "committed", remote, "its", "own"],
        ["k8s.io/3/box\\x1b", "active", "k8s.io/2/built", "its", "own"],
        ["k8s.io/4/look", "view", "k8s.io/2/built", "its", "parent's"],
    ]
    found = run("ls", "--json").json["snapshots"]
    assert [one["key"] for one in found] == [remote, "k8s.io/2/built", "k8s.io/3/box\x1b", "k8s.io/4/look"]
    assert (found[0]["chain_id"], found[0]["labels"], found[0]["parent"]) == (chain, {REF: chain}, None)
    assert run("ls", "--json", "--filter", "pinned=true").json == {"layers": [], "snapshots": []}
    assert run("ls", "-q").lines == [digits]


@pytest.mark.usefixtures("used")
def test_a_list_of_snapshots_alone_begins_with_its_first_line(run: Run, root: Path) -> None:
    with LayerStore.open(root=root, driver="vfs") as store, Snapshots(store) as snapshots:
        snapshots.prepare("box")
    assert run("ls").lines[0].split() == ["SNAPSHOT", "KIND", "PARENT", "LAYER"]


def test_a_layer_shows_which_it_is(run: Run, chain: str) -> None:
    (key,) = run("show", chain, "--json").json["snapshots"]
    assert f"Snapshots:       {key}" in run("show", chain).lines
    assert run("info", "--json").json["snapshots"] == 4
    assert "Snapshots:       4" in run("info").lines


def test_usage_counts_their_own_files(run: Run, chain: str) -> None:
    assert run("du").lines[-1].split() == ["snapshots", "4", "4", "5", "B", "0", "B", "(0%)"]
    sizes = [(one["kind"], one["size"]) for one in run("du", "--json").json["snapshots"]]
    assert sizes == [("committed", 0), ("committed", 5), ("active", 0), ("view", 0)]
    assert "Snapshots:" in run("du", "-v").lines


def test_what_they_need_is_not_removed(run: Run, root: Path, chain: str) -> None:
    assert run("prune", "--all", "--json").json["deleted"] == []  # the image is in use
    assert "is used by image" in run("rm", chain, code=1).stderr
    run("rmi", "app:1")
    error = run("rm", chain, code=1).stderr
    assert "is used by snapshot 'layerstore/" in error
    assert error.endswith("remove that first (a snapshot is removed by its engine)\n")
    assert run("gc", "--json").json["removed"] == []
    assert run("check", "--json").json["findings"] == []
    with LayerStore.open(root=root, driver="vfs") as store, Snapshots(store) as snapshots:
        for snapshot in reversed(list(snapshots.walk())):
            snapshots.remove(snapshot.key)
    assert [one["name"] for one in run("gc", "--json").json["removed"]] == [chain]


def test_a_damaged_database_is_said_and_hides_nothing_else(run: Run, root: Path, chain: str) -> None:
    database = root / "layerstore" / "snapshots" / "vfs" / "snapshots.db"
    database.write_bytes(b"x" * 5000)
    for words in (["ls"], ["show", chain], ["info"], ["du"]):
        outcome = run(*words)
        assert chain.removeprefix("sha256:")[:12] in outcome.text or words[0] in ("info", "du")
        assert str(database) in outcome.stderr
    assert "records that may refer to it cannot be read" in run("rm", chain, code=1).stderr
    assert [one["code"] for one in run("check", "--json", code=1).json["findings"]] == ["damaged-snapshots"]
    run("check", "--repair", "--force")
    run("gc")
    assert run("check", "--json").json["findings"] == run("ls", "--json").json["snapshots"] == []
