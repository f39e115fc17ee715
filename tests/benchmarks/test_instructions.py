"""A budget of instructions for each entry in the hot loops: they do not get slower unnoticed.

Instructions of the program itself are counted, not the kernel's, and not time: the count is the same on a
busy machine. A count above its budget means that work was added for each entry; where it is wanted, raise it.
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
#: What other versions may need more.
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
    """What each further entry costs; starting up and importing are the same for both."""
    return (instructions(loop, MANY, where) - instructions(loop, FEW, where)) / (MANY - FEW)


@pytest.fixture(scope="module")
def nothing(tmp_path_factory: pytest.TempPathFactory) -> float:
    """What making the tar costs."""
    return per_entry("nothing", tmp_path_factory.mktemp("nothing"))


@pytest.mark.needs_kernel
@pytest.mark.xdist_group("instructions")
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind, which counts, is not installed")
@pytest.mark.parametrize("loop", BUDGETS)
def test_the_budget_of_an_entry(loop: str, nothing: float, tmp_path: Path) -> None:
    spent = per_entry(loop, tmp_path) - nothing
    assert spent < BUDGETS[loop] * 1000 * ALLOWANCE, f"{spent / 1000:.0f} thousand instructions an entry"
