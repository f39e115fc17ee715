"""What callers see of a snapshot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING

from layerstore_core.base.times import datetime_of

if TYPE_CHECKING:
    from datetime import datetime

    from layerstore_core.base.digests import ChainID
    from layerstore_core.records.snapshots.rows import SnapshotRow


class SnapshotKind(Enum):
    """The kinds of snapshots."""

    #: Read-only, of a committed one; it can never be committed.
    VIEW = "view"
    #: Writable.
    ACTIVE = "active"
    #: Read-only, and can be a parent.
    COMMITTED = "committed"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot, as it was when it was asked for.

    Attributes:
        key: its key, as the caller chose it; of a committed one, its name.
        parent: the key of its parent, `""` for none.
        kind: its kind.
        created: when it was made, or committed; with a time zone, UTC.
        updated: when its labels last changed.
        labels: the caller's labels.
        chain_id: the layer of the store that it is; `None` if it has a layer of its own.
    """

    key: str
    parent: str
    kind: SnapshotKind
    created: datetime
    updated: datetime
    labels: Mapping[str, str]
    chain_id: ChainID | None


@dataclass(frozen=True, slots=True)
class SnapshotUsage:
    """What the files of a snapshot take, without those of its parents.

    Attributes:
        size: the lengths of its regular files, in bytes, each inode once.
        inodes: the number of its files of any type, each inode once.
    """

    size: int
    inodes: int


def snapshot_of(row: SnapshotRow) -> Snapshot:
    """Return what callers see of a row."""
    return Snapshot(
        row.key,
        row.parent,
        SnapshotKind(row.kind),
        datetime_of(row.created),
        datetime_of(row.updated),
        MappingProxyType(dict(row.labels)),
        row.chain_id,
    )
