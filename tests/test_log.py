"""Logging is silent in a program that uses the library, until the program enables it."""

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


def test_nothing_is_logged_by_default(tmp_path):
    assert run(tmp_path, "") == ""


@pytest.mark.parametrize("first", ["log.enable()", "log.configure()", "log.configure(2)", "log.configure(json=True)"])
def test_an_enabled_warning_has_file_and_reason(tmp_path, first):
    logged = run(tmp_path, first)
    assert "WARNING" in logged
    assert f"{tmp_path}/store/image/vfs/layerdb/sha256" in logged
    assert "not a size in bytes" in logged


def test_the_programs_own_messages_are_not_disabled(tmp_path):
    assert "mine" in run(tmp_path, "from loguru import logger; logger.warning('mine')")


def test_silence_undoes_configure(tmp_path):
    assert run(tmp_path, "log.configure(2); log.silence()") == ""


LOGGING = """
import sys
{first}
from layerstore_core import log
acme = log.driver_logger("acme", "acme")
{then}
def log_message(level, where, logger=log.logger):
    exec(f"logger.{{level}}('{{level}} {{where}}')", {{"logger": logger, "__name__": where}})
for level in ("debug", "warning", "error"):
    log_message(level, "layerstore_core.store.store")
    log_message(level, "acme.driver", acme)
print("loguru" in sys.modules)
"""
IMPORT = "from loguru import logger"
OURS = ["debug layerstore_core.store.store", "warning layerstore_core.store.store", "error layerstore_core.store.store"]
ACME = ["debug acme.driver", "warning acme.driver", "error acme.driver"]


def logged_by(first, then):
    """Run a program with code before and after the import of `log`.

    Returns:
        Its standard error, and whether it has imported loguru.
    """
    program = LOGGING.format(first=first, then=then)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], cwd=TOP, capture_output=True, text=True, check=True
    )
    return done.stderr, done.stdout == "True\n"


@pytest.mark.parametrize(
    ("first", "then", "shown"),
    [
        ("", "", []),
        (IMPORT, "", []),
        ("", IMPORT, []),
        ("", "import loguru._logger", []),
        # As for any library that is silent by default, only what comes after its import counts.
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
def test_the_enabled_messages_are_shown_whenever_loguru_is_imported(first, then, shown):
    logged, _ = logged_by(first, then)
    assert [message for message in OURS + ACME if message in logged] == shown


def test_loguru_is_not_imported_for_disabled_messages():
    assert logged_by("", "") == ("", False)
    quiet = "\n".join(
        [
            "import sys",
            "from layerstore_core import log",
            "log.configure()",
            "log.logger.info('x')",
            "print('loguru' in sys.modules)",
        ]
    )
    done = subprocess.run([sys.executable, "-c", quiet], cwd=TOP, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("False\n", "")


@pytest.mark.parametrize("first", ["", IMPORT])
def test_a_message_has_module_driver_and_line(first):
    logged, _ = logged_by(first, "log.configure(2); log.logger.warning('here'); acme.bind(more=1).info('there')")
    assert "WARNING __main__: here" in logged
    assert "ERROR layerstore_core.store.store: error layerstore_core.store.store" in logged
    logged, _ = logged_by(first, "log.configure(json=True)")
    [*_, last] = [json.loads(line)["record"] for line in logged.splitlines()]
    assert (last["name"], last["level"]["name"], last["extra"], last["line"]) == (
        "acme.driver",
        "ERROR",
        {"driver": "acme"},
        1,
    )


@pytest.mark.parametrize("first", ["", IMPORT])
def test_messages_of_a_driver_in_the_program_itself_are_not_disabled(first):
    logged, _ = logged_by(first, "log.driver_logger('mine', '__main__').info('mine')")
    assert "mine" in logged


def test_a_logger_can_be_copied_and_has_a_repr():
    one = log.driver_logger("some", "some_package")
    assert repr(copy.copy(one)) == repr(one) == "<the logger of layerstore, with {'driver': 'some'}>"


def test_importing_loguru_disturbs_no_other_import():
    """The list of finders, which other threads iterate over, does not change."""
    code = """
import sys
import layerstore_core.log
before = list(sys.meta_path)
path = sys.meta_path
import loguru
assert path is sys.meta_path and path == before
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=TOP, check=True)
