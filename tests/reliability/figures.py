"""The figures of the reliability tests, from which `docs/reliability.md` is written."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import NamedTuple


class Figures(NamedTuple):
    """The figures of one proof.

    Attributes:
        proof: the name of the proof.
        faults: the number of power cuts, killed processes, or refused calls.
        losses: the number of broken promises and of stale state.
        operations: the number of calls of the store, if they are counted.
    """

    proof: str
    faults: int
    losses: int
    operations: int = 0


def note(proof: str, faults: int, losses: int, operations: int = 0) -> None:
    """Add a line to the file that `LAYERSTORE_FIGURES` names, if it is set. See `Figures`."""
    if path := os.environ.get("LAYERSTORE_FIGURES"):
        with open(path, "a") as file:
            file.write(json.dumps(Figures(proof, faults, losses, operations)._asdict()) + "\n")


def sum_figures(lines: Iterable[str]) -> list[Figures]:
    """Sum the lines of `note` up for each proof. Return the figures sorted by proof."""
    sums: dict[str, Figures] = {}
    for line in lines:
        one = Figures(**json.loads(line))
        so_far = sums.get(one.proof, Figures(one.proof, 0, 0))
        sums[one.proof] = Figures(one.proof, *(a + b for a, b in zip(so_far[1:], one[1:], strict=True)))
    return sorted(sums.values())
