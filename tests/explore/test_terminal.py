"""The end of the terminal ends the program, whether or not a signal says so."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from layerstore_core import LayerStore

_SECONDS = 30


@pytest.mark.parametrize("controlling", [True, False], ids=["with a signal", "without one"])
def test_a_terminal_that_is_closed_ends_the_program(store: LayerStore, tmp_path: Path, controlling: bool) -> None:
    """Textual alone would go on: the kernel sends SIGCONT after SIGHUP, and its next writer ends at the first error."""
    program = [sys.executable, "-m", "layerstore_core", "--root", str(store.root), "--driver", "vfs"]
    program += ["explore", "app:2"]
    if controlling:  # the session's terminal is the one that is opened first, and its end is a SIGHUP
        program = ["sh", "-c", 'exec "$@" <"$0" >"$0" 2>&1', "TTY", *program]
    ours, theirs = pty.openpty()
    if controlling:
        program[3] = os.ttyname(theirs)
    process = subprocess.Popen(
        program, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, env={**os.environ, "TERM": "xterm"}
    )
    try:
        os.close(theirs)
        shown, end = b"", time.monotonic() + _SECONDS
        while b"Efficiency" not in shown and time.monotonic() < end:
            if select.select([ours], [], [], 0.1)[0]:
                shown += os.read(ours, 1 << 16)
        assert b"Efficiency" in shown
        os.close(ours)
        assert process.wait(_SECONDS) == 128 + signal.SIGHUP
    finally:
        process.kill()
        process.wait()
