"""What a driver's author reads of a failure: once, without a frame of the kit, and what was not tried."""

from __future__ import annotations

import json
import os
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


def test_a_failure_in_a_report(wrong: Author) -> None:
    done = wrong.conformance("fussy", "-k", "test_the_umask_does_not_matter", "--report", "r.json", code=1)
    (test,) = json.loads((wrong.directory / "r.json").read_text())["drivers"][0]["groups"][0]["tests"]
    assert test["name"] == "test_the_umask_does_not_matter"
    assert test["message"].splitlines() == [
        "a layer that was unpacked under umask 077:",
        "  '/d/f': mode is 0o600, not 0o666",
    ]
    module = wrong.site / "layerstore_fussy/__init__.py"
    assert f"the hook apply_diff: {os.path.relpath(module, wrong.directory)}:9" in test["where"]
    assert any(place.endswith("content.py:188") or "content.py:" in place for place in test["where"])
    assert done.stdout.count("mode is 0o600") == 1
    assert not any(mark in done.stdout for mark in FRAMES)


def test_a_failure_names_the_drivers_own_line(wrong: Author) -> None:
    done = wrong.conformance("fussy", "-k", "test_cleanup_keeps", code=1)
    assert "RuntimeError: there is nothing to clean up\n" in done.stdout
    assert "where to look:\n    site/layerstore_fussy/__init__.py:19, in cleanup\n" in done.stdout
    assert not any(mark in done.stdout for mark in FRAMES)


@pytest.mark.parametrize("processes", ["0", "2"])
def test_a_failure_in_the_output_of_pytest(wrong: Author, processes: str) -> None:
    done = wrong.pytest(SUITE, "-n", processes, node="::TestFussy::test_the_umask_does_not_matter", code=1)
    assert "1 failed" in done.stdout
    assert "error" not in done.stdout, "the teardown has failed after the test, which is no second failure"
    assert done.stdout.count("'/d/f': mode is 0o600, not 0o666") == 1
    assert not any(mark in done.stdout for mark in FRAMES)
    assert "what is lost:   Otherwise an image" in done.stdout


def test_a_teardown_that_fails_alone(wrong: Author) -> None:
    report = wrong.directory / "r.txt"
    words = ("--conformance-report", str(report))
    done = wrong.pytest(SUITE, *words, node="::TestFussy::test_unknown_ids", code=1)
    assert "1 passed, 1 error" in done.stdout
    assert "after the test: OSError: the file system is busy" in report.read_text()
    assert "does not conform: 1 of 1 test" in report.read_text()


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
    assert "no test was run: no test of the kit has the name 'no_such_test'" in done.stderr


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
