"""Scripts: sequences of steps as data, one JSON object a line, so that a failure can be shortened, read and replayed.

A step is a plain mapping, `{"do": "write", "layer": "w1", …}`. `layerstore_core.conformance.model.Player` plays it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from layerstore_core.errors import LayerStoreError

Step = Mapping[str, Any]


class InvalidScript(LayerStoreError):
    """A step refers to a layer that does not exist. This is an error of the script, not of the driver."""


def read_script(path: Path) -> list[Step]:
    """Read the steps in a file, one JSON object a line. Skip empty lines and lines that begin with `#`."""
    lines = path.read_text().splitlines()
    return [json.loads(line) for line in lines if line.strip() and not line.startswith("#")]


def write_script(path: Path, steps: Iterable[Step]) -> None:
    """Write a script that `read_script` can read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(step) + "\n" for step in steps))


def shorten(steps: Sequence[Step], fails: Callable[[Sequence[Step]], bool], seconds: float) -> list[Step]:
    """Return a shorter script that still fails: leave out the steps that the failure does not need.

    Args:
        steps: a script that fails.
        fails: returns whether a script fails. An invalid script does not fail.
        seconds: the time limit. After it, the shortest script found so far is returned.
    """
    found = list(steps)
    end = time.monotonic() + seconds
    length = max(len(found) // 2, 1)
    while True:
        at, shorter = 0, False
        while at < len(found) and time.monotonic() < end:
            attempt = found[:at] + found[at + length :]
            if attempt and fails(attempt):
                found, shorter = attempt, True
            else:
                at += length
        if time.monotonic() >= end or (length == 1 and not shorter):
            return found
        length = max(length // 2, 1)
