from __future__ import annotations

import subprocess
import sys

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


def test_a_second_signal_does_not_cut_the_clean_up_short() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout == "cleaned up\n"


def test_a_signal_that_the_parent_ignores_stays_ignored() -> None:
    program = "import os, signal; from layerstore_core.cli import signals; signals.install(); "
    program += "os.kill(os.getpid(), signal.SIGHUP); print('alive')"
    words = ["sh", "-c", 'trap "" HUP; "$@"', "sh", sys.executable, "-c", program]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == "alive\n"
