"""What the proofs have shown, in numbers: `docs/reliability.md` is written from them."""

from __future__ import annotations

import json
import os


def note(proof: str, faults: int, losses: int, operations: int = 0) -> None:
    """Add a line to the file that `LAYERSTORE_FIGURES` names, if it names one.

    Args:
        proof: which.
        faults: how often power was cut, a process killed, or a call refused.
        losses: how often something that had been promised was not there, or something was left over.
        operations: how many calls of the store there were, where they are counted.
    """
    if path := os.environ.get("LAYERSTORE_FIGURES"):
        line = json.dumps({"proof": proof, "faults": faults, "losses": losses, "operations": operations})
        with open(path, "a") as file:
            file.write(line + "\n")
