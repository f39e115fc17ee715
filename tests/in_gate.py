"""The choice of what the gate runs of a parametrized test; the rest is left to `make nightly`."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from _pytest.mark import ParameterSet

from tests.driver_roots import DRIVERS


def in_gate(*chosen: str, of: Sequence[str] = DRIVERS) -> list[str | ParameterSet]:
    """Return all parameters, of which those that are not chosen are marked `nightly`.

    Args:
        chosen: the parameters that the gate runs.
        of: all of them; the drivers by default.
    """
    assert set(chosen) <= set(of)
    return [one if one in chosen else pytest.param(one, marks=pytest.mark.nightly) for one in of]
