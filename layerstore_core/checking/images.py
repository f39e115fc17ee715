"""The image records."""

from __future__ import annotations

from collections.abc import Iterator

from layerstore_core.checking.finding import Finding
from layerstore_core.errors import LayerStoreError
from layerstore_core.store import LayerStore


def check_images(store: LayerStore) -> Iterator[Finding]:
    """Records that are damaged, and images whose layers are gone."""
    records = store.image_db
    try:
        records.names()
    except (LayerStoreError, OSError) as error:
        yield Finding(
            "damaged-image",
            str(records.names_path),
            str(error),
            "restore the file from a backup, or put it into quarantine with `layerstore check --repair`, "
            "and tag the images again",
        )
    present = set(store.chain_ids())
    for image in records.image_ids():
        try:
            top = records.top_layer(image)
        except FileNotFoundError:  # removed meanwhile
            continue
        except (LayerStoreError, OSError) as error:
            yield Finding(
                "damaged-image",
                str(records.config_path(image)),
                str(error),
                "remove the image with `layerstore rmi`, and load it again",
            )
            continue
        if top is not None and top not in present and records.has(image):
            yield Finding(
                "image-without-layers",
                image,
                f"its topmost layer, {top}, is missing",
                "load the image again, or remove it with `layerstore rmi`",
            )
