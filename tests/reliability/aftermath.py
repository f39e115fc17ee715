"""Examine a store after all processes that used it have died."""

from __future__ import annotations

from pathlib import Path

from layerstore_core import LayerStore, StoreConfig
from layerstore_core.maintenance.check import check_store
from layerstore_core.maintenance.gc import collect_garbage
from tests.driver_roots import mounts_below
from tests.reliability.life import Expectation, facts_of


def examine(config: StoreConfig, *promised: Expectation) -> tuple[list[str], list[str]]:
    """Open a store, compare its facts with all promises, collect garbage, and check what is left.

    Returns:
        Descriptions of promises that are not kept, and of damage or stale state.
    """
    with LayerStore.open(config) as store:
        damaged = [f"{problem.path}: {problem.reason}" for problem in store.load_problems]
        facts = facts_of(store)
        lost = [words for one in promised for words in one.broken_promises(facts)]
        collect_garbage(store)
        damaged += map(str, check_store(store, full=True))
        damaged += stale_state(store)
    return lost, damaged + [f"{mount} is mounted" for mount in mounts_below(config.root)]


def stale_state(store: LayerStore) -> list[str]:
    """Return descriptions of all state that nothing refers to."""
    known = {layer.cache_id for layer in store.layers().values()}
    for name in store.rw_layers():
        record = store.context.db.read_mount(name)
        known.update(filter(None, (record.mount_id, record.init_id)))
    known |= store.context.snapshots.driver_ids()
    left = [f"the driver has {layer_id}" for layer_id in store.driver.layer_ids() or () if layer_id not in known]
    directories: list[Path] = [store.context.db.path / "tmp"]
    directories += [store.root / "layerstore" / name for name in (f"mounts/{store.driver_name}", "tmp")]
    for directory in directories:
        if directory.is_dir():
            left += [f"there is {path}" for path in directory.iterdir()]
    left += [f"there is {path}" for path in store.context.image_db.half_done()]
    return left
