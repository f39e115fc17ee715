"""`layerstore driver new`: what it prints, what it refuses, and what it leaves."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from layerstore_core.images.output import DirectoryOutput
from layerstore_core.new_driver import KINDS
from tests.cli.conftest import Run

PROGRAM = [sys.executable, "-m", "layerstore_core"]


def test_the_answer_says_what_was_made_and_the_next_commands(run: Run, root: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = run("driver", "new", "my-driver", "--kind", "pool")
    assert outcome.stderr == ""
    assert outcome.lines == [
        f"layerstore-driver-my-driver is made: a driver whose layers are each {KINDS['pool'].keeps}.",
        "Its code is in layerstore_my_driver/__init__.py. Next, in a virtual environment:",
        "",
        "  cd layerstore-driver-my-driver",
        "  pip install -e '.[test,lint]'",
        "  pytest -q --conformance-only lifecycle",
        "  layerstore conformance my-driver --quick --jobs 2",
    ]
    assert (tmp_path / "layerstore-driver-my-driver/layerstore_my_driver/pool.py").exists()
    assert not root.exists()


def test_the_answer_in_json(run: Run, tmp_path: Path) -> None:
    document = run("driver", "new", "zfs", str(tmp_path / "a dir"), "--json").json
    assert document["next"][0] == f"cd '{tmp_path}/a dir'"
    assert {key: document[key] for key in ("name", "kind", "package", "module", "file")} == {
        "name": "zfs",
        "kind": "copy",
        "package": "layerstore-driver-zfs",
        "module": "layerstore_zfs",
        "file": str(tmp_path / "a dir"),
    }
    assert all((tmp_path / "a dir" / file).is_file() for file in document["files"])


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (["vfs"], 2, "the driver 'vfs' is installed already, from layerstore-driver-vfs"),
        (["No"], 2, "'No' cannot be the name of a driver: use lower-case letters"),
        (["zfs", "--kind", "zip"], 2, "'zip' is not one of 'copy', 'overlay', 'image', 'pool'"),
        (["zfs", "."], 2, "go to the directory above it"),
        (["zfs", ""], 2, "empty"),
        (["zfs", "taken"], 1, "taken: it exists, and is not an empty directory; give the name of a new directory"),
        (["zfs", "taken/file"], 2, "is a file"),
        (["zfs", "missing/zfs"], 1, "missing/zfs: No such file or directory"),
        (["\x1b[31m"], 2, r"'\x1b[31m' cannot be the name"),
    ],
)
def test_what_cannot_be_made_is_refused(run: Run, tmp_path: Path, monkeypatch, words, code, error: str) -> None:
    (tmp_path / "here/taken").mkdir(parents=True)
    (tmp_path / "here/taken/file").write_text("mine")
    monkeypatch.chdir(tmp_path / "here")
    outcome = run("driver", "new", *words, code=code)
    assert error in " ".join(outcome.stderr.split())
    assert outcome.text == ""
    assert sorted(path.name for path in (tmp_path / "here").rglob("*")) == ["file", "taken"]


def test_ctrl_c_leaves_nothing(run: Run, tmp_path: Path, monkeypatch) -> None:
    made = []
    add = DirectoryOutput.add

    def interrupted(self: DirectoryOutput, path: str, *rest) -> None:
        if len(made) == 3:
            assert len(list(tmp_path.iterdir())) == 1  # there was something to remove
            raise KeyboardInterrupt
        made.append(path)
        add(self, path, *rest)

    monkeypatch.setattr(DirectoryOutput, "add", interrupted)
    outcome = run("driver", "new", "zfs", str(tmp_path / "zfs"), code=130)
    assert "interrupted" in outcome.stderr
    assert list(tmp_path.iterdir()) == []


def test_failed_write_leaves_nothing_and_names_the_file(tmp_path: Path) -> None:
    def small_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    done = subprocess.run(
        [*PROGRAM, "driver", "new", "zfs"],
        cwd=tmp_path,
        preexec_fn=small_files,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "layerstore-driver-zfs/" in done.stderr
    assert "File too large" in done.stderr
    assert ".part" not in done.stderr + done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("typed", "found"), [("layerstore driver n", "new"), ("layerstore driver new x --kind p", "pool")]
)
def test_a_shell_completes_the_subcommand_and_the_kinds(tmp_path: Path, typed: str, found: str) -> None:
    done = subprocess.run(
        PROGRAM,
        env={"_LAYERSTORE_COMPLETE": "bash_complete", "COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found in done.stdout, done.stderr
