"""`layerstore du`: how much images, layers and writable layers take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from layerstore_core.base.times import time_of
from layerstore_core.cli import output
from layerstore_core.cli.describe import short_length
from layerstore_core.cli.parameters import json_option
from layerstore_core.cli.session import Session

if TYPE_CHECKING:
    from layerstore_core.maintenance.usage import StoreUsage


@click.command()
@click.option("-v", "--verbose", is_flag=True, help="Also list each image, layer and writable layer.")
@json_option
@click.pass_obj
def du(session: Session, verbose: bool) -> None:
    """Show how much images, layers and writable layers take.

    SIZE is the bytes in files, as they were recorded: a layer that several images share counts once. RECLAIMABLE is
    what is freed if everything that is not in use is removed. The blocks on disk may be more: the driver vfs keeps a
    copy of all files of a layer's parents.

    \b
    Examples:
      layerstore du
      layerstore du -v
      layerstore du --json | jq '.totals[] | select(.kind == "images").reclaimable'
    """
    with session.open(reading=True, content=True) as store:
        from layerstore_core.maintenance.usage import disk_usage
        from layerstore_core.report.document import usage_document

        usage = disk_usage(store)
    session.answer(usage_document(usage), lambda: _lines(usage, verbose=verbose))


def _lines(usage: StoreUsage, *, verbose: bool) -> Iterator[str]:
    rows: list[tuple[str, ...]] = [("TYPE", "TOTAL", "IN USE", "SIZE", "RECLAIMABLE")]
    for number, total in enumerate(usage.totals):
        if number > 2 and not total.count:
            continue  # most stores keep none of these
        share = f" ({100 * total.reclaimable // total.size}%)" if total.size else ""
        freed = output.human_size(total.reclaimable) + share
        rows.append((total.kind, str(total.count), str(total.in_use), output.human_size(total.size), freed))
    yield from output.columns(rows)
    if not verbose:
        return
    if usage.images:
        digits = short_length([image.image_id for image in usage.images])
        rows = [("NAME", "IMAGE ID", "SIZE", "SHARED", "OWN", "IN USE", "LAST USED")]
        for image in usage.images:
            sizes = [output.human_size(size) for size in (image.size, image.shared, image.own)]
            used = "yes" if image.in_use else "no", time_of(image.last_used)
            for name in image.names or ("<none>",):
                rows.append((output.printable(name), image.image_id.hex[:digits], *sizes, *used))
        yield from ("", "Images:", *output.columns(rows))
    if usage.layers:
        digits = short_length([layer.chain_id for layer in usage.layers])
        rows = [("CHAIN ID", "SIZE", "IMAGES", "IN USE")]
        for layer in usage.layers:
            used_by = str(layer.images), "yes" if layer.in_use else "no"
            rows.append((layer.chain_id.hex[:digits], output.human_size(layer.diff_size), *used_by))
        yield from ("", "Layers:", *output.columns(rows))
    if usage.rw_layers:
        rows = [("NAME", "PARENT", "SIZE", "IN USE")]
        for rw in usage.rw_layers:
            size = "unknown" if rw.size is None else output.human_size(rw.size)
            parent = "none" if rw.parent is None else rw.parent.hex[:12]
            rows.append((output.printable(rw.name), parent, size, "yes" if rw.in_use else "no"))
        yield from ("", "Writable layers:", *output.columns(rows))
    if usage.snapshots:
        rows = [("KEY", "KIND", "PARENT", "SIZE")]
        for snapshot in usage.snapshots:
            size = "unknown" if snapshot.size is None else output.human_size(snapshot.size)
            parent = output.printable(snapshot.parent or "none")
            rows.append((output.printable(snapshot.key), snapshot.kind, parent, size))
        yield from ("", "Snapshots:", *output.columns(rows))
