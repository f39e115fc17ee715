"""The program in a real terminal, with real keys: tmux shows what is on the screen."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerstore_core import LayerStore
from tests import tars
from tests.across.chains import f
from tests.explore.conftest import HOSTILE
from tests.store.layers import register

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
_SECONDS = 30


class Terminal:
    """A terminal of 100 columns and 30 lines, in a server of its own."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    def tmux(self, *words: str) -> str:
        command = ["tmux", "-S", str(self._socket), "-f", os.devnull, *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_SECONDS)
        return done.stdout

    def start(self, *words: str, term: str = "screen-256color", root: Path) -> None:
        program = [sys.executable, "-m", "layerstore_core", "--root", str(root), "--driver", "vfs", "explore", *words]
        shell = f"unset COLUMNS LINES; TERM={term} {' '.join(map(repr, program))}; echo ended with $?; exec sleep 60"
        self.tmux("new-session", "-d", "-x", "100", "-y", "30", "sh", "-c", shell)

    def keys(self, *keys: str) -> None:
        self.tmux("send-keys", *keys)

    def wait_for(self, *texts: str) -> str:
        """Return the screen as soon as it has all texts."""
        end = time.monotonic() + _SECONDS
        screens = [""]
        while time.monotonic() < end:
            shown = self.tmux("capture-pane", "-p")
            if all(text in shown for text in texts):
                return shown
            if shown != screens[-1]:
                screens.append(shown)
            time.sleep(0.05)
        raise AssertionError("\n".join([f"{texts} are not on the screen. The last three were:", *screens[-3:]]))


def _wait_for_file(path: Path, content: bytes, terminal: Terminal) -> None:
    end = time.monotonic() + _SECONDS
    while not (path.exists() and path.read_bytes() == content):
        assert time.monotonic() < end, f"{path} was not written:\n{terminal.wait_for('')}"
        time.sleep(0.05)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path / "tmux")
    try:
        yield terminal
    finally:
        subprocess.run(
            ["tmux", "-S", str(tmp_path / "tmux"), "kill-server"], capture_output=True, check=False, timeout=_SECONDS
        )


def test_real_keys_explore_an_image(terminal: Terminal, store: LayerStore, tmp_path: Path) -> None:
    terminal.start("app:2", root=store.root)
    terminal.wait_for("Layers of app:2", "step 0", "etc/", "Efficiency")
    terminal.keys("L")
    assert HOSTILE.decode() not in terminal.wait_for("copy", r"a\x1b[31mred")
    terminal.keys("Up")
    terminal.wait_for("M -rw-r--r--", "moved.so  (moved f")
    terminal.keys("Tab", "/")
    terminal.wait_for("Filter:")
    terminal.keys("-l", "motd")
    terminal.keys("Enter")
    terminal.wait_for("1 files fit")
    terminal.keys("j", "Enter")
    terminal.wait_for("good bye", "x text, hex")
    terminal.keys("x")
    terminal.wait_for("00000010")
    terminal.keys("q", "w")
    terminal.wait_for("changed by layer 1", "added by layer 0")
    terminal.keys("q", "e")
    terminal.wait_for("Copy /etc/motd to")
    terminal.keys("C-u")
    terminal.keys("-l", str(tmp_path / "motd"))
    terminal.keys("Enter")
    # What it says then is shown for some seconds only, and is a matter of test_screens.
    _wait_for_file(tmp_path / "motd", b"good bye\n" * 50, terminal)
    terminal.keys("q")
    terminal.wait_for("ended with 0")


def test_real_keys_explore_a_store_and_remove_what_nothing_refers_to(terminal: Terminal, store: LayerStore) -> None:
    with register(store, tars.tar(f(b"alone", b"x" * 10))) as alone:
        chain = alone.chain_id
    terminal.start("--store", root=store.root)
    terminal.wait_for("4 layers", "app:1", "app:2", "nothing refers to it", "Totals")
    terminal.keys("C")
    terminal.wait_for("What gc would remove", chain.hex)
    terminal.keys("q")
    terminal.wait_for("Remove the 1 objects", "y yes")
    terminal.keys("n")
    terminal.wait_for("nothing refers to it")
    terminal.keys("C")
    terminal.wait_for("What gc would remove", chain.hex)
    terminal.keys("q")
    terminal.wait_for("y yes")
    terminal.keys("y")
    assert "nothing refers to it" not in terminal.wait_for("3 layers", "app:2")
    assert not store.has_layer(chain)
    terminal.keys("G", "Enter")
    terminal.wait_for("Layers of app:2", "etc/")
    terminal.keys("q")
    terminal.wait_for("3 layers")
    terminal.keys("q")
    terminal.wait_for("ended with 0")


def test_a_terminal_with_sixteen_colours_is_enough(terminal: Terminal, store: LayerStore) -> None:
    terminal.start("app:2", term="screen", root=store.root)
    terminal.wait_for("Layers of app:2", "etc/")
    terminal.keys("C-c")
    terminal.wait_for("ended with 0")


def test_a_terminal_without_a_cursor_gets_lines_of_text(terminal: Terminal, store: LayerStore) -> None:
    terminal.start("app:2", "--layer", "2", term="dumb", root=store.root)
    terminal.wait_for("added file /etc/copy, 20 B", "ended with 0")


def test_a_signal_leaves_the_terminal_as_it_was(terminal: Terminal, store: LayerStore) -> None:
    terminal.start("app:2", root=store.root)
    terminal.wait_for("Layers of app:2", "etc/")
    pane = int(terminal.tmux("display-message", "-p", "#{pane_pid}"))
    children = Path(f"/proc/{pane}/task/{pane}/children").read_text().split()
    os.kill(int(children[0]), 15)
    shown = terminal.wait_for("ended with 143")
    assert "stopped by SIGTERM" in shown
    assert "Traceback" not in shown
