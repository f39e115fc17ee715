"""A process that keeps the memory that it frees: no page of it is a new one from the kernel."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("layerstore_native._kernels", reason="the kernels are not built")

PROGRAM = """
import resource, sys, threading
from layerstore_native import _kernels

if sys.argv[1] == "keeps":
    assert _kernels.keep_memory() is None

def use():
    for _ in range(50):
        chunks = [bytes(4 << 20) for _ in range(4)]
        chunks.clear()

thread = threading.Thread(target=use)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
thread.start()
thread.join()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(way: str) -> int:
    """Return how many page faults a thread has that gets and frees 800 MiB, 16 at a time."""
    return int(subprocess.run([sys.executable, "-c", PROGRAM, way], check=True, stdout=subprocess.PIPE).stdout)


def test_memory_that_was_freed_is_used_again() -> None:
    assert page_faults("keeps") < 6000 < page_faults("returns")
