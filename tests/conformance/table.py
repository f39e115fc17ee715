"""Generate the docs' tables of mutants from runs.

`python -m tests.conformance.table` tests each mutant with its own group. `python -m tests.conformance.table all` tests
each, and the correct driver, with every group: the cross run, which takes an hour of processor time. `--root DIRECTORY`
says where, and `--processes N` how many at once. An interrupted cross run goes on where it was: `--results FILE` has
what was found so far. `--only NAME`, which may be repeated, runs some: the others keep their rows.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from layerstore_core.conformance.outcomes.results import GROUP_NAMES
from tests.conformance.mutants import MUTANTS

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "conformance-mutants.md"
#: The tests of `--quick`.
QUICK = ROOT / "layerstore_core" / "conformance" / "command" / "quick.py"
_QUICK_HEAD = '''\
"""The tests of `--quick`: those that catch the mutants. `python -m tests.conformance.table` writes it."""

from __future__ import annotations

from typing import Final

QUICK: Final = frozenset(
    {
'''
CROSS = ROOT / "docs" / "conformance-cross-run.md"
#: The number of mutants that one process tests in a cross run.
_BUNDLE = 2
#: The number of calls, steps and sequences that a sweep of a cross run tries.
_EXAMPLES = 6
_HEAD = """\
# What the conformance kit catches

Each line is a mutant: a driver that was broken on purpose, by a small change to a correct one
(`tests/conformance/mutants/`). The kit catches each mutant in the group where the driver's author would look for the
fault. The last column names the first test that fails. `python -m tests.conformance.table` generates this table, and a
test compares it with the results.

| mutant | fault | group | caught by |
| --- | --- | --- | --- |
"""
_CROSS_HEAD = """\
# The whole kit against every mutant

Each [mutant](conformance-mutants.md) was tested with every group of the kit but `speed`. The table has the groups in
which tests failed, with the number of these tests; the group in which an author would look for the fault is **bold**.
Correct is the driver of which all mutants are small changes. Of the calls, steps and random sequences of a sweep, 6
were tried (`--conformance-examples 6`), and the drivers had their roots in memory.
`python -m tests.conformance.table all` has written this page. It is no part of the gate, where each mutant meets the
tests of its own group only.

In memory, a file can have any number of names, so NeedsOneMoreName is not caught in its own group here; on a disk it
is.

The last column has the commit whose kit counted the row. The kit of today may count more:
`git diff COMMIT -- layerstore_core/conformance` shows what has changed since. To count a row anew, name it:
`python -m tests.conformance.table all --only IgnoresTheLabel`.
Rows by kit: $kits.

| mutant | groups | tests that failed | kit |
| --- | --- | --- | --- |
"""


def caught_by(table: str = "") -> dict[str, str]:
    """Return the test that caught each mutant when the docs' table, or another, was made."""
    rows = [
        line.strip("| ").split(" | ") for line in (table or DOCUMENT.read_text()).splitlines() if line.startswith("| ")
    ]
    return {name: test.strip("`") for name, _, _, test in rows if name in MUTANTS}


def run(tests: str = "known", names: Sequence[str] = (), root: Path | None = None) -> dict[str, list[tuple[str, str]]]:
    """Run the kit on all mutants. Return the group and the name of every test that failed, for each mutant.

    Args:
        tests: `"known"`: the test of the docs' table runs first, and the first failure is the last test of a mutant;
            `"whole"`: the tests of the mutant's group run in their order up to the first failure; `"all"`: every test
            of every group runs.
        names: the mutants. Empty for all.
        root: where the drivers have their roots. `None`: in pytest's directories.
    """
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report.json"
        suites = [f"tests/conformance/mutant_suite.py::Test{name}" for name in names]
        command = [sys.executable, "-m", "pytest", *(suites or ["tests/conformance/mutant_suite.py"]), "-q", "--tb=no"]
        command += ["-p", "no:cacheprovider", "--hypothesis-seed=1", f"--conformance-report={report}"]
        command += [f"--conformance-scripts={directory}"]
        if tests == "all":
            command += [f"--conformance-examples={_EXAMPLES}"]
        if root is not None:
            command += [f"--conformance-root={root}"]
        if tests != "all":
            command += ["-p", "tests.conformance.stop_early"]
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "LAYERSTORE"))
        }
        environment["LAYERSTORE_MUTANTS"] = tests
        environment["HYPOTHESIS_PROFILE"] = "repeatable"  # the same draws on every machine
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert report.exists(), done.stdout[-4000:] + done.stderr[-4000:]
        document = json.loads(report.read_text())
    failed: dict[str, list[tuple[str, str]]] = {name: [] for name in names or MUTANTS}
    for driver in document["drivers"]:
        name = driver["suite"].rpartition("::")[2].removeprefix("Test")
        failed[name] = [
            (group["group"], test["name"])
            for group in driver["groups"]
            for test in group["tests"]
            if test["outcome"] == "failed"
        ]
    return failed


