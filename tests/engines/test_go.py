"""Results of test programs in Go, of what they print. `make engines` runs such programs."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from tests.engines import go


def events(*lines: tuple[str, str, str]) -> str:
    """Return events of `go tool test2json`: the action, the test, the output."""
    return "\n".join(
        json.dumps({"Action": action, **({"Test": test} if test else {}), **({"Output": output} if output else {})})
        for action, test, output in lines
    )


def test_each_test_that_ends_well_counts_and_its_group_does_not():
    results = go.read(
        events(("run", "TestA", ""), ("run", "TestA/one", ""), ("pass", "TestA/one", ""), ("pass", "TestA", ""))
    )
    assert (results.passed, results.skipped, results.failed) == (["TestA/one"], {}, {})


def test_a_skipped_test_has_its_reason():
    results = go.read(
        events(
            ("output", "TestA/x", "=== RUN   TestA/x\n"),
            ("output", "TestA/x", "    x_test.go:12: not here: no disk\n"),
            ("output", "TestA/x", "    --- SKIP: TestA/x (0.00s)\n"),
            ("skip", "TestA/x", ""),
            ("pass", "TestA", ""),
        )
    )
    assert (results.passed, results.skipped) == ([], {"TestA/x": "not here: no disk"})
    assert str(results) == "0 passed, 1 skipped, 0 failed; skipped: TestA/x (not here: no disk)"


def test_a_failed_test_is_named_with_its_output_and_its_group_is_not():
    results = go.read(
        events(
            ("output", "TestA/x", "x_test.go:3: wrong\n"),
            ("fail", "TestA/x", ""),
            ("pass", "TestA/y", ""),
            ("fail", "TestA", ""),
        )
    )
    assert (results.passed, results.failed) == (["TestA/y"], {"TestA/x": "x_test.go:3: wrong\n"})


def test_a_group_that_fails_without_its_tests_has_failed():
    results = go.read(events(("pass", "TestA/x", ""), ("output", "TestA", "clean-up\n"), ("fail", "TestA", "")))
    assert (results.passed, results.failed) == (["TestA/x"], {"TestA": "clean-up\n"})


def test_a_test_without_an_end_has_failed():
    results = go.read(
        events(("pass", "TestA", ""), ("run", "TestB", ""), ("output", "TestB", "panic: timed out\n"), ("fail", "", ""))
    )
    assert (results.passed, list(results.failed)) == (["TestA"], ["TestB"])


def test_benchmarks_are_read_from_their_lines():
    results = go.read(
        events(
            ("output", "", "BenchmarkGood\n"),
            ("output", "", "BenchmarkGood-2   \t       1\t       581.0 ns/op\n"),
            ("output", "", "BenchmarkBad\n"),
            ("output", "BenchmarkBad", "--- FAIL: BenchmarkBad\n"),
            ("fail", "BenchmarkBad", ""),
            ("output", "", "BenchmarkKilled\n"),
        )
    )
    assert (results.passed, sorted(results.failed)) == (["BenchmarkGood"], ["BenchmarkBad", "BenchmarkKilled"])


def test_processes_that_a_program_leaves_are_ended(tmp_path, monkeypatch):
    """The program is a script that panics, and leaves a server."""
    program, tools = tmp_path / "suite", tmp_path / "tools"
    program.write_text('#!/bin/sh\nsleep 300 >/dev/null 2>&1 &\necho $! >"$0.pid"\necho panic\nexit 2\n')
    program.chmod(0o755)
    tools.mkdir()
    (tools / "go").write_text("#!/bin/sh\nexit 0\n")  # has no event to tell
    (tools / "go").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    results = go.run(program, [], {}, timeout=60)
    assert results.failed == {"the program itself": "panic\n"}
    server = Path("/proc", (tmp_path / "suite.pid").read_text().strip(), "stat")
    for _ in range(1000):
        try:
            state = server.read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return
        if state == "Z":  # nobody has waited for it yet
            return
        time.sleep(0.01)
    raise AssertionError("the server lives on")
