"""The choice of what the gate runs of a parametrized test; the rest is left to `make nightly`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

import pytest

from tests.driver_roots import DRIVERS

#: Whether tests that are marked `nightly` are left out.
SHORT: Final = os.environ.get("LAYERSTORE_TEST_SHORT", "") not in ("", "0")
#: The drivers that the fixture `driver` of the core's tests gives in the gate.
GATE_DRIVERS: Final = ("vfs", "overlay2")
#: Those that it gives in this run. Tests that try each of many cases with one of the drivers share them out to these.
RUN_DRIVERS: Final = GATE_DRIVERS if SHORT else DRIVERS


def in_gate(*chosen: str, of: Sequence[str] = DRIVERS) -> list[object]:
    """Return all parameters, of which those that are not chosen are marked `nightly`.

    Args:
        chosen: the parameters that the gate runs.
        of: all of them; the drivers by default.
    """
    assert set(chosen) <= set(of)
    return [one if one in chosen else pytest.param(one, marks=pytest.mark.nightly) for one in of]
