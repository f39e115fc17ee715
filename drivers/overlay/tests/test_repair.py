"""Damage in a layer's directory outside of `diff`: it is found, and repaired."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from layerstore_core import LayerStore, StoreConfig, check_store, repair
from tests.driver_roots import remove_root, why_not
from tests.store.layers import BASE, MIDDLE, TOP, chain, export, names_of

pytestmark = pytest.mark.skipif(bool(why_not("overlay2")), reason=f"overlay2: {why_not('overlay2')}")


@pytest.fixture
def root(tmp_path):
    yield tmp_path / "store"
    remove_root(tmp_path / "store")


def link(home, layer):
    return home / "l" / (home / layer / "link").read_text()


def empty(path):
    path.write_bytes(b"")


def zeros(path):
    """Do as a power cut does where data are written after names."""
    path.write_bytes(bytes(path.stat().st_size))


def elsewhere(path):
    path.unlink()
    path.symlink_to("../nowhere/diff")


HARM = {
    "no link file": lambda home, layer: (home / layer / "link").unlink(),
    "an empty link file": lambda home, layer: empty(home / layer / "link"),
    "no link": lambda home, layer: link(home, layer).unlink(),
    "a link that leads elsewhere": lambda home, layer: elsewhere(link(home, layer)),
    "no link at all": lambda home, layer: (link(home, layer).unlink(), (home / layer / "link").unlink()),
    "all links": lambda home, layer: shutil.rmtree(home / "l"),
    "a link file of zeros": lambda home, layer: zeros(home / layer / "link"),
    "a lower of zeros": lambda home, layer: zeros(home / layer / "lower"),
    "no lower": lambda home, layer: (home / layer / "lower").unlink(),
    "an empty lower": lambda home, layer: empty(home / layer / "lower"),
    "no work": lambda home, layer: shutil.rmtree(home / layer / "work"),
}


@pytest.mark.parametrize("which", ["base", "middle", "init", "writable"])
@pytest.mark.parametrize("harm", HARM)
def test_damage_outside_of_the_layers_files_is_found_and_repaired(root, harm, which):
    if which == "base" and ("lower" in harm or "work" in harm):
        return  # a base layer has neither
    with LayerStore.open(StoreConfig(root=root, driver="overlay2", durability="none")) as store:
        layers = chain(store, BASE, MIDDLE, TOP)
        store.pin(layers[2])
        rw = store.create_rw_layer("box", layers[2].chain_id, init=lambda path: Path(path, "init").touch())
        with rw.mounted() as path:
            Path(path, "new").write_bytes(b"new")
        mount_id = store.mount_id("box")
        ids = {"base": layers[0].cache_id, "middle": layers[1].cache_id, "init": f"{mount_id}-init"}
        HARM[harm](root / "overlay2", ids.get(which, mount_id))
    with LayerStore.open(StoreConfig(root=root, driver="overlay2", durability="none")) as store:
        findings = check_store(store)
        assert {finding.code for finding in findings} == {"broken-in-driver"}
        assert repair(store, findings) == []
        assert check_store(store, full=True) == []
        assert [export(store.get(name)) for name in names_of(BASE, MIDDLE, TOP)] == [BASE, MIDDLE, TOP]
        with store.get_rw_layer("box") as rw, rw.mounted() as path:
            assert {"new", "init", "etc", "bin", "opt"} <= set(os.listdir(path))
