"""Every test of the kit says what the contract demands, and what a user would lose."""

from __future__ import annotations

from layerstore_core import conformance
from layerstore_core.conformance import GROUPS, DriverConformance
from layerstore_core.conformance.outcomes.results import GROUP_NAMES

TESTS = [
    (group, name, value)
    for group, tests in GROUPS.items()
    for base in tests.__mro__
    for name, value in vars(base).items()
    if name.startswith("test_")
]


def test_every_public_name_of_the_kit_can_be_imported() -> None:
    assert all(getattr(conformance, name).__name__ == name for name in conformance.__all__ if name != "GROUPS")


def test_every_test_of_the_kit_states_its_demand_and_the_loss() -> None:
    assert TESTS
    for group, name, test in TESTS:
        demand, blank, loss = test.__doc__.strip().partition("\n\n")
        assert blank and "\n" not in demand and demand.endswith("."), f"{group}: {name}"
        assert loss.strip().startswith("Otherwise ") or group == "speed", f"{group}: {name}"
        assert loss.strip().endswith((".", ")")), f"{group}: {name}"


def test_driver_conformance_has_every_group() -> None:
    assert tuple(GROUPS) == GROUP_NAMES
    assert all(issubclass(DriverConformance, tests) for tests in GROUPS.values())


def test_no_group_overrides_a_test_of_another() -> None:
    names = [name for _, name, _ in TESTS]
    assert sorted(names) == sorted(set(names))
