"""Check the records of images."""

from __future__ import annotations

import os
from collections.abc import Iterator

from layerstore_core.maintenance.finding import Finding
from layerstore_core.store.store import LayerStore


def check_images(store: LayerStore) -> Iterator[Finding]:
    """Yield records that are damaged or missing, and images whose layers are missing."""
    records = store.context.image_db
    records.forget_all_but(())  # a config that was sound when it was read may be damaged by now
    present = set(store.chain_ids())
    references = records.references()
    for bad in references.unreadable:
        if bad.path == records.names_path:
            yield Finding(
                "damaged-image",
                str(bad.path),
                bad.reason,
                "restore the file from a backup, or put it into quarantine with `layerstore check --repair`, "
                "and tag the images again",
            )
        elif bad.path == records.content and not os.path.lexists(bad.path):
            yield Finding("unreadable-reference", str(bad.path), bad.reason, "no layer is deleted until then")
        elif os.path.lexists(bad.path):
            yield Finding(
                "damaged-image",
                str(bad.path),
                bad.reason,
                "load the image again, restore the file from a backup, or remove the image with `layerstore rmi`; "
                "no layer is deleted until then",
            )
        else:
            yield Finding(
                "image-without-config",
                str(bad.path),
                bad.reason,
                "load the image again, restore the file from a backup, or remove the image with `layerstore rmi`; "
                "no layer is deleted until then",
            )
    for top, images in references.tops.items():
        for image in images:
            if top not in present and records.has(image):
                yield Finding(
                    "image-without-layers",
                    image,
                    f"its topmost layer, {top}, is missing",
                    "load the image again, or remove it with `layerstore rmi`",
                )
