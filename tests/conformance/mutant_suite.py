"""Run the kit on every mutant. pytest collects this file only by its name, since each class of tests has to fail.

A mutant is tested with the group that has to catch it. With `LAYERSTORE_MUTANTS=all`, the mutants and the correct
driver are tested with every group.
"""

from __future__ import annotations

import os

from layerstore_core.conformance import GROUPS
from layerstore_core.conformance.base import ConformanceTests
from tests.conformance.mutants import MUTANTS, Correct

_ALL = os.environ.get("LAYERSTORE_MUTANTS") == "all"
_NOT_TRIED = {"speed"}


def _suite(mutant: type) -> type:
    groups = [
        tests for group, tests in GROUPS.items() if group not in _NOT_TRIED and (_ALL or group == mutant.caught_in)
    ]
    return type(f"Test{mutant.__name__}", (*groups, ConformanceTests), {"driver": "mutant", "factory": mutant})


for _mutant in MUTANTS.values():
    globals()[f"Test{_mutant.__name__}"] = _suite(_mutant)

if _ALL:
    TestCorrect = type(
        "TestCorrect",
        (*(tests for group, tests in GROUPS.items() if group not in _NOT_TRIED), ConformanceTests),
        {"driver": "mutant", "factory": Correct},
    )
