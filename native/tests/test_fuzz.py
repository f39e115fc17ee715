"""The fuzz targets of the kernels, for some seconds each; `make fuzz` runs them for longer."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.fuzz import kernels

SECONDS = 60 if os.environ.get("LAYERSTORE_RELIABILITY") else 1

pytestmark = [
    pytest.mark.xdist_group("native-fuzz"),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc, which compiles the targets, is not installed"),
]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of the targets' programs, and of their seeds in `seeds`."""
    directory = tmp_path_factory.mktemp("native-fuzz")
    kernels.build(directory, "gcc")
    kernels.write_seeds(directory / "seeds")
    return directory


@pytest.mark.nightly
@pytest.mark.parametrize("target", kernels.TARGETS)
def test_kernels_accept_any_bytes(target: str, built: Path, tmp_path: Path) -> None:
    passed, output = kernels.run(built / f"{target}-fuzz", built / "seeds", SECONDS, tmp_path, tmp_path / "crash")
    assert passed, output
    assert kernels.inputs_tried(output) > 50


DAMAGED = """
#include <stdint.h>
#include <stdlib.h>
int ls_fuzz_damaged(const uint8_t *data, size_t size);
int ls_fuzz_damaged(const uint8_t *data, size_t size)
{
    volatile uint8_t last = 0;
    if (size > 2 && data[0] == '0')
        if (data[1] == '7')
            last = data[%s];
    return last ? 0 : 0;
}
"""


@pytest.mark.parametrize(("place", "finds"), [("size - 1", False), ("size", True)])
def test_driver_finds_a_read_behind_the_end(place: str, tmp_path: Path, *, finds: bool) -> None:
    """It finds the two bytes that lead there one after another, by the code that they reach."""
    (tmp_path / "damaged.c").write_text(DAMAGED % place)
    for name in ("driver.c", "Makefile"):
        shutil.copy(kernels.SOURCES / name, tmp_path)
    subprocess.run(["make", "-s", "-C", tmp_path, "BUILD=built", "CC=gcc"], check=True)
    command = [tmp_path / "built" / "damaged-fuzz", "-runs=60000", f"-crash={tmp_path}/crash"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not finds:
        assert (done.returncode, done.stderr) == (0, "Done 60000 runs\n")
        return
    assert done.returncode == 1
    assert "heap-buffer-overflow" in done.stderr
    assert (tmp_path / "crash").read_bytes().startswith(b"07")
