"""What a driver's author reads of a failure: once, without a frame of the kit, and what was not tried."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from layerstore_core.conformance.outcomes.results import JUDGED
from tests.conformance.conftest import Author, flat
from tests.ordinary_users import OrdinaryUsers

#: A driver that changes a mode, raises in one call, and refuses to remove layers.
WRONG = """
    import os
    from layerstore_core import hookimpl, unpack_layer
    from tests.conformance.mutants.base import Correct

    class FussyDriver(Correct):
        driver_name = "fussy"

        @hookimpl
        def apply_diff(self, layer_id, parent_id, diff):
            size = unpack_layer(diff, str(self.tree(layer_id)))
            for where, names, files in os.walk(self.tree(layer_id)):
                for name in files:
                    os.chmod(os.path.join(where, name), 0o600)
            return size

        @hookimpl
        def cleanup(self):
            raise RuntimeError("there is nothing to clean up")
"""
SUITE = """
    import pytest
    from layerstore_core.conformance import DriverConformance

    class TestFussy(DriverConformance):
        driver = "fussy"

        @pytest.fixture(autouse=True)
        def failing_teardown(self, bench):
            yield
            raise OSError("the file system is busy")
"""
#: Frames of the kit, of pluggy and of pytest have these in their lines.
FRAMES = ("Traceback", "_pytest", "pluggy", "bound.py", "trees.py", "rig.py", "_multicall", "assert ")


@pytest.fixture
def wrong(author: Author) -> Author:
    author.install(WRONG)
    return author


def test_failures_in_a_report(wrong: Author) -> None:
    chosen = "test_the_umask_does_not_matter or test_cleanup_keeps"
    done = wrong.conformance("fussy", "-k", chosen, "--report", "r.json", code=1)
    groups = json.loads((wrong.directory / "r.json").read_text())["drivers"][0]["groups"]
    cleanup, umask = (group["tests"][0] for group in groups)
    assert umask["name"] == "test_the_umask_does_not_matter"
    assert umask["message"].splitlines() == [
        "a layer that was unpacked under umask 077:",
        "  '/d/f': mode is 0o600, not 0o666",
    ]
    assert "the hook apply_diff: site/layerstore_fussy/__init__.py:9" in umask["where"]
    assert "groups/content.py:" in umask["where"][-1]
    assert done.stdout.count("mode is 0o600") == 1
    assert cleanup["message"] == "RuntimeError: there is nothing to clean up"
    assert cleanup["where"][0] == "site/layerstore_fussy/__init__.py:19, in cleanup", "the driver's own line"
    assert not any(mark in done.stdout for mark in FRAMES)


def test_failures_in_the_output_of_pytest(wrong: Author) -> None:
    """A teardown that fails after its test is no second failure; one that fails alone is an error."""
    report = wrong.directory / "r.txt"
    words = ["test_own.py::TestFussy::test_unknown_ids", "--conformance-report", str(report)]
    done = wrong.pytest(SUITE, *words, node="::TestFussy::test_the_umask_does_not_matter", code=1)
    assert "1 failed, 1 passed, 1 error" in done.stdout
    assert done.stdout.count("'/d/f': mode is 0o600, not 0o666") == 1
    assert not any(mark in done.stdout for mark in FRAMES)
    assert "what is lost:   Otherwise an image" in done.stdout
    assert report.read_text().count("after the test: OSError: the file system is busy") == 1
    assert "does not conform: 2 of 2 tests" in report.read_text()


def test_a_failure_in_another_process(wrong: Author) -> None:
    done = wrong.pytest(SUITE, "-n", "1", node="::TestFussy::test_the_umask_does_not_matter", code=1)
    assert "1 failed" in done.stdout and "error" not in done.stdout
    assert "'/d/f': mode is 0o600, not 0o666" in done.stdout
    assert not any(mark in done.stdout for mark in FRAMES)


def test_the_whole_traceback_is_for_those_who_ask(wrong: Author) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", "/dev/null", "--rootdir", wrong.directory, "-p", "no:cacheprovider"]
        + ["--tb=native", "-k", "test_cleanup_keeps", "test_own.py"],
        cwd=wrong.directory,
        env=wrong.environment(),
        capture_output=True,
        text=True,
        check=False,
        input=(wrong.directory / "test_own.py").write_text(
            "from layerstore_core.conformance import DriverConformance\n"
            "class TestFussy(DriverConformance):\n    driver = 'fussy'\n"
        )
        and "",
    )
    assert "in _multicall" in done.stdout
    assert "RuntimeError: there is nothing to clean up" in done.stdout


def test_every_name_of_a_test_can_be_given_to_k(author: Author) -> None:
    """No name needs quotes in the expression that pytest makes of it."""
    author.install()
    command = [sys.executable, "-m", "pytest", "-q", "-c", "/dev/null", "--rootdir", str(author.directory)]
    command += ["-p", "no:cacheprovider", "--collect-only", "--conformance-speed", "test_own.py"]
    (author.directory / "test_own.py").write_text(
        "from layerstore_core.conformance import DriverConformance\n"
        "class TestFussy(DriverConformance):\n    driver = 'fussy'\n"
    )

    def collected(*words: str) -> list[str]:
        done = subprocess.run(
            [*command, *words],
            cwd=author.directory,
            env=author.environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        return [line.partition("::TestFussy::")[2] for line in done.stdout.splitlines() if "::TestFussy::" in line]

    names = collected()
    assert len(names) > 380
    assert collected("-k", " or ".join(names)) == names


def test_an_expression_that_is_none(author: Author) -> None:
    author.install()
    done = author.conformance("fussy", "-k", "and and", code=1)
    assert done.stderr.startswith("layerstore: Wrong expression passed to '-k': and and")
    done = author.conformance("fussy", "-k", "no_such_test", code=1)
    assert "no test of the kit that was chosen has the name 'no_such_test'" in done.stderr


@pytest.mark.needs_root
def test_what_an_ordinary_user_cannot_try_is_not_passed(users: OrdinaryUsers) -> None:
    chosen = "test_a_hard_link_entry or test_files_that_only_root or regular-files or test_what_an_engine_writes"
    lines = users.run(f"layerstore conformance vfs -k '{chosen}' --report r.json")
    root = users.home()
    (driver,) = json.loads((root / "r.json").read_text())["drivers"]
    assert driver["verdict"] == "incomplete"
    outcomes = {test["name"]: test["outcome"] for group in driver["groups"] for test in group["tests"]}
    assert outcomes.pop("test_files_of_a_layer[regular-files]") == "passed"
    assert outcomes.pop("test_files_of_a_parent_in_its_child[regular-files]") == "passed"
    assert len(outcomes) >= 6
    assert set(outcomes.values()) == {"not tried"}
    assert f"in 2 of {len(JUDGED)} groups, {len(outcomes)} tests not tried" in lines[0]
    assert ", as an ordinary user, on " in lines[1]
    text = flat(" ".join(lines))
    assert "test_files_that_only_root_can_create[owners]" in text
    assert "only root can create such files" in text
    assert "mounts: test_what_an_engine_writes this user may not mount" in text
