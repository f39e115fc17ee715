"""`layerstore gc`: what it removes, and what `--dry-run` prints."""

from __future__ import annotations

from pathlib import Path

from layerstore_core.store.store import LayerStore
from tests.cli.conftest import Run


def test_gc_keeps_a_pinned_layer(run: Run, base: Path) -> None:
    run("register", base)
    assert run("gc").stdout == b""
    assert run("gc", "--json").json == {"dry_run": False, "freed": 0, "removed": []}


def test_gc_removes_an_unreferenced_layer(run: Run, base: Path, upper: Path, root: Path) -> None:
    kept = run("register", base).text.strip()
    with LayerStore.open(root=root, driver="vfs") as store, store.register(upper) as layer:
        loose = str(layer.chain_id)
    planned = run("gc", "--dry-run", "--json").json
    assert planned["dry_run"] is True
    assert [entry["name"] for entry in planned["removed"]].count(loose) == 1
    assert len(run("ls", "--json").json["layers"]) == 2
    assert len(run("gc", "--dry-run").lines) == len(planned["removed"])
    assert run("gc", "--json").json["removed"] == planned["removed"]
    assert [layer["chain_id"] for layer in run("ls", "--json").json["layers"]] == [kept]
