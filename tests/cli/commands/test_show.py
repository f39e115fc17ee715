"""`layerstore show`: the fields of a layer."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Run


def test_show_prints_the_fields_of_a_layer(run: Run, base: Path, upper: Path, root: Path) -> None:
    low = run("register", base).text.strip()
    high = run("register", upper, "--parent", low).text.strip()
    run("rw", "create", "work", "--parent", low)
    document = run("show", low[:20], "--json").json
    cache_id = (root / "image/vfs/layerdb/sha256" / low[7:] / "cache-id").read_text()
    assert document.pop("metadata") is not None
    assert document == {
        "chain_id": low,
        "diff_id": low,
        "parent": None,
        "size": 5020,
        "diff_size": 5020,
        "pinned": True,
        "cache_id": cache_id,
        "children": [high],
        "rw_layers": ["work"],
        "snapshots": [],
        "descriptor": None,
    }
    text = run("show", high).text
    assert f"Chain ID:        {high}\n" in text
    assert f"Parent:          {low}\n" in text
    assert "Size:            314 B (314 bytes)\n" in text
    assert "Children:        none\n" in text


def test_show_prints_the_descriptor(run: Run, base: Path, root: Path) -> None:
    from layerstore_core.store.store import LayerStore

    descriptor = {"mediaType": "application/vnd.oci.image.layer.v1.tar", "size": 1, "digest": "sha256:" + "0" * 64}
    with LayerStore.open(root=root, driver="vfs") as store, store.register(base, descriptor=descriptor) as layer:
        chain = str(layer.chain_id)
    document = run("show", chain, "--json").json
    assert document["descriptor"] == descriptor
    assert document["pinned"] is False
    assert "Pinned:          no\n" in run("show", chain).text
