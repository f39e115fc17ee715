"""Proving a store: do the records, the driver's layers and the tars still belong together?

`check_store` looks and changes nothing. `repair` mends: nothing that may be somebody's only copy is deleted.
"""

from __future__ import annotations

from collections.abc import Callable

from layerstore_core.checking.content import check_content
from layerstore_core.checking.driver import check_driver
from layerstore_core.checking.finding import CODES, Finding
from layerstore_core.checking.images import check_images
from layerstore_core.checking.offer import Offer
from layerstore_core.checking.records import check_pins, check_records, check_references
from layerstore_core.checking.repairing import Repair, Told
from layerstore_core.store import LayerStore

__all__ = ["CODES", "Finding", "Offer", "check_store", "repair"]


def check_store(
    store: LayerStore,
    *,
    full: bool = False,
    resume: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[Finding]:
    """Look for damage. Safe beside running processes: what they are making or deleting is no finding.

    Args:
        store: an open store.
        full: put every layer's tar together and compare its digest, too; this reads all content.
        resume: leave out of a full check what one that was interrupted has verified.
        progress: called during a full check with how many layers are done, and how many there are.

    Returns:
        What was found, in the order of looking; nothing where all is well.
    """
    findings = [*check_records(store), *check_driver(store)]
    if full:
        named = {finding.subject for finding in findings}
        layers = [layer for chain, layer in sorted(store.layers().items()) if chain not in named]
        findings += check_content(store, layers, progress=progress, resume=resume)
    return [*findings, *check_images(store), *check_pins(store), *check_references(store)]


def repair(
    store: LayerStore,
    findings: list[Finding],
    *,
    offer: Offer | None = None,
    force: bool = False,
    told: Told | None = None,
) -> list[Finding]:
    """Mend what can be mended.

    What is in the way is put into quarantine, `<root>/layerstore/quarantine/<driver>`, and not deleted.

    Args:
        store: an open store.
        findings: what `check_store` has found a moment ago.
        offer: layers that somebody has, from which damaged ones can be made anew.
        force: put into quarantine also records of layers that nothing else can mend.
        told: called with each finding that was mended, and what was done.

    Returns:
        The findings that are left.
    """
    return Repair(store, offer, force=force, told=told).mend(findings)
