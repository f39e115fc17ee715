"""A disk that refuses writes: the call that needed them fails, and what had been promised before is there."""

from __future__ import annotations

import random

import pytest

from tests.driver_roots import why_not as why_no_driver
from tests.reliability.figures import note
from tests.reliability.power import fail_at, why_not
from tests.reliability.thorough import SEED, THOROUGH

pytestmark = [
    pytest.mark.skipif(bool(why_not()), reason=why_not()),
    pytest.mark.skipif(bool(why_no_driver("overlay2")), reason=f"overlay2: {why_no_driver('overlay2')}"),
    pytest.mark.needs_root,
    pytest.mark.timeout(3600 if THOROUGH else 300),
]

#: How many writes a life takes, by far the most of them.
WRITES = 400
NUMBERS = range(1, WRITES) if THOROUGH else sorted(random.Random(SEED).sample(range(1, 200), 6))


@pytest.mark.parametrize("kind", ["for ever", "once"])
def test_at_a_write(kind):
    losses, failed = [], 0
    for number in NUMBERS:
        last = number if kind == "once" else 1 << 40
        outcome, raised = fail_at("ext4", "overlay2", first=number, last=last)
        failed += raised
        losses += [f"write {number}: {words}" for words in outcome.lost + outcome.damaged]
    note(f"a disk that fails {kind}: overlay2 on ext4", len(NUMBERS), len(losses))
    assert losses == []
    assert failed
