"""The demo, with the drivers that `make demo` and `make wheels-demo` do not use: those run it with vfs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.driver_roots import mounts_below
from tests.in_gate import in_gate

TOP = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("driver", in_gate(of=("overlay2", "btrfs")), indirect=True)
def test_the_demo_runs(driver: str, store_root: Path) -> None:
    directory = store_root.parent / "demo"
    directory.mkdir(parents=True)
    program = Path(sys.executable).parent / "layerstore"
    options = ["--layerstore", str(program), "--driver", driver, "--directory", str(directory)]
    done = subprocess.run(
        [sys.executable, TOP / "examples" / "demo.py", *options], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Every exported tar is the same as the registered one, byte for byte." in done.stdout
    assert mounts_below(directory) == []
    assert list(directory.iterdir()) == []
