"""Check the records of layers, the pins, and what may refer to layers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from layerstore_core.errors import BadRecord
from layerstore_core.maintenance.finding import Finding
from layerstore_core.store.store import LayerStore

_AGAIN = "`layerstore check --repair` or `layerstore gc` tries again, and says what is in the way"


def check_records(store: LayerStore) -> Iterator[Finding]:
    """Yield records that cannot be loaded, unexpected entries among them, and unfinished work."""
    loaded = store.layers()
    not_loaded = (chain for chain in store.chain_ids() if chain not in loaded)
    empty = [store.context.db.layer_path(chain) for chain in not_loaded if not store.context.db.has_layer(chain)]
    left_out = set(empty)
    for problem in store.load_problems:
        if not left_out.isdisjoint((Path(problem.path), *Path(problem.path).parents)):
            continue
        yield Finding(
            "unloadable",
            problem.path,
            problem.reason,
            "`layerstore check --repair` repairs it, if the rest proves its content; otherwise restore the file from a "
            "backup, or give the layer with `--from FILE`",
        )
    for path in store.context.db.displaced():
        yield Finding(
            "unloadable",
            str(path),
            "it is in the place of a record, and is no directory",
            "restore the record from a backup; or remove this, and `layerstore gc` removes the layer of the record",
        )
    yield from leftovers(store)
    for path in empty:
        yield Finding(
            "empty-record",
            str(path),
            "an empty directory, as a crash leaves it; it does no harm",
            "`layerstore check --repair` removes it",
        )
    for path in store.context.db.unexpected_entries():
        yield Finding(
            "not-a-record",
            str(path),
            "it is among the records of layers, and is none",
            "`layerstore check --repair` puts it into quarantine",
        )


def leftovers(store: LayerStore) -> Iterator[Finding]:
    """Yield the unfinished work that `recover` finishes, if it can."""
    for interrupted in store.context.db.interrupted_deletions():
        yield Finding(
            "unfinished-removal", str(interrupted.path), "a deletion was interrupted, and could not be finished", _AGAIN
        )
    for stale in store.context.db.stale_transactions():
        if stale.is_empty:
            continue
        message = "the unfinished work of a process that has ended could not be removed"
        yield Finding("dead-transaction", str(stale.path), message, _AGAIN)


def check_pins(store: LayerStore) -> Iterator[Finding]:
    """Yield pins without a layer. A layer that cannot be loaded exists, and needs its pin once it is repaired."""
    try:
        pins = store.pins()
    except (BadRecord, OSError):  # a finding of its own
        return
    if store.context.db.directories()[0] in store.context.db.missing_directories() and store.driver.layer_ids():
        return  # the records are lost, which is a finding of its own: once they are restored they need their pins
    for pin in sorted(pins - set(store.chain_ids())):
        yield Finding(
            "dangling-pin",
            pin,
            "a pin without its layer",
            "`layerstore check --repair` removes the pin, if nothing else can be lost by that; otherwise no layer is "
            "deleted until the layer is registered again with `--from FILE`, its record is restored from a backup, or "
            "`--force` gives it up",
        )


def check_references(store: LayerStore) -> Iterator[Finding]:
    """Yield what may refer to layers and cannot be read, but for records: other checks report those."""
    known = store.context.db.path.parent
    snapshots = store.context.snapshots.path.parents[1]  # a finding of its own
    quarantine = store.context.quarantine.path
    pins = store.root / "layerstore" / "pins"
    for bad in store.unreadable():
        dangling = pins in bad.path.parents and re.fullmatch("[0-9a-f]{64}", bad.path.name)  # a finding of its own
        if bad.path.is_relative_to(snapshots):
            continue
        if not (bad.path.is_relative_to(known) or quarantine.parent in bad.path.parents or dangling):
            yield Finding(
                "unreadable-reference",
                str(bad.path),
                bad.reason,
                "restore it from a backup, or move it away if nothing in it is needed; no layer is deleted until then",
            )
