"""What can have happened to a path."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum


class ChangeKind(Enum):
    """What has happened to a path; the values are Docker's letters."""

    ADD = "A"
    MODIFY = "C"
    DELETE = "D"


@dataclass(frozen=True, slots=True)
class Change:
    """One changed path.

    Attributes:
        path: absolute within the layer, as `b"/etc/hosts"`.
        kind: what has happened to it.
    """

    path: bytes
    kind: ChangeKind

    def __str__(self) -> str:
        return f"{self.kind.value} {os.fsdecode(self.path)}"
