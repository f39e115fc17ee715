"""A budget of instructions for each entry in the hot loops, so that they do not get slower unnoticed.

The tests count the program's own instructions, not the kernel's, and no time. The count is the same on a busy machine.
A count above its budget means that work was added for each entry. If that work is intended, raise the budget.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
FEW, MANY = 200, 1200

#: Thousands of instructions an entry, with Python 3.11; about a fifth above what was counted.
BUDGETS = {"scan": 38, "record": 76, "unpack": 60, "export": 200}
#: The factor by which other versions of Python may exceed the budget.
ALLOWANCE = 1.0 if sys.version_info[:2] == (3, 11) else 1.5


def instructions(loop: str, count: int, where: Path) -> int:
    command = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null", sys.executable]
    done = subprocess.run(
        [*command, CHECKOUT / "benchmarks" / "loops.py", loop, str(count), where / f"{loop}-{count}"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": str(CHECKOUT)},
    )
    found = re.search(r"I\s+refs:\s+([\d,]+)", done.stderr)
    assert found, done.stderr
    return int(found[1].replace(",", ""))


def per_entry(loop: str, where: Path) -> float:
    """Return the instructions of each further entry. The start and the imports are the same for both numbers."""
    return (instructions(loop, MANY, where) - instructions(loop, FEW, where)) / (MANY - FEW)


@pytest.fixture(scope="module")
def nothing(tmp_path_factory: pytest.TempPathFactory) -> float:
    """Return the instructions for making the tar."""
    return per_entry("nothing", tmp_path_factory.mktemp("nothing"))


@pytest.mark.needs_kernel
@pytest.mark.xdist_group("instructions")
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind, which counts, is not installed")
@pytest.mark.parametrize("loop", BUDGETS)
def test_the_instructions_of_an_entry_are_within_the_budget(loop: str, nothing: float, tmp_path: Path) -> None:
    spent = per_entry(loop, tmp_path) - nothing
    assert spent < BUDGETS[loop] * 1000 * ALLOWANCE, f"{spent / 1000:.0f} thousand instructions an entry"
