"""What there is of a store when all who used it are dead."""

from __future__ import annotations

from pathlib import Path

from layerstore_core import LayerStore, StoreConfig
from layerstore_core.maintenance.check import check_store
from layerstore_core.maintenance.gc import collect_garbage
from tests.driver_roots import mounts_below
from tests.reliability.life import Expectation, facts_of


def look(config: StoreConfig, promised: Expectation) -> tuple[list[str], list[str]]:
    """Open a store, see what it has, collect garbage, and see what is left.

    Returns:
        Promises that are not kept, and damage or leftovers, in words.
    """
    with LayerStore.open(config) as store:
        damaged = [f"{problem.path}: {problem.reason}" for problem in store.load_problems]
        lost = promised.broken_by(facts_of(store))
        collect_garbage(store)
        damaged += map(str, check_store(store, full=True))
        damaged += left_over(store)
    return lost, damaged + [f"{mount} is mounted" for mount in mounts_below(config.root)]


def left_over(store: LayerStore) -> list[str]:
    """What nothing refers to."""
    known = {layer.cache_id for layer in store.layers().values()}
    for name in store.rw_layers():
        record = store.context.db.read_mount(name)
        known.update(filter(None, (record.mount_id, record.init_id)))
    left = [f"the driver has {layer_id}" for layer_id in store.driver.layer_ids() or () if layer_id not in known]
    directories: list[Path] = [store.context.db.path / "tmp"]
    directories += [store.root / "layerstore" / name for name in (f"mounts/{store.driver_name}", "tmp")]
    for directory in directories:
        if directory.is_dir():
            left += [f"there is {path}" for path in directory.iterdir()]
    left += [f"there is {path}" for path in store.context.image_db.half_done()]
    return left
