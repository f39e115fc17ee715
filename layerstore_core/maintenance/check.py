"""Check a store: do the records, the driver's layers and the tars still belong together? And repair it.

`check_store` only reads, and changes nothing. `repair` never deletes what may be the only copy of something.
"""

from __future__ import annotations

from collections.abc import Callable

from layerstore_core.maintenance.check_content import check_content
from layerstore_core.maintenance.check_driver import check_driver, check_home
from layerstore_core.maintenance.check_images import check_blobs, check_images, check_kept
from layerstore_core.maintenance.check_records import check_pins, check_records, check_references
from layerstore_core.maintenance.finding import CODES, Finding
from layerstore_core.maintenance.repair import OnRepaired, Repair
from layerstore_core.maintenance.repair_source import RepairSource
from layerstore_core.maintenance.snapshots.check import check_snapshots
from layerstore_core.store.store import LayerStore

__all__ = ["CODES", "Finding", "RepairSource", "check_store", "repair"]


def check_store(
    store: LayerStore,
    *,
    full: bool = False,
    resume: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[Finding]:
    """Look for damage. Safe while processes use the store: what they are creating or deleting is no finding.

    Where something is found, it is looked at once more, while no process can change the records.

    Args:
        store: an open store.
        full: assemble every layer's tar and compare its digest, and the layer's files with the tar, too, and have the
            driver read what layers share; this reads all content.
        resume: leave out of a full check what an interrupted one has verified.
        progress: called during a full check with how many layers are done, and how many there are.

    Returns:
        The findings, in the order of looking; empty if all is well.
    """
    findings = _first_look(store)
    content: list[Finding] = []
    if full:
        named = {finding.subject for finding in findings}
        layers = [layer for chain, layer in sorted(store.layers().items()) if chain not in named]
        content = [*check_content(store, layers, progress=progress, resume=resume), *check_blobs(store)]
    last = _last_look(store)
    if findings or last:
        # What other processes were changing meanwhile may have looked wrong. What still does while nothing can
        # change counts.
        seen = {(finding.code, finding.subject) for finding in (*findings, *last)}
        with store.context.locking_all_records():
            findings, last = (
                [finding for finding in again if (finding.code, finding.subject) in seen]
                for again in (_first_look(store, records_locked=True), _last_look(store))
            )
    return [*check_home(store, full=full), *findings, *content, *last]


def _first_look(store: LayerStore, *, records_locked: bool = False) -> list[Finding]:
    """Check the records of layers, the driver, and the snapshots."""
    return [*check_records(store), *check_driver(store, records_locked=records_locked), *check_snapshots(store)]


def _last_look(store: LayerStore) -> list[Finding]:
    """Check what refers to layers."""
    return [*check_images(store), *check_kept(store), *check_pins(store), *check_references(store)]


def repair(
    store: LayerStore,
    findings: list[Finding],
    *,
    source: RepairSource | None = None,
    force: bool = False,
    on_repaired: OnRepaired | None = None,
) -> list[Finding]:
    """Repair what can be repaired.

    Entries that are in the way are put into quarantine, `<root>/layerstore/quarantine/<driver>`, and not deleted.

    Args:
        store: an open store.
        findings: what `check_store` has just found.
        source: layers from which damaged ones can be rebuilt; `None` for none.
        force: put into quarantine also records of layers that cannot be repaired in another way, and remove pins whose
            layers may only be lost: `gc` may then delete those layers.
        on_repaired: called with each finding that was repaired, and what was done.

    Returns:
        The findings that are left.
    """
    return Repair(store, source, force=force, on_repaired=on_repaired).run(findings)
