"""Every test of the kit says what the contract demands, and what a user would lose."""

from __future__ import annotations

import pytest

from layerstore_core.conformance import GROUPS, DriverConformance
from layerstore_core.conformance.results import GROUP_NAMES

TESTS = [
    (group, name, value)
    for group, tests in GROUPS.items()
    for name, value in vars(tests).items()
    if name.startswith("test_")
]


@pytest.mark.parametrize(("group", "name", "test"), TESTS, ids=lambda value: value if isinstance(value, str) else "")
def test_it_has_its_two_sentences(group, name, test) -> None:
    demand, blank, loss = test.__doc__.strip().partition("\n\n")
    assert blank and "\n" not in demand and demand.endswith(".")
    assert loss.strip().startswith("Otherwise ") or group == "speed"
    assert loss.strip().endswith(".")


def test_a_driver_meets_every_group() -> None:
    assert tuple(GROUPS) == GROUP_NAMES
    assert all(issubclass(DriverConformance, tests) for tests in GROUPS.values())


def test_no_group_hides_a_test_of_another() -> None:
    names = [name for _, name, _ in TESTS]
    assert sorted(names) == sorted(set(names))
