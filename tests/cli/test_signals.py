"""Signals: the first one stops the command, later ones do not interrupt the clean-up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os, signal, sys
from layerstore_core.cli import signals
signals.install()
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGTERM)
    print("cleaned up")
"""


def test_a_second_signal_does_not_interrupt_the_clean_up() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout == "cleaned up\n"


def test_a_signal_that_the_parent_ignores_stays_ignored() -> None:
    program = "import os, signal; from layerstore_core.cli import signals; signals.install(); "
    program += "os.kill(os.getpid(), signal.SIGHUP); print('alive')"
    words = ["sh", "-c", 'trap "" HUP; "$@"', "sh", sys.executable, "-c", program]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == "alive\n"


#: Sends SIGINT at the moment when a module is imported.
AT_IMPORT = """
import os, signal, sys
def interrupt(event, arguments, sent=[]):
    if event == "import" and arguments[0] == os.environ["INTERRUPT_AT"] and not sent:
        sent.append(1)
        os.kill(os.getpid(), signal.SIGINT)
sys.addaudithook(interrupt)
"""


@pytest.mark.parametrize(
    "at", ["layerstore_core._version", "gc", "layerstore_core.cli.signals", "layerstore_core.store.store"]
)
@pytest.mark.parametrize("way", ["console script", "module"])
def test_control_c_while_the_command_is_loaded_shows_no_traceback(way: str, at: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(AT_IMPORT)
    python = Path(sys.executable)
    words = [python.with_name("layerstore")] if way == "console script" else [python, "-m", "layerstore_core"]
    done = subprocess.run(
        [*words, "--root", tmp_path / "root", "ls"],
        env={**os.environ, "PYTHONPATH": str(tmp_path), "INTERRUPT_AT": at},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (-signal.SIGINT, 130)
    assert "Traceback" not in done.stderr


def test_a_program_that_uses_the_package_keeps_its_handler() -> None:
    program = "import signal, layerstore_core; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
