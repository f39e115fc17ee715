"""The examples in the help texts of commands run as they are printed."""

from __future__ import annotations

import inspect
import os
import re
import shutil

import click
import pytest
from click.testing import CliRunner

from tests.cli.test_app import COMMANDS
from tests.docs.surroundings import Surroundings

#: Parts of examples that cannot run here or take minutes (the whole kit), and their replacements.
IN_PLACE_OF = (
    (r"conformance vfs", "conformance vfs --only sizes"),
    (r"conformance btrfs --root /mnt/btrfs", 'conformance vfs --only sizes --root "$HERE"'),
    (r"conformance mydriver --only lifecycle --only content", "conformance vfs --only sizes --only limits"),
    (r"conformance mydriver --quick --jobs 2", "conformance vfs --quick --only sizes"),
    (r"conformance mydriver -k test_long_names", "conformance vfs -k test_long_names"),
)
#: Examples that need a writable layer, `work`, which they do not make.
NEEDS_WORK = re.compile(r"layerstore (?:rw (?!create|ls)\w+|commit) work")
MAKES_WORK = re.compile(r"layerstore rw create work")


def examples(command: click.Command) -> list[str]:
    """Return the scripts under `Example:`, which is one, and `Examples:`, where each line is one."""
    _, _, text = inspect.cleandoc(command.help or "").partition("Example")
    lines = [line.strip() for line in text.partition(":")[2].splitlines() if line.strip()]
    return lines if text.startswith("s:") else ["\n".join(lines)] if lines else []


CASES = [
    pytest.param(script, id=f"{'-'.join(words)}-{number}")
    for words, command in COMMANDS
    for number, script in enumerate(examples(command))
]


def test_every_command_has_an_example() -> None:
    without = [" ".join(words) for words, command in COMMANDS if not examples(command)]
    assert without == []


@pytest.mark.parametrize(("words", "command"), COMMANDS, ids=lambda v: "-".join(v) if isinstance(v, tuple) else "")
def test_help_text_shows_no_formatting_mark(words: tuple[str, ...], command: click.Command) -> None:
    text = CliRunner().invoke(command, ["--help"]).output
    assert text.startswith("Usage:")
    assert "\\b" not in text
    assert "\b" not in text


@pytest.mark.parametrize("script", CASES)
def test_example_of_help_text_runs(surroundings: Surroundings, script: str) -> None:
    if NEEDS_WORK.search(script) and not MAKES_WORK.search(script):
        surroundings.run("layerstore rw create work --parent 3f1c9a2b").check_returncode()
    if re.search(r"layerstore mount \w", script) and os.geteuid():
        pytest.skip("images are mounted by root")
    for example, here in IN_PLACE_OF:
        script = re.sub(f"{example}$" if example.endswith("vfs") else example, here, script)
    if "jq" in script and shutil.which("jq") is None:
        pytest.skip("jq is not installed")
    done = surroundings.run(script)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stdout + done.stderr
