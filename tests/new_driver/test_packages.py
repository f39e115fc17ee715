"""The packages of all kinds: their types, their own tests, and the conformance kit.

They share one environment: that of the tests, with a directory for all four. `LAYERSTORE_TEST_NEW_DRIVERS=whole`, as
`make nightly` has it, runs the whole kit.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from layerstore_core.new_driver import KINDS
from tests.in_gate import in_gate

WHOLE = os.environ.get("LAYERSTORE_TEST_NEW_DRIVERS") == "whole"
pytestmark = pytest.mark.xdist_group("new drivers")


def run(*words: str | Path, cwd: Path, **variables: str) -> str:
    """Run a module of Python in the environment of the tests, and return what it prints."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LAYERSTORE_", "PYTEST_"))}
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=cwd,
        env=environment | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Make the packages of all kinds, and install them in a directory `site` next to them."""
    directory = tmp_path_factory.mktemp("new")
    for kind in KINDS:
        run("layerstore_core", "driver", "new", f"new-{kind}", kind, "--kind", kind, cwd=directory)
    pip = ["pip", "install", "--quiet", "--no-compile", "--no-deps", "--no-build-isolation", "--target", "site"]
    run(*pip, *(f"./{kind}" for kind in KINDS), cwd=directory)
    return directory


@pytest.mark.parametrize("kind", KINDS)
def test_types_are_right(made, kind: str) -> None:
    assert "no issues found in" in run("mypy", "--cache-dir", made / "mypy", cwd=made / kind)


@pytest.mark.parametrize("kind", in_gate("copy", of=tuple(KINDS)))
def test_driver_passes_the_kit_and_its_own_tests(made, kind: str) -> None:
    if kind == "overlay" and os.geteuid() != 0:
        pytest.skip("mounting needs the rights of root")
    common = ["pytest", "-q", "-rs", "-p", "no:cacheprovider", "-p", "no:xdist"]
    groups = [] if WHOLE else ["--conformance-only", "lifecycle"]
    variables = {"PYTHONPATH": str(made / "site")}
    printed = run(*common, *groups, cwd=made / kind, **variables)
    if not WHOLE:  # otherwise they are among the others
        printed += run(*common, "tests/test_driver.py", cwd=made / kind, **variables)
    assert " passed" in printed
    assert "skipped" not in printed


def test_the_last_command_that_is_printed(made) -> None:
    one = [] if WHOLE else ["-k", "test_a_new_layer_is_empty"]
    command = ["layerstore_core", "conformance", "new-copy", "--quick", "--jobs", "2", *one]
    printed = run(*command, cwd=made, PYTHONPATH=str(made / "site"))
    assert "new-copy" in printed
    assert "passed" in printed


def test_drivers_are_listed_with_the_others(made) -> None:
    printed = run("layerstore_core", "drivers", cwd=made, PYTHONPATH=str(made / "site"))
    assert {f"new-{kind}" for kind in KINDS} <= {line.split()[0] for line in printed.splitlines()}
