"""Power cuts: all that was promised survives, and nothing is left that garbage collection does not find."""

from __future__ import annotations

import pytest

from tests.driver_roots import why_not as why_no_driver
from tests.reliability.figures import note
from tests.reliability.power import cut_everywhere, why_not
from tests.reliability.thorough import SEED, THOROUGH

pytestmark = [
    pytest.mark.skipif(bool(why_not()), reason=why_not()),
    pytest.mark.needs_root,
    pytest.mark.timeout(3600 if THOROUGH else 300),
]


def on(file_system: str, driver: str, *marks: pytest.MarkDecorator) -> object:
    reason = why_no_driver(driver)
    skip = pytest.mark.skipif(bool(reason), reason=f"{driver}: {reason}")
    return pytest.param(file_system, driver, marks=[skip, *marks])


@pytest.mark.parametrize(
    ("file_system", "driver"),
    [
        on("ext4", "vfs", pytest.mark.nightly),
        on("ext4-writeback", "overlay2"),
        on("btrfs", "btrfs", pytest.mark.nightly),
    ],
)
def test_power_cuts_at_each_flush_and_in_between(file_system, driver):
    """In the short form, the power is cut at each flush next to a promise or a driver's call, and some of the others.

    The thorough form tries all flushes, and 20 random states between each two.
    """
    rounds, every = (20, 1) if THOROUGH else (0, 6)
    outcome = cut_everywhere(file_system, driver, durability="full", seed=SEED, rounds=rounds, every=every)
    note(f"power cuts: {driver} on {file_system}", outcome.cuts, len(outcome.lost) + len(outcome.damaged))
    assert outcome.lost == []
    assert outcome.damaged == []
    assert outcome.flushes > 50
    assert outcome.cuts > 40 + outcome.flushes / every / 2


@pytest.mark.parametrize(("file_system", "driver"), [on("ext4", "vfs")])
def test_power_cuts_without_syncing_break_promises(file_system, driver):
    """Without this, the other test would prove nothing."""
    outcome = cut_everywhere(file_system, driver, durability="none", seed=SEED, rounds=0, every=1 if THOROUGH else 6)
    assert [words for words in outcome.lost if ": layer " in words]
    assert outcome.damaged
