"""The conformance kit: the tests that a storage driver has to pass, as a class for subclassing.

The kit needs pytest and hypothesis: `pip install layerstore-core[conformance]`. A driver's own test suite is::

    from layerstore_core.conformance import DriverConformance

    class TestMyDriver(DriverConformance):
        driver = "mydriver"

`docs/conformance.md` says what is tested, and how to read the report.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from layerstore_core.conformance.rig import DriverRig
    from layerstore_core.conformance.suite import GROUPS, DriverConformance

__all__ = ["GROUPS", "DriverConformance", "DriverRig"]

_HOMES = {"DriverRig": "rig", "DriverConformance": "suite", "GROUPS": "suite"}


def __getattr__(name: str) -> Any:
    # Lazy: pytest imports this package in every test run of an environment that has it installed.
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        import hypothesis  # noqa: F401
        import pytest  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"the conformance kit needs {error.name}, which is not installed: "
            "pip install 'layerstore-core[conformance]'"
        ) from error
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
