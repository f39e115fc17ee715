"""`layerstore rw …`: the life of a writable layer."""

from __future__ import annotations

import os
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from layerstore_core.store.store import LayerStore
from tests.cli.conftest import InUse, Run, tree


@pytest.fixture
def chain(run: Run, base: Path) -> str:
    return run("register", base).text.strip()


@pytest.fixture
def work(run: Run, chain: str) -> Path:
    """The mounted tree of a writable layer `work` whose parent is `chain`."""
    assert run("rw", "create", "work", "--parent", chain).stdout == b"work\n"
    return Path(run("rw", "mount", "work").text.removesuffix("\n"))


def test_create_in_json(run: Run, chain: str, root: Path) -> None:
    document = run("rw", "create", "work", "--parent", chain, "--json").json
    mount_id = (root / "image/vfs/layerdb/mounts/work/mount-id").read_text()
    assert document == {"name": "work", "parent": chain, "mount_id": mount_id}
    assert run("rw", "create", "empty", "--json").json["parent"] is None


def test_create_with_a_name_in_use_is_refused(run: Run, work: Path) -> None:
    assert run("--json", "rw", "create", "work", code=1).error["type"] == "MountNameConflict"


def test_create_with_an_unknown_storage_option_leaves_nothing(run: Run, used: Path) -> None:
    before = tree(used)
    assert "nonsense" in run("rw", "create", "work", "--storage-opt", "nonsense=1", code=1).stderr
    assert tree(used) == before
    assert run("rw", "ls").text == ""


def test_rw_ls_shows_names_and_parents(run: Run, work: Path, chain: str) -> None:
    run("rw", "create", "alone")
    lines = run("rw", "ls").lines
    assert [line.split() for line in lines] == [["NAME", "PARENT"], ["alone", "none"], ["work", chain[7:19]]]
    listed = run("rw", "ls", "--json").json["rw_layers"]
    assert [(entry["name"], entry["parent"]) for entry in listed] == [("alone", None), ("work", chain)]


def test_a_mount_shows_the_parent_and_keeps_written_files(run: Run, work: Path) -> None:
    assert (work / "hosts").read_bytes() == b"127.0.0.1 localhost\n"
    (work / "later").write_text("x")
    assert run("rw", "mount", "work", "--json").json == {"name": "work", "path": str(work)}
    assert run("rw", "umount", "work").stdout == b""
    assert Path(run("rw", "mount", "work").text.strip(), "later").read_text() == "x"
    assert run("rw", "umount", "work", "--json").json == {"name": "work"}


def change(work: Path) -> None:
    (work / "hosts").write_text("changed, and of another length\n")
    (work / "kept").unlink()
    (work / "added").write_text("new")


def test_changes_lists_added_changed_and_deleted_paths(run: Run, work: Path) -> None:
    assert run("rw", "changes", "work").text == ""
    change(work)
    assert run("rw", "changes", "work").lines == ["A /added", "C /hosts", "D /kept"]
    assert run("rw", "changes", "work", "--json").json == {
        "name": "work",
        "changes": [
            {"kind": "A", "path": "/added"},
            {"kind": "C", "path": "/hosts"},
            {"kind": "D", "path": "/kept"},
        ],
    }


def test_odd_names_are_escaped_in_lines_and_exact_in_json(run: Run, work: Path) -> None:
    for name in (b"a\nb", b"c \\ d", b"e\xff"):
        Path(os.fsdecode(os.fsencode(work) + b"/" + name)).touch()
    assert run("rw", "changes", "work").stdout == b"A /a\\nb\nA /c \\\\ d\nA /e\xff\n"
    found = run("rw", "changes", "work", "--json").json["changes"]
    assert [os.fsencode(entry["path"]) for entry in found] == [b"/a\nb", b"/c \\ d", b"/e\xff"]


def test_commit_makes_a_pinned_layer_of_the_changes(run: Run, work: Path, chain: str) -> None:
    change(work)
    committed = run("rw", "commit", "work").text.strip()
    document = run("show", committed, "--json").json
    assert (document["parent"], document["pinned"]) == (chain, True)
    with tarfile.open(fileobj=BytesIO(run("export", committed).stdout)) as tar:
        assert {"added", "hosts", ".wh.kept"} <= {name.removeprefix("./") for name in tar.getnames()}
    assert run("rw", "commit", "work", "--json").json["chain_id"] == committed
    assert run("rw", "ls", "--json").json["rw_layers"][0]["name"] == "work"
    # A writable layer on the committed layer has the same tree as the first one.
    run("rw", "create", "again", "--parent", committed)
    again = Path(run("rw", "mount", "again").text.strip())
    assert sorted(os.listdir(again)) == sorted(os.listdir(work)) == ["added", "hosts"]


def test_commit_keeps_the_memory_that_it_frees(run: Run, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As every command that makes a layer: its chunks are then in pages that the process has."""
    calls: list[str] = []
    monkeypatch.setattr("layerstore_core.cli.session.keep_memory", lambda: calls.append("kept"))
    run("rw", "changes", "work")
    assert calls == []
    run("rw", "commit", "work")
    assert calls == ["kept"]


def test_commit_of_a_layer_without_a_parent_makes_a_base_layer(run: Run) -> None:
    run("rw", "create", "work")
    Path(run("rw", "mount", "work").text.strip(), "first").write_text("1")
    document = run("rw", "commit", "work", "--json").json
    assert document["parent"] is None
    assert document["diff_id"] == document["chain_id"]


def test_rw_rm_also_removes_layers_that_nothing_else_refers_to(run: Run, chain: str, work: Path, root: Path) -> None:
    assert run("rw", "rm", "work").stdout == b""
    assert not work.exists()
    assert run("rw", "ls", "--json").json == {"rw_layers": []}
    run("rw", "create", "work", "--parent", chain)
    with LayerStore.open(root=root, driver="vfs") as store:
        store.unpin(chain)
    document = run("rw", "rm", "work", "--json").json
    assert document["name"] == "work"
    assert [layer["chain_id"] for layer in document["removed"]] == [chain]
    assert run("ls").text == ""


def test_rw_rm_keeps_a_writable_layer_that_another_process_uses(run: Run, in_use: InUse, work: Path) -> None:
    (work / "precious").write_text("kept")
    with in_use("store.get_rw_layer('work')"):
        outcome = run("rw", "rm", "work", code=1)
        assert outcome.stdout == b""
        assert "writable layer 'work' is not removed: another process uses it" in outcome.stderr
        assert run("--json", "rw", "rm", "work", code=1).error["type"] == "LayerInUse"
        assert (work / "precious").read_text() == "kept"
        assert run("rw", "changes", "work").lines == ["A /precious"]
    assert run("rw", "rm", "work").stdout == b""
    assert run("rw", "ls").lines == []


@pytest.mark.parametrize("args", [("rw", "ls"), ("ls",), ("info",)])
def test_listings_open_no_handles(run: Run, work: Path, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...]) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("a handle would keep another process from removing the layer")

    monkeypatch.setattr(LayerStore, "get", fail)
    monkeypatch.setattr(LayerStore, "get_rw_layer", fail)
    run(*args)


@pytest.mark.usefixtures("used")
@pytest.mark.parametrize("verb", ["mount", "umount", "changes", "commit", "rm"])
def test_an_unknown_writable_layer_is_an_error(run: Run, verb: str) -> None:
    assert run("--json", "rw", verb, "missing", code=1).error["type"] == "MountDoesNotExist"
