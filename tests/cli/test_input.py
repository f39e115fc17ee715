"""Reads that a signal interrupts."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

from layerstore_core.cli.input import interruptible

# The signal goes to another thread than the one that waits, so that it cannot interrupt the system call.
PROGRAM = """
import signal, sys, threading
from layerstore_core.cli import signals
from layerstore_core.cli.input import interruptible
signals.install()
threading.Timer(0.2, lambda: signal.pthread_kill(threading.get_ident(), signal.SIGINT)).start()
try:
    interruptible(sys.stdin.buffer).read(1)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_a_signal_ends_the_wait_for_a_pipe_even_without_ending_the_system_call() -> None:
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.wait(30) == 0
        finally:
            process.kill()
        assert process.stdout is not None
        assert process.stdout.read() == b"interrupted\n"


def test_a_file_that_can_seek_needs_no_other_reader(tmp_path: Path) -> None:
    memory = io.BytesIO(b"x")
    assert interruptible(memory) is memory
    (tmp_path / "file").write_bytes(b"x")
    with open(tmp_path / "file", "rb") as file:
        assert interruptible(file) is file


def test_a_pipe_is_read_to_its_end() -> None:
    read_end, write_end = os.pipe()
    with open(read_end, "rb") as file:
        os.write(write_end, b"some bytes")
        os.close(write_end)
        stream = interruptible(file)
        assert stream.name == read_end
        assert stream.read(4) == b"some"
        assert stream.read(100) == b" bytes"
        assert stream.read(1) == b""
