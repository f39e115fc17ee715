"""Misspelt settings, on the command line and in the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Run

COMMANDS = [("info",), ("ls",), ("drivers",), ("images",), ("check",), ("gc",), ("rw", "ls"), ("rw", "create", "box")]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("exists", [False, True], ids=["no store", "store"])
def test_an_unknown_driver_option_is_an_error(
    run: Run, root: Path, base: Path, words: tuple[str, ...], exists: bool
) -> None:
    if exists:
        run("register", base)
    message = run("--driver-opt", "colour=1", *words, code=1).stderr
    assert "driver vfs: unknown option 'colour' (from argument)" in message
    assert root.exists() == exists


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_misspelt_variable_is_an_error(
    run: Run, root: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("LAYERSTORE_MAX_DEPHT", "7")
    message = run(*words, code=1).stderr
    assert "unknown setting in the environment: LAYERSTORE_MAX_DEPHT; did you mean LAYERSTORE_MAX_DEPTH?" in message
    assert not root.exists()


def test_help_and_version_need_no_settings(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAYERSTORE_ROOTS", "x")
    run("--version", store=False)
    run("ls", "--help", store=False)
