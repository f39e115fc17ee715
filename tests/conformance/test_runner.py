"""The kit from the command line, which runs it in its own process."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.conformance.conftest import flat

STEPS = [
    {"do": "register", "layer": "l1", "parent": "", "entries": [["file", "a", "1"], ["directory", "d", ""]]},
    {"do": "create", "layer": "w1", "parent": "l1"},
    {"do": "mount", "layer": "w1"},
    {"do": "rename", "layer": "w1", "path": "a", "to": "d/a"},
    {"do": "commit", "layer": "l2", "writable": "w1"},
    {"do": "crash", "layer": "l3", "call": 2, "parent": "l2", "entries": [["delete", "d", ""]]},
    {"do": "collect"},
]


@pytest.fixture
def conformance(tmp_path):
    def run(*words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "layerstore_core", "conformance", *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return run


def test_conformance_of_a_correct_driver(conformance, tmp_path) -> None:
    root = tmp_path / "root"
    reports = [word for name in ("r.json", "r.md") for word in ("--report", str(tmp_path / name))]
    done = conformance(
        "vfs", "--only", "sizes", "--only", "model", "--seed", "1", "--examples", "2", "--root", str(root), *reports
    )
    assert done.stdout.startswith("driver vfs (layerstore-driver-vfs 0.1.0): passed 2 of 13 groups\n")
    assert "2 random sequences, seed 1, 20" in done.stdout
    assert "\nchosen: 2 examples, of 100\n" in done.stdout
    (driver,) = json.loads((tmp_path / "r.json").read_text())["drivers"]
    assert [(group["group"], group["failed"]) for group in driver["groups"]] == [("sizes", 0), ("model", 0)]
    assert driver["verdict"] == "incomplete" and driver["badge"]["message"] == "passed 2 of 13 groups"
    assert "| sizes | ✅ passed |" in (tmp_path / "r.md").read_text()
    assert list(root.iterdir()) == []


def test_a_script_of_the_model_is_replayed(conformance, tmp_path) -> None:
    (tmp_path / "x.script").write_text("# by hand\n" + "".join(json.dumps(step) + "\n" for step in STEPS))
    done = conformance("vfs", "--replay", str(tmp_path / "x.script"))
    assert "model passed 1 of 1" in flat(done.stdout)
    assert "chosen: a sequence that was replayed" in done.stdout


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("nothing",), 1, "no driver 'nothing' is installed"),
        (("vfs", "--only", "everything"), 2, "there is no group of tests 'everything'; the groups are lifecycle"),
        (("vfs", "--report", "r.doc"), 1, "'r.doc' has no known format"),
        (("vfs", "--driver-opt", "speed=high", "--only", "sizes"), 1, "speed"),
    ],
)
def test_conformance_with_invalid_arguments(conformance, words: tuple[str, ...], code: int, message: str) -> None:
    done = conformance(*words, code=code)
    assert message in done.stdout + done.stderr


def test_groups_can_be_chosen_in_a_drivers_own_suite(tmp_path) -> None:
    (tmp_path / "test_mine.py").write_text(
        "from layerstore_core.conformance import DriverConformance\n"
        "class TestMine(DriverConformance):\n"
        "    driver = 'vfs'\n"
        "def test_another(): pass\n"
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-c",
        "/dev/null",
        "--rootdir",
        str(tmp_path),
        "-p",
        "no:cacheprovider",
    ]
    command += ["--collect-only", "--conformance-only", "sizes", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    collected = [line for line in done.stdout.splitlines() if "::" in line]
    assert sum("TestMine" in line for line in collected) == 14
    assert any("test_another" in line for line in collected)


def test_core_needs_neither_pytest_nor_hypothesis() -> None:
    script = (
        "import sys; sys.modules['hypothesis'] = None\n"
        "import layerstore_core.conformance as kit\n"
        "try: kit.DriverConformance\n"
        "except ImportError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "pip install 'layerstore-core[conformance]'" in done.stdout
