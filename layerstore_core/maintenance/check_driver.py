"""Compare the records with the driver, both ways, and ask the driver for its own findings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

from layerstore_core.base.digests import ChainID
from layerstore_core.errors import LayerStoreError
from layerstore_core.maintenance.finding import Finding
from layerstore_core.records.layer_record import MountRecord
from layerstore_core.store.handles import Layer
from layerstore_core.store.parentage import other_parent, parent_in_words
from layerstore_core.store.store import LayerStore
from layerstore_core.store.strays import Strays


class RecordedLayer(NamedTuple):
    """A layer of the driver that a record names.

    Attributes:
        name: of the writable layer; `None` for a read-only one.
        subject: the record, as findings name it.
        layer_id: the driver's ID.
        parent_id: the driver's ID of its parent, `""` for none.
        is_current: returns whether the record still names it: another process may have deleted both meanwhile.
    """

    name: str | None
    subject: str
    layer_id: str
    parent_id: str
    is_current: Callable[[], bool]


def recorded_layers(store: LayerStore) -> Iterator[RecordedLayer]:
    """Yield all layers that the records name, parents before their children."""
    layers = store.layers()
    for chain, layer in sorted(layers.items(), key=lambda item: (item[1].depth, item[0])):
        parent_id = layer.parent.cache_id if layer.parent else ""
        yield RecordedLayer(
            None, chain, layer.cache_id, parent_id, partial(_is_current_layer, store, chain, layer.cache_id)
        )
    for name in store.rw_layers():
        yield from recorded_mount_layers(store, name, layers)


def recorded_mount_layers(store: LayerStore, name: str, layers: Mapping[ChainID, Layer]) -> Iterator[RecordedLayer]:
    """Yield the layers that a writable layer's record names, the init layer first; none if it was just deleted."""
    try:
        record = store.context.db.read_mount(name)
    except (LayerStoreError, OSError):
        return
    else:
        is_current = partial(_is_current_mount, store, record)
        parent_id = layers[record.parent].cache_id if record.parent is not None and record.parent in layers else ""
        subject = subject_of(name)
        if record.init_id:
            yield RecordedLayer(name, subject, record.init_id, parent_id, is_current)
            parent_id = record.init_id
        yield RecordedLayer(name, subject, record.mount_id, parent_id, is_current)


def subject_of(name: str) -> str:
    """Return the name of a writable layer in findings."""
    return f"writable layer {name!r}"


def check_driver(store: LayerStore, *, records_locked: bool = False) -> Iterator[Finding]:
    """Check each layer of the driver, and look for layers that only the records or only the driver know.

    Args:
        store: an open store.
        records_locked: whether the caller keeps the records from changing.
    """
    present = set(store.driver.layer_ids() or ())
    for recorded in recorded_layers(store):
        exists = store.driver.exists(recorded.layer_id)
        if exists or recorded.layer_id in present:
            # A layer that is being deleted has lost its record first.
            if (found := list(check_recorded_layer(store, recorded, exists=exists))) and recorded.is_current():
                yield from found
        elif recorded.is_current():
            yield Finding(
                "missing-in-driver",
                recorded.subject,
                f"the driver {store.driver_name} has no layer {recorded.layer_id}",
                "its content is lost; remove it with `layerstore rw rm`"
                if recorded.name is not None
                else "give the layer or its image with `layerstore check --repair --from FILE`",
            )
    yield from _check_strays(Strays(store.context, lock=not records_locked), store)


def check_home(store: LayerStore, *, full: bool) -> Iterator[Finding]:
    """Ask the driver for what is wrong with its state of no single layer; if `full`, it reads all of it."""
    try:
        problems = store.driver.check_home(full=full)
    except (LayerStoreError, OSError) as error:
        problems = [f"it cannot be checked: {error}"]
    for problem in problems:
        yield Finding(
            "broken-driver-home",
            str(store.driver.home),
            problem,
            "`layerstore check --repair` has the driver repair it, as far as nothing is lost by that",
        )


def check_recorded_layer(store: LayerStore, recorded: RecordedLayer, *, exists: bool = True) -> Iterator[Finding]:
    """Check one layer that the driver has, in part at least."""
    try:
        known = other_parent(store.context, recorded.layer_id, recorded.parent_id)
        problems = store.driver.check_layer(recorded.layer_id, recorded.parent_id if known is None else known)
    except (LayerStoreError, OSError) as error:
        known, problems = None, [f"it cannot be read: {error}"]
    if known is not None:
        yield Finding(
            "wrong-parent",
            recorded.subject,
            f"{parent_in_words(store.context, recorded.parent_id)} according to its record, and "
            f"{parent_in_words(store.context, known)} according to the driver {store.driver_name}",
            "`layerstore check --repair` repairs it, if the contents prove which is right; otherwise restore the "
            "record",
        )
    if not exists and not problems:
        problems = [f"the driver {store.driver_name} has only a part of layer {recorded.layer_id}"]
    for problem in problems:
        yield Finding(
            "broken-in-driver",
            recorded.subject,
            problem,
            "`layerstore check --repair` repairs it, if it can be rebuilt; otherwise give the layer with `--from FILE`",
        )


def _is_current_layer(store: LayerStore, chain: ChainID, cache_id: str) -> bool:
    return store.context.db.cache_id(chain) == cache_id


def _is_current_mount(store: LayerStore, record: MountRecord) -> bool:
    return store.context.db.mount_id(record.name) == record.mount_id


def _check_strays(strays: Strays, store: LayerStore) -> Iterator[Finding]:
    if strays.ids and strays.lost:
        paths = [store.context.db.path] if strays.lost == store.context.db.directories() else strays.lost
        for path in paths:
            yield Finding(
                "records-lost",
                str(path),
                f"the directory is missing, and the driver {store.driver_name} has {len(strays.ids)} layers that no "
                "record names",
                "restore it from a backup: without it nothing says what the layers are. If nothing that was recorded "
                "there is needed, create it, empty",
            )
    # Otherwise they may be a damaged record's, which is a finding of its own.
    certain = strays.ids if strays.certain else []
    for layer_id in (*strays.snapshots, *certain):
        yield Finding(
            "stray-in-driver",
            layer_id,
            f"the driver {store.driver_name} has a layer that no record names",
            "`layerstore gc` removes it",
        )
