"""Proving a store: do the records, the driver's layers and the tars still belong together?

`check_store` looks and changes nothing. `repair` does what certainly loses nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from layerstore_core.errors import LayerStoreError
from layerstore_core.layers import Layer
from layerstore_core.store import LayerStore

_CHUNK: Final = 1 << 20
#: What `recover` ends, if it can.
_LEFTOVERS: Final = ("unfinished-removal", "dead-transaction")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be.

    Attributes:
        code: a stable name for this kind of finding.
        subject: the layer, writable layer, file or directory concerned.
        message: what is wrong, in a sentence.
        remedy: what to do about it.
    """

    code: str
    subject: str
    message: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.code}: {self.subject}: {self.message} ({self.remedy})"


def check_store(
    store: LayerStore, *, full: bool = False, progress: Callable[[int, int], None] | None = None
) -> list[Finding]:
    """Look for damage.

    Args:
        store: an open store.
        full: put every layer's tar together and compare its digest, too; this reads all content.
        progress: called before each layer with how many are done, and how many there are.

    Returns:
        What was found, in the order of looking; nothing where all is well.
    """
    findings = [
        Finding(
            "unloadable",
            problem.path,
            problem.reason,
            "restore the file from a backup, or remove its directory and register the layer again",
        )
        for problem in store.load_problems
    ]
    findings += _leftovers(store)
    layers = store.layers()
    for done, (chain_id, layer) in enumerate(sorted(layers.items())):
        if progress is not None:
            progress(done, len(layers))
        if not store.driver.exists(layer.cache_id):
            findings.append(
                Finding(
                    "missing-in-driver",
                    chain_id,
                    f"the driver {store.driver_name} has no layer {layer.cache_id}",
                    "remove the layer, and register it again",
                )
            )
        elif full:
            findings += _verify(layer)
    for name in store.rw_layers():
        mount_id = store.mount_id(name)
        if not store.driver.exists(mount_id):
            findings.append(
                Finding(
                    "missing-in-driver",
                    f"writable layer {name!r}",
                    f"the driver {store.driver_name} has no layer {mount_id}",
                    "its content is lost; remove it with `layerstore rw rm`",
                )
            )
    findings += _images(store)
    # A layer that cannot be loaded is still there, and needs its pin once it has been mended.
    for pin in sorted(store.pins() - set(store.chain_ids())):
        findings.append(
            Finding("dangling-pin", pin, "a pin without its layer", "`layerstore check --repair` removes the pin")
        )
    return findings


def repair(store: LayerStore, findings: list[Finding]) -> list[Finding]:
    """Mend what can be mended without losing anything.

    Returns:
        The findings that are left.
    """
    if any(finding.code in _LEFTOVERS for finding in findings):
        store.cleanup()
    left = []
    still_there = {finding.subject for finding in _leftovers(store)}
    for finding in findings:
        if finding.code in _LEFTOVERS and finding.subject not in still_there:
            continue
        if finding.code == "dangling-pin":
            store.unpin(finding.subject)
            continue
        left.append(finding)
    return left


def _leftovers(store: LayerStore) -> list[Finding]:
    findings = [
        Finding(
            "unfinished-removal",
            str(orphan.path),
            "a deletion was cut short, and could not be finished",
            "`layerstore check --repair` or `layerstore gc` tries again, and says what is in the way",
        )
        for orphan in store.db.removing()
    ]
    findings += [
        Finding(
            "dead-transaction",
            str(dead.path),
            "what a dead process was making could not be removed",
            "`layerstore check --repair` or `layerstore gc` tries again, and says what is in the way",
        )
        for dead in store.db.dead_transactions()
    ]
    return findings


def _images(store: LayerStore) -> list[Finding]:
    records = store.image_db
    findings = []
    try:
        records.names()
    except (LayerStoreError, OSError) as error:
        findings.append(
            Finding(
                "damaged-image",
                str(records.names_path),
                str(error),
                "restore the file from a backup, or remove it and tag the images again",
            )
        )
    present = set(store.chain_ids())
    for image in records.image_ids():
        try:
            top = records.top_layer(image)
        except (LayerStoreError, OSError) as error:
            findings.append(
                Finding(
                    "damaged-image",
                    str(records.config_path(image)),
                    str(error),
                    "remove the image with `layerstore rmi`, and load it again",
                )
            )
            continue
        if top is not None and top not in present:
            findings.append(
                Finding(
                    "image-without-layers",
                    image,
                    f"its topmost layer, {top}, is missing",
                    "load the image again, or remove it with `layerstore rmi`",
                )
            )
    return findings


def _verify(layer: Layer) -> list[Finding]:
    try:
        with layer.tar_stream() as stream:
            while stream.read(_CHUNK):
                pass
    except (LayerStoreError, OSError) as error:
        return [
            Finding(
                "damaged",
                layer.chain_id,
                str(error),
                "remove the layer, and register it again from its source",
            )
        ]
    return []
