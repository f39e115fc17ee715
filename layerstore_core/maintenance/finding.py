"""The findings of a check, and their codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

#: Every code, and what it means. Codes never change their meaning; `docs/reliability.md` has this table.
CODES: Final = {
    "unloadable": "a record is damaged, or its parent's is damaged or missing",
    "records-lost": "the driver has layers that no record names, and a directory of records is gone",
    "empty-record": "an empty directory in the place of a record",
    "not-a-record": "an unexpected entry among the records",
    "missing-in-driver": "a record names a layer that the driver does not have",
    "broken-in-driver": "the driver has the layer, but a file that it needs for it is missing or damaged",
    "broken-driver-home": "state of the driver that belongs to no single layer is damaged",
    "stray-in-driver": "the driver has a layer that no record names",
    "damaged": "a layer's tar cannot be assembled, or is not what was registered (full checks only)",
    "tree-differs": "the files that the driver shows of a layer are not those of its tar (full checks only)",
    "wrong-parent": "a record and the driver name different parents of a layer",
    "unfinished-removal": "a deletion was interrupted, and could not be finished",
    "dead-transaction": "the unfinished work of a process that has ended could not be removed",
    "dangling-pin": "a pin without its layer",
    "damaged-image": "an image's record, or the list of names, is damaged",
    "image-without-config": "an image's config is missing, and a name or another image refers to it",
    "damaged-snapshots": "the database of an engine's snapshots is damaged, or cannot be read",
    "lost-snapshots": "the database of an engine's snapshots is missing, and the driver has layers of snapshots",
    "unfinished-snapshot": "a process that has ended was making or removing a snapshot",
    "unreadable-reference": "something that may refer to layers cannot be read, so that none is deleted",
    "image-without-layers": "an image's topmost layer is missing",
    "missing-document": "a manifest, an index or a blob that was kept with an image is missing",
    "damaged-document": "a manifest, an index or a blob that was kept with an image is damaged",
    "unreadable-origin": "what belongs to an image or a name cannot be read, or is lost",
    "damaged-blob": "a layer that was kept as it came compressed is damaged (full checks only)",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """A finding: one thing that is not as it should be.

    Attributes:
        code: a stable name for this kind of finding, one of `CODES`.
        subject: the layer, writable layer, file or directory concerned.
        message: what is wrong, in a sentence.
        remedy: what to do about it.
    """

    code: str
    subject: str
    message: str
    remedy: str

    def __post_init__(self) -> None:
        assert self.code in CODES, self.code

    def __str__(self) -> str:
        return f"{self.code}: {self.subject}: {self.message} ({self.remedy})"
