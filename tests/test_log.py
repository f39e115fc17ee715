"""Logging is silent in a program that merely uses the library, until it asks."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest

from layerstore_core import log

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
    (store.context.db.layer_path(layer.chain_id) / "size").write_text("none")
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


SAYING = """
import sys
{first}
from layerstore_core import log
acme = log.driver_logger("acme", "acme")
{then}
def say(how, where, logger=log.logger):
    exec(f"logger.{{how}}('{{how}} {{where}}')", {{"logger": logger, "__name__": where}})
for how in ("debug", "warning", "error"):
    say(how, "layerstore_core.store.store")
    say(how, "acme.driver", acme)
print("loguru" in sys.modules)
"""
IMPORT = "from loguru import logger"
OURS = ["debug layerstore_core.store.store", "warning layerstore_core.store.store", "error layerstore_core.store.store"]
ACME = ["debug acme.driver", "warning acme.driver", "error acme.driver"]


def saying(first, then):
    """What is written to standard error by a program that has this done before and after `log` is imported."""
    program = SAYING.format(first=first, then=then)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], cwd=TOP, capture_output=True, text=True, check=True
    )
    return done.stderr, done.stdout == "True\n"


@pytest.mark.parametrize(
    ("first", "then", "heard"),
    [
        ("", "", []),
        (IMPORT, "", []),
        ("", IMPORT, []),
        ("", "import loguru._logger", []),
        # As with any library that is silent, what counts is said after it has been imported.
        (f"{IMPORT}; logger.enable('layerstore_core')", "", []),
        (IMPORT, "logger.enable('layerstore_core')", OURS),
        ("", f"{IMPORT}; logger.enable('layerstore_core')", OURS),
        ("", f"{IMPORT}; logger.enable('acme')", ACME),
        ("", f"{IMPORT}; logger.enable('layerstore_core.store.store'); logger.remove()", []),
        ("", "log.enable()", OURS + ACME),
        (IMPORT, "log.enable()", OURS + ACME),
        ("", f"log.enable(); {IMPORT}; logger.disable('acme')", OURS),
        ("", "log.configure()", OURS[1:] + ACME[1:]),
        (IMPORT, "log.configure()", OURS[1:] + ACME[1:]),
        ("", f"log.configure(); {IMPORT}; logger.disable('acme')", OURS[1:]),
        ("", "log.configure(); log.configure(2)", OURS + ACME),
        ("", "log.configure(2); log.configure()", OURS[1:] + ACME[1:]),
        ("", "log.configure(2); log.silence()", []),
        ("", "log.configure(); log.silence()", []),
    ],
)
def test_it_does_not_matter_when_loguru_is_loaded(first, then, heard):
    said, _ = saying(first, then)
    assert [message for message in OURS + ACME if message in said] == heard


def test_loguru_is_not_loaded_for_what_nobody_hears():
    assert saying("", "") == ("", False)
    quiet = "import sys; from layerstore_core import log; log.configure(); log.logger.info('x'); print('loguru' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", quiet], cwd=TOP, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("False\n", "")


@pytest.mark.parametrize("first", ["", IMPORT])
def test_a_message_carries_module_driver_and_line(first):
    said, _ = saying(first, "log.configure(2); log.logger.warning('here'); acme.bind(more=1).info('there')")
    assert "WARNING __main__: here" in said
    assert "ERROR layerstore_core.store.store: error layerstore_core.store.store" in said
    said, _ = saying(first, "log.configure(json=True)")
    [*_, last] = [json.loads(line)["record"] for line in said.splitlines()]
    assert (last["name"], last["level"]["name"], last["extra"], last["line"]) == (
        "acme.driver",
        "ERROR",
        {"driver": "acme"},
        1,
    )


@pytest.mark.parametrize("first", ["", IMPORT])
def test_a_driver_of_the_program_s_own_is_its_own_affair(first):
    said, _ = saying(first, "log.driver_logger('mine', '__main__').info('mine')")
    assert "mine" in said


def test_a_logger_can_be_copied_and_shown():
    one = log.driver_logger("some", "some_package")
    assert repr(copy.copy(one)) == repr(one) == "<the logger of layerstore, with {'driver': 'some'}>"


def test_who_imports_loguru_disturbs_no_other_import():
    """The list that other threads go through stays as it is."""
    code = """
import sys
import layerstore_core.log
before = list(sys.meta_path)
path = sys.meta_path
import loguru
assert path is sys.meta_path and path == before
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=TOP, check=True)
