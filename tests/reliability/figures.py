"""What the proofs have shown, in numbers: `docs/reliability.md` is written from them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import NamedTuple


class Figures(NamedTuple):
    """Of one proof.

    Attributes:
        proof: which.
        faults: how often power was cut, a process killed, or a call refused.
        losses: how often something that had been promised was not there, or something was left over.
        operations: how many calls of the store there were, where they are counted.
    """

    proof: str
    faults: int
    losses: int
    operations: int = 0


def note(proof: str, faults: int, losses: int, operations: int = 0) -> None:
    """Add a line to the file that `LAYERSTORE_FIGURES` names, if it names one; see `Figures`."""
    if path := os.environ.get("LAYERSTORE_FIGURES"):
        with open(path, "a") as file:
            file.write(json.dumps(Figures(proof, faults, losses, operations)._asdict()) + "\n")


def noted(lines: Iterable[str]) -> list[Figures]:
    """What `note` has written, summed up for each proof, sorted."""
    sums: dict[str, Figures] = {}
    for line in lines:
        one = Figures(**json.loads(line))
        so_far = sums.get(one.proof, Figures(one.proof, 0, 0))
        sums[one.proof] = Figures(one.proof, *(a + b for a, b in zip(so_far[1:], one[1:], strict=True)))
    return sorted(sums.values())
