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

from layerstore_core.base.kernels import VARIABLE, engine

CHECKOUT = Path(__file__).resolve().parents[2]
FEW, MANY = 200, 1200

#: Thousands of instructions an entry, with Python 3.11 and gcc 12; about a fifth above what was counted.
BUDGETS = {
    "kernels": {"scan": 4.5, "record": 10, "unpack": 10, "export": 24},
    "plain": {"scan": 140, "record": 215, "unpack": 220, "export": 500},
}
LOOPS = tuple(BUDGETS["plain"])
#: The factor by which other versions of Python may exceed the budget.
ALLOWANCE = 1.0 if sys.version_info[:2] == (3, 11) else 1.5


@pytest.fixture(scope="module", params=BUDGETS)
def engine_used(request: pytest.FixtureRequest) -> str:
    """Which engine does the work: the kernels, or Python alone."""
    if request.param == "kernels" and engine().kernels is None:
        pytest.skip(f"no kernels: {engine().reason}")
    return request.param


@pytest.fixture(scope="module")
def per_entry(engine_used: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """Return the instructions of each further entry in each loop, without those that make the tar.

    All loops are copies of one process, which has done the imports. So what it had counted by then is in all numbers.
    """
    runs = [f"{loop}:{count}" for loop in ("nothing", *LOOPS) for count in (FEW, MANY)]
    command = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null", sys.executable]
    done = subprocess.run(
        [*command, CHECKOUT / "benchmarks" / "loops.py", tmp_path_factory.mktemp("loops"), *runs],
        capture_output=True,
        text=True,
        check=True,
        env={
            **os.environ,
            "PYTHONHASHSEED": "0",
            "PYTHONPATH": str(CHECKOUT),
            VARIABLE: "1" if engine_used == "kernels" else "0",
        },
    )
    by_process = dict(re.findall(r"==(\d+)== I\s+refs:\s+([\d,]+)", done.stderr))
    processes = {run: pid for pid, run in (line.split() for line in done.stdout.splitlines())}
    assert processes.keys() == set(runs), done.stderr
    counted = {run: int(by_process[pid].replace(",", "")) for run, pid in processes.items()}
    spent = {
        loop: (counted[f"{loop}:{MANY}"] - counted[f"{loop}:{FEW}"]) / (MANY - FEW) for loop in ("nothing", *LOOPS)
    }
    return {loop: spent[loop] - spent["nothing"] for loop in LOOPS}


@pytest.mark.nightly
@pytest.mark.needs_kernel
@pytest.mark.xdist_group("instructions")
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind, which counts, is not installed")
@pytest.mark.parametrize("loop", LOOPS)
def test_the_instructions_of_an_entry_are_within_the_budget(
    loop: str, engine_used: str, per_entry: dict[str, float]
) -> None:
    spent = per_entry[loop]
    assert spent < BUDGETS[engine_used][loop] * 1000 * ALLOWANCE, f"{spent / 1000:.0f} thousand instructions an entry"
