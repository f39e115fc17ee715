"""`layerstore completion`: the scripts, and what bash completes with one."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Run, tar_of
from tests.images.archives import ImageSpec, docker_archive


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_calls_the_program(run: Run, shell: str) -> None:
    text = run("completion", shell).text
    assert f"_LAYERSTORE_COMPLETE={shell}_complete" in text
    assert run("completion", shell, "--json").json == {"shell": shell, "script": text}


def test_bash_accepts_the_completion_script(run: Run) -> None:
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


class Terminal:
    """An interactive bash on a new terminal; a key prints the text of the current line."""

    def __init__(self, script: Path, **environment: str) -> None:
        self.process, self._terminal = pty.fork()
        if not self.process:
            os.execvpe("bash", ["bash", "--noprofile", "--rcfile", str(script), "-i"], environment)
        self._until(rb"(ready)> ")  # before this, the terminal and not bash reads the input

    def completed(self, line: str) -> str:
        """Return the line as it is after a tab."""
        os.write(self._terminal, line.encode() + b"\t\x18d\x15")
        return self._until(rb"LINE<(.*)>").decode()

    def close(self) -> None:
        os.write(self._terminal, b"exit\n")
        os.waitpid(self.process, 0)
        os.close(self._terminal)

    def _until(self, pattern: bytes) -> bytes:
        printed = b""
        while not (found := re.search(pattern, printed)):
            assert select.select([self._terminal], [], [], 30)[0], printed
            printed += os.read(self._terminal, 1 << 16)
        return found[1]


@pytest.fixture
def terminal(run: Run, root: Path, tmp_path: Path) -> Iterator[Terminal]:
    names = ("app:12", "example.com:5000/x/y:latest", f"other@{'sha256:' + 'ab' * 32}")
    image = ImageSpec((tar_of({"a": b"1"}),), names)
    run("load", "-", stdin=docker_archive(image))
    script = tmp_path / "rc"
    dump = """bind -x '"\\C-xd": printf "LINE<%s>\\n" "$READLINE_LINE"'\n"""
    script.write_text(run("completion", "bash").text + "bind 'set bell-style none'\nPS1='ready> '\n" + dump)
    terminal = Terminal(
        script,
        PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        HOME=str(tmp_path),
        TERM="dumb",
        LAYERSTORE_ROOT=str(root),
        LAYERSTORE_DRIVER="vfs",
    )
    yield terminal
    terminal.close()


@pytest.mark.parametrize(
    ("typed", "word"),
    [
        ("show ap", "app:12 "),
        ("show app:", "app:12 "),
        ("show app:1", "app:12 "),
        ('show "app:1', '"app:12" '),
        ("history example.com:5", "example.com:5000/x/y:latest "),
        ("save example.com:5000/x/y:l", "example.com:5000/x/y:latest "),
        ("rw create w --parent app:", "app:12 "),
        ("rw create w --image=ap", "--image=app:12 "),
        ("cp ap", "app:12:/ "),
        ("cat app:", "app:12 "),
        ("imag", "images "),
    ],
)
def test_bash_completes_words_with_colons(terminal: Terminal, typed: str, word: str) -> None:
    start = "layerstore " + typed.rpartition(" ")[0]
    assert terminal.completed(f"layerstore {typed}") == f"{start.rstrip()} {word}"


def test_completion_for_bash_needs_no_store_and_no_path(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert run("completion", "bash").stderr == ""