def text_of(failed: dict[str, list[tuple[str, str]]]) -> str:
    """Return the document."""
    lines = []
    for name, mutant in MUTANTS.items():
        caught = next((test for group, test in failed[name] if group == mutant.caught_in), "nothing")
        lines.append(f"| {name} | {mutant.__doc__} | {mutant.caught_in} | `{caught}` |")
    return _HEAD + "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Counted:
    """What a cross run has found of one mutant.

    Attributes:
        failed: the group of each test that has failed.
        kit: the commit of the kit.
    """

    failed: list[str]
    kit: str


def cross_run(results: Path, root: Path | None, processes: int, only: Sequence[str] = ()) -> dict[str, Counted]:
    """Run every test on every mutant and on the correct driver, in several processes.

    Args:
        results: a file of the results so far, as JSON, one process a line. What it has is not run again.
        root: where the drivers have their roots. `None`: in pytest's directories.
        processes: how many run at once.
        only: the mutants to run, or `Correct`. Empty for all.
    """
    found = read_results(results)
    names = [name for name in (only or ("Correct", *MUTANTS)) if name not in found]
    kit = _commit()
    with ThreadPoolExecutor(processes) as pool, open(results, "a") as lines:
        running = [pool.submit(run, "all", names[at : at + _BUNDLE], root) for at in range(0, len(names), _BUNDLE)]
        for done in as_completed(running):
            print(json.dumps({"kit": kit, "failed": done.result()}), file=lines, flush=True)
    return read_results(results)


def read_results(results: Path) -> dict[str, Counted]:
    """Return what the processes of a cross run have found so far."""
    found: dict[str, Counted] = {}
    for line in results.read_text().splitlines() if results.exists() else []:
        document = json.loads(line)
        for name, tests in document["failed"].items():
            found[name] = Counted([group for group, _ in tests], document["kit"])
    return found


def cross_text(found: dict[str, Counted], before: str) -> str:
    """Return the document of a cross run.

    Args:
        found: what was found of the mutants that were run, and of `Correct`.
        before: the document so far, which has the rows of the others.
    """
    assert "Correct" not in found or not found["Correct"].failed, "the correct driver has failed"
    rows = {line.split(" | ")[0].strip("| "): line for line in before.splitlines() if line.startswith("| ")}
    lines = []
    for name in ("Correct", *MUTANTS):
        if name not in found:
            lines.append(rows.get(name, f"| {name} | not tried yet | | |"))
            continue
        counts = Counter(found[name].failed)
        own = MUTANTS[name].caught_in if name in MUTANTS else ""
        groups = [
            f"**{group}** {counts[group]}" if group == own else f"{group} {counts[group]}"
            for group in GROUP_NAMES
            if counts[group]
        ]
        lines.append(f"| {name} | {', '.join(groups) or 'none'} | {counts.total()} | {found[name].kit} |")
    kits = Counter(line.split(" | ")[-1].strip("| ") or "none" for line in lines)
    head = _CROSS_HEAD.replace("$kits", ", ".join(f"{kit} {number}" for kit, number in kits.most_common()))
    return head + "\n".join(lines) + "\n"


def _commit() -> str:
    """Return the commit of this checkout, marked if its files have changed since."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def quick_of(table: str) -> str:
    """Return the module with the tests that are the first to catch a mutant, without those that take long."""
    names = sorted(set(caught_by(table).values()) - {"nothing"})
    return _QUICK_HEAD + "".join(f'        "{name}",\n' for name in names) + "    }\n)\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("tests", nargs="?", choices=("whole", "known", "all"), default="whole")
    parser.add_argument("--root", type=Path)
    parser.add_argument("--results", type=Path)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--only", action="append", default=[], choices=("Correct", *MUTANTS), metavar="NAME")
    chosen = parser.parse_args()
    if chosen.tests == "all":
        results = chosen.results or Path(tempfile.gettempdir(), "layerstore-cross-run")
        found = cross_run(results, chosen.root, chosen.processes, chosen.only)
        CROSS.write_text(cross_text(found, CROSS.read_text()))
    else:
        text = text_of(run(chosen.tests, root=chosen.root))
        DOCUMENT.write_text(text)
        QUICK.write_text(quick_of(text))
