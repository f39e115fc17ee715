"""Choosing tests, running them in processes, keeping what failed, and running again: as a driver's author does."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from layerstore_core.conformance.command.quick import QUICK
from layerstore_core.conformance.leftovers import mounts_below
from tests.conformance import table
from tests.conformance.conftest import Author

#: A driver that fails one test, while the environment says so, with the layer mounted at the end of the test.
FAILING = """
    import os, subprocess
    from layerstore_core import hookimpl
    from tests.conformance.mutants.base import Correct

    class FussyDriver(Correct):
        driver_name = "fussy"

        @hookimpl
        def get(self, layer_id):
            tree = self.tree(layer_id)
            os.stat(tree)
            if os.geteuid() == 0 and not os.path.ismount(tree):
                subprocess.run(["mount", "--bind", tree, tree], check=True)
            return str(tree)

        @hookimpl
        def remove(self, layer_id):
            subprocess.run(["umount", "--lazy", self.tree(layer_id)], check=False, capture_output=True)
            super().remove(layer_id)
"""
FAILS = "test_put_leaves_no_mount or test_unknown_ids or test_the_size_of_a_base_layer"


def test_the_quick_tests_catch_the_mutants() -> None:
    """They have at least 19 of 20: `python -m tests.conformance.table` writes them and the table together."""
    caught = table.caught_by()
    missed = [name for name, test in caught.items() if test not in QUICK]
    assert len(caught) >= 75
    assert len(missed) <= len(caught) // 20, f"run python -m tests.conformance.table: {missed}"


def test_quick(author: Author) -> None:
    author.install()
    done = author.conformance("fussy", "--quick", "--only", "sizes")
    number = len(
        [name for name in QUICK if name.startswith(("test_the_size_", "test_a_new_writable_layer_has_no_size"))]
    )
    assert re.search(rf"passed {number} of \d+ tests, in 1 of 13 groups\n", done.stdout)
    assert "chosen: the quick tests\n" in done.stdout


@pytest.mark.nightly
def test_last_failed(author: Author) -> None:
    module = author.install(FAILING)
    author.conformance("fussy", "-k", FAILS, code=1)
    done = author.conformance("fussy", "--last-failed", code=1)
    assert "does not conform: 1 of 1 test" in done.stdout
    assert "chosen: only those that failed in the last run\n" in done.stdout
    assert "FAILED lifecycle: test_put_leaves_no_mount\n" in done.stdout
    module.write_text(module.read_text().replace("if os.geteuid() == 0 and", "if False and"))
    assert "passed 1 of" in author.conformance("fussy", "--last-failed", "--jobs", "2").stdout
    done = author.conformance("fussy", "--last-failed", code=1)
    assert "none failed in the last run; run the kit without --last-failed" in done.stderr


@pytest.mark.needs_root
@pytest.mark.parametrize("where", ["root", "temporary"])
def test_keep(author: Author, where: str) -> None:
    if os.geteuid():
        pytest.skip("the driver mounts, which needs the rights of root")
    author.install(FAILING)
    options = ["--root", str(author.directory / "root")] if where == "root" else []
    done = author.conformance("fussy", "-k", FAILS, "--keep", *options, code=1)
    (kept,) = re.findall(r"kept: +(\S+) \(driver\.log has the driver's calls\)", done.stdout)
    (removal,) = re.findall(r"to remove it: (.*)", done.stdout)
    assert kept.startswith(str(author.directory / "root") if where == "root" else "/")
    try:
        assert mounts_below(Path(kept)), "what the test had mounted is not mounted any more"
        log = Path(kept, "driver.log").read_text()
        assert "driver fussy: create " in log and "driver fussy: get " in log
        assert sorted(os.listdir(os.path.dirname(kept))) == [os.path.basename(kept)], "passed tests are kept, too"
    finally:
        subprocess.run(removal, shell=True, check=True)
    assert not os.path.exists(kept) and not mounts_below(Path(kept))
    assert not os.path.exists(os.path.dirname(kept))


def test_keep_in_a_suite_needs_a_directory(author: Author) -> None:
    author.install(FAILING)
    assert "--conformance-keep needs --conformance-root DIR" in author.pytest("", "--conformance-keep", code=4).stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda one: one.name)
def test_an_interrupted_run_leaves_nothing(author: Author, number: signal.Signals) -> None:
    waits = "os.stat(tree); open('mounted', 'w').close(); import time; time.sleep(100)\n"
    author.install(FAILING.replace("os.stat(tree)\n", waits))
    root = author.directory / "root"
    temporary = author.directory / "temporary"
    temporary.mkdir()
    process = subprocess.Popen(
        author.command("fussy", "-k", "test_put_leaves_no_mount", "--root", str(root), "--keep"),
        cwd=author.directory,
        env=author.environment() | {"TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until((author.directory / "mounted").exists)
    assert list(root.iterdir())
    process.send_signal(number)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 128 + number
    assert "Traceback" not in errors
    assert list(root.iterdir()) == []
    assert list(temporary.iterdir()) == []
    assert [line for line in command_lines() if str(author.directory) in line] == []


def command_lines() -> Iterator[str]:
    """Yield the command lines of all processes."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            yield path.read_bytes().decode("utf-8", "replace")


def test_watch(author: Author) -> None:
    module = author.install(FAILING.replace("os.geteuid() == 0", "False"))
    output = author.directory / "output"
    with output.open("w") as file:
        process = subprocess.Popen(
            author.command("fussy", "--watch", "-k", "test_unknown_ids"),
            cwd=author.directory,
            env=author.environment(),
            stdout=file,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            until(lambda: output.read_text().count("waiting for a change in ") == 1)
            module.write_text(module.read_text().replace("os.stat(tree)", "pass"))
            until(lambda: output.read_text().count("waiting for a change in ") == 2)
        finally:
            process.send_signal(signal.SIGINT)
            code = process.wait(100)
    text = output.read_text()
    assert text.index("passed 1 of ") < text.index("does not conform: 1 of 1 test")
    assert "no FileNotFoundError was raised" in text
    assert text.endswith("ended\n")
    assert code == 1, "the exit code is that of the last run"
    assert "Traceback" not in text


def test_what_is_missing_is_named(author: Author) -> None:
    """Without the packages of the other extra, the options that need them say what to install."""
    author.install()
    for option, package in (("--watch", "watchdog.events"), ("--jobs=2", "xdist")):
        script = (
            f"import sys; sys.modules[{package!r}] = None\n"
            "import importlib.util; real = importlib.util.find_spec\n"
            f"importlib.util.find_spec = lambda name, *more: None if name == {package!r} else real(name, *more)\n"
            f"sys.argv = ['layerstore', 'conformance', 'fussy', {option!r}, '-k', 'test_unknown_ids']\n"
            "from layerstore_core.cli import main; main()\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", script],
            env=author.environment(),
            cwd=author.directory,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert "is not installed: pip install 'layerstore-core[conformance-tools]'" in done.stderr


def test_a_driver_that_cannot_be_watched(author: Author) -> None:
    assert "no driver 'nothing' is installed" in author.conformance("nothing", "--watch", code=1).stderr


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 100
    while not condition():
        assert time.monotonic() < end, "it did not happen within 100 seconds"
        time.sleep(0.05)
