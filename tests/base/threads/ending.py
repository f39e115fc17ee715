"""Work that must end, in threads and in other programs."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable

#: Far more than anything here takes, so that a test fails instead of hanging.
SECONDS = 20


def within_seconds(work: Callable[[], object]) -> None:
    """Do something in another thread, and fail if that does not end."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(SECONDS)
    assert not thread.is_alive()
    for error in errors:
        raise error


def await_that(condition: Callable[[], object]) -> None:
    until = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.002)


def run_program(code: str, **more: str) -> subprocess.CompletedProcess[str]:
    prelude = "import os, signal, sys, threading, time\nfrom layerstore_core.base.threads import *\n"
    return subprocess.run(
        [sys.executable, "-c", prelude + code],
        check=False,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env={**os.environ, **more},
    )
