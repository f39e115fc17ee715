"""Generate the docs' table of mutants from a run: `python -m tests.conformance.table`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.conformance.mutants import MUTANTS

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "conformance-mutants.md"
_HEAD = """\
# What the conformance kit catches

Each line is a mutant: a driver that was broken on purpose, by a small change to a correct one
(`tests/conformance/mutants/`). The kit catches each mutant in the group where the driver's author would look for the
fault. The last column names the first test that fails. `python -m tests.conformance.table` generates this table, and a
test compares it with the results.

| mutant | fault | group | caught by |
| --- | --- | --- | --- |
"""


def caught_by() -> dict[str, str]:
    """Return the test that caught each mutant when the docs' table was made."""
    rows = [line.strip("| ").split(" | ") for line in DOCUMENT.read_text().splitlines() if line.startswith("| ")]
    return {name: test.removesuffix(" (afterwards)") for name, _, _, test in rows}


def run(tests: str = "known") -> dict[str, list[tuple[str, str]]]:
    """Run the kit on all mutants. Return the group and the name of every test that failed, for each mutant.

    Args:
        tests: `"known"`: the test of the docs' table runs first, and the first failure is the last test of a mutant;
            `"whole"`: the tests of the mutant's group run in their order up to the first failure; `"all"`: every test
            of every group runs.
    """
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report.json"
        command = [sys.executable, "-m", "pytest", "tests/conformance/mutant_suite.py", "-q", "--tb=no"]
        command += ["-p", "no:cacheprovider", "--hypothesis-seed=1", f"--conformance-report={report}"]
        command += [f"--conformance-scripts={directory}"]
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
    failed: dict[str, list[tuple[str, str]]] = {name: [] for name in MUTANTS}
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
        caught = next((test for group, test in failed[name] if group == mutant.caught_in), "**nothing**")
        lines.append(f"| {name} | {mutant.__doc__} | {mutant.caught_in} | {caught} |")
    return _HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(text_of(run("whole")))
