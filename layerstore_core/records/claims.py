"""Claims of damaged records on their parents: these layers have to stay until the record is repaired or removed.

A record that cannot be loaded is no child of any layer in the catalog. If its parent were deleted because of that, a
damaged byte in a small file would cost the content of a whole chain.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from layerstore_core.base import inside
from layerstore_core.base.digests import ChainID, DiffID, chain_id
from layerstore_core.errors import BadRecord
from layerstore_core.records.layer_record import CACHE_ID, INIT_ID, MOUNT_ID, read_digest

#: The end of the name of a layer's record: the chain ID's digits, or in quarantine the first of them.
_CHAIN_HEX: Final = r"(?s)(?:.*-)?([0-9a-f]{12}|[0-9a-f]{64})"
_OF_RECORDS = (CACHE_ID, MOUNT_ID, INIT_ID, "diff", "parent", "size", "tar-split.json.gz")


class Claims(NamedTuple):
    """The parents of damaged records.

    Attributes:
        parents: the layers that are certain to be the parent of a damaged record, with those records.
        unknown: the records whose parent is not known, or is a layer whose own record is missing: the parent of that
            one may be any layer.
    """

    parents: dict[ChainID, list[Path]]
    unknown: list[BadRecord]


def claimed_parents(records: Iterable[Path], known: Iterable[ChainID]) -> Claims:
    """Return the parents of damaged records.

    The parent that a damaged record names counts where it is proved: by the name of the record, which is the digest of
    parent and diff ID, or, for a writable layer, because the layer exists.

    Args:
        records: the directories of the damaged records, layers' and writable layers'.
        known: the layers that can be loaded.
    """
    layers = set(known)
    found = Claims({}, [])
    damaged = list(filter(is_record, records))
    present = {match[1] for record in damaged if (match := re.fullmatch(_CHAIN_HEX, record.name))}
    for record in damaged:
        parent = read_digest(ChainID, record / "parent")
        if _is_mount(record):
            certain = parent in layers
        else:
            certain, parent = _proved(record, parent, layers)
        if not certain:
            found.unknown.append(BadRecord(record, "it is damaged, and its parent is not known"))
        elif parent is not None:
            found.parents.setdefault(parent, []).append(record)
            if parent not in layers and present.isdisjoint((parent.hex, parent.hex[:12])):
                found.unknown.append(BadRecord(record, f"the record of its parent, layer {parent}, is missing"))
    return found


def is_record(path: Path) -> bool:
    """Return whether this is or was a record: a directory with files of a record, or one that cannot be read."""
    if not inside.is_directory(path):
        return False
    try:
        return not set(_OF_RECORDS).isdisjoint(inside.names(path))
    except OSError:
        return True


def _is_mount(record: Path) -> bool:
    return record.parent.name == "mounts" or inside.exists(record / MOUNT_ID)


def _proved(record: Path, parent: ChainID | None, layers: set[ChainID]) -> tuple[bool, ChainID | None]:
    """Return whether the name of a layer's record proves its parent, and the parent."""
    match = re.fullmatch(_CHAIN_HEX, record.name)
    diff_id = read_digest(DiffID, record / "diff")
    if match is not None and diff_id is not None:
        for candidate in (parent, None, *layers):
            if chain_id(diff_id, candidate).hex.startswith(match[1]):
                return True, candidate
    return False, None
