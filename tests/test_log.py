"""Logging is silent in a program that merely uses the library, until it asks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[1]

USE = """
import io, sys
from pathlib import Path
from layerstore_core import LayerStore, StoreConfig, log
from tests.store.layers import BASE, register
{first}
root = Path(sys.argv[1])
with LayerStore.open(StoreConfig(root=root, driver="vfs", durability="none")) as store:
    layer = register(store, BASE)
    (store.db.layer_path(layer.chain_id) / "size").write_text("none")
with LayerStore.open(StoreConfig(root=root, driver="vfs")) as store:
    assert len(store.load_problems) == 1
"""


def run(tmp_path, first):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", USE.format(first=first), tmp_path / "store"],
        cwd=TOP,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == ""
    return done.stderr


def test_nothing_is_said_unasked(tmp_path):
    assert run(tmp_path, "") == ""


@pytest.mark.parametrize("first", ["log.enable()", "log.configure()", "log.configure(2)", "log.configure(json=True)"])
def test_who_asks_is_told_file_and_reason(tmp_path, first):
    said = run(tmp_path, first)
    assert "WARNING" in said
    assert f"{tmp_path}/store/image/vfs/layerdb/sha256" in said
    assert "not a size in bytes" in said


def test_the_program_s_own_messages_are_its_own_affair(tmp_path):
    assert "mine" in run(tmp_path, "from loguru import logger; logger.warning('mine')")


def test_silence_undoes_it(tmp_path):
    assert run(tmp_path, "log.configure(2); log.silence()") == ""
