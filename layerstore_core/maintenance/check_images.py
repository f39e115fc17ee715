"""Check the records of images, and what was kept with them."""

from __future__ import annotations

import os
from collections.abc import Iterator

from layerstore_core.errors import BadRecord
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


def check_kept(store: LayerStore) -> Iterator[Finding]:
    """Yield documents that are missing or damaged, and origins that cannot be read."""
    kept = store.context.kept
    unreadable = kept.unreadable()
    for bad in unreadable:
        yield Finding(
            "unreadable-origin",
            str(bad.path),
            bad.reason,
            "restore it from a backup, or put it into quarantine with `layerstore check --repair` and load the images "
            "again; nothing that was kept is collected until then",
        )
    if unreadable:
        return
    seen: set[str] = set()
    for path, origin in kept.origins():
        for digest in origin.documents:
            if digest in seen:
                continue
            seen.add(digest)
            remedy = "load the image again; until then it is saved with a new manifest"
            try:
                kept.read(digest)
            except BadRecord as error:
                code = "damaged-document" if kept.has(digest) else "missing-document"
                yield Finding(code, str(kept.path_of(digest)), f"{error.reason}; {path} lists it", remedy)
            except OSError as error:
                reason = f"it cannot be read: {error.strerror}; {path} lists it"
                yield Finding("damaged-document", str(kept.path_of(digest)), reason, remedy)


def check_blobs(store: LayerStore) -> Iterator[Finding]:
    """Yield the blobs of compressed layers that are damaged. This reads all of them."""
    from layerstore_core.images.keep.blobs import KeptBlobs

    blobs = KeptBlobs(store.root, store.driver_name)
    for diff_id, digest in blobs.all():
        try:
            for _ in blobs.read(diff_id, digest):
                pass
        except FileNotFoundError:  # removed a moment ago
            continue
        except (BadRecord, OSError) as error:
            yield Finding(
                "damaged-blob",
                str(blobs.path_of(diff_id, digest)),
                error.reason if isinstance(error, BadRecord) else f"it cannot be read: {error.strerror}",
                "load the image again; until then the layer is saved in another form",
            )
