"""Test programs in Go: built without network of the sources that Debian packages, run, and their results.

The sources of a suite's glue are ours. All that they import is in Debian's packages `golang-*-dev`, below
/usr/share/gocode. Go finds it there in the mode without modules (GO111MODULE=off).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

SOURCES: Final = Path("/usr/share/gocode")
#: The name of a benchmark on a line of its own; then name and processors, and the figures if it ended.
_BENCHMARK: Final = re.compile(r"^(Benchmark\w+)(?:$|-\d+(?:[ ]*\t[ ]*\d+(\t.*))?$)", re.MULTILINE)


def why_not(packages: Iterable[str]) -> str:
    """Return why a program in Go cannot be built here, with what to do. Empty if it can.

    Args:
        packages: names of Debian packages with sources.
    """
    missing = [] if shutil.which("go") else ["golang-go"]
    missing += [name for name in packages if not Path("/usr/share/doc", name).exists()]
    return f"not installed: {' '.join(missing)}; .ci/packages engines installs them" if missing else ""


def build(glue: Path, program: Path, stubs: Mapping[str, Path]) -> None:
    """Build a test program.

    Args:
        glue: the directory with the package of tests.
        program: the file to write.
        stubs: directories with packages that Debian's sources lack, by import path.
    """
    work = program.with_name(f"{program.name}.gopath")
    # Debian has version 3 below the path of version 1, and old sources name the path with the version.
    for path, directory in {"gotest.tools/v3": SOURCES / "src/gotest.tools", **stubs}.items():
        link = work / "src" / path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(directory)
    environment = {**os.environ, "GO111MODULE": "off", "GOPATH": f"{work}:{SOURCES}", "GOFLAGS": "", "GOPROXY": "off"}
    environment.setdefault("CGO_ENABLED", "0")
    result = subprocess.run(
        ["go", "test", "-c", "-o", program, "."], cwd=glue, env=environment, check=False, capture_output=True, text=True
    )
    assert not result.returncode, f"go test -c of {glue}:\n{result.stdout}{result.stderr}"


@dataclass
class Results:
    """What became of the tests of one run, by their full names (`TestProxy/Basic`)."""

    passed: list[str] = field(default_factory=list)
    #: With the reason.
    skipped: dict[str, str] = field(default_factory=dict)
    #: With the output. A test that did not end is one of them.
    failed: dict[str, str] = field(default_factory=dict)
    output: str = ""

    def __str__(self) -> str:
        """Return the counts, and the reasons of skips."""
        skipped = "".join(f"; skipped: {name} ({reason})" for name, reason in self.skipped.items())
        failed = "".join(f"; failed: {name}" for name in self.failed)
        return f"{len(self.passed)} passed, {len(self.skipped)} skipped, {len(self.failed)} failed{skipped}{failed}"


def run(program: Path, arguments: Sequence[str], environment: Mapping[str, str], timeout: float) -> Results:
    """Run a test program, and return the results of all tests that have none within.

    Args:
        program: the test program.
        arguments: its flags, without -test.v.
        environment: what it gets besides the environment of this process.
        timeout: after how many seconds it ends by itself, with the stacks of what hangs.
    """
    process = subprocess.Popen(
        [program, "-test.v", f"-test.timeout={timeout:g}s", *arguments],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=timeout + 60)
    finally:
        # A program that panics, or runs out of time, leaves the servers that it has started.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    converted = subprocess.run(["go", "tool", "test2json"], input=output, check=True, capture_output=True, text=True)
    results = read(converted.stdout)
    if process.returncode and not results.failed:
        results.failed["the program itself"] = output
    return results


def read(events: str) -> Results:
    """Read the events of `go tool test2json`, one JSON object a line."""
    results, outputs, ends = Results(), dict[str, str](), dict[str, str]()
    for line in events.splitlines():
        event = json.loads(line)
        results.output += event.get("Output", "")
        if name := event.get("Test"):
            ends.setdefault(name, "")
            outputs[name] = outputs.get(name, "") + event.get("Output", "")
            if event["Action"] in {"pass", "fail", "skip"}:
                ends[name] = event["Action"]
    # Of a benchmark there is no event, unless it fails: it prints its name, then its result behind the name.
    for begin in _BENCHMARK.finditer(results.output):
        ends[begin[1]] = "pass" if begin[2] else "fail"
        outputs.setdefault(begin[1], results.output[begin.end() :])
    groups = {name.rpartition("/")[0] for name in ends}
    for name, end in ends.items():
        if end == "skip":
            results.skipped[name] = _reason(outputs[name])
        elif end == "pass":
            if name not in groups:
                results.passed.append(name)
        # A group fails with its tests. It is named only if it has failed without them.
        elif name not in groups or not any(e in {"fail", ""} for n, e in ends.items() if n.startswith(f"{name}/")):
            results.failed[name] = outputs[name]
    return results


def _reason(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if not line.lstrip().startswith(("=== ", "--- "))]
    # `file.go:12: text`
    return lines[-1].split(": ", 1)[-1] if lines else "without a reason"
