from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.cli.conftest import Run


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_calls_the_program_back(run: Run, shell: str) -> None:
    text = run("completion", shell).text
    assert f"_LAYERSTORE_COMPLETE={shell}_complete" in text
    assert run("completion", shell, "--json").json == {"shell": shell, "script": text}


def test_bash_accepts_the_script(run: Run) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash on this machine")
    checked = subprocess.run(
        [bash, "--norc", "-c", "source /dev/stdin && complete -p layerstore"],
        input=run("completion", "bash").stdout,
        capture_output=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
    assert b"_layerstore_completion" in checked.stdout


def test_it_needs_no_store_and_no_path(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert run("completion", "bash").stderr == ""
