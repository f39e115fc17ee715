"""Fixtures that run the command line, in this process or in a new one, on a store in a temporary directory."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from layerstore_core.cli.app import cli


@dataclass
class Outcome:
    """The exit code and the output of a command line."""

    code: int
    stdout: bytes
    stderr: str

    @property
    def text(self) -> str:
        return self.stdout.decode()

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)

    @property
    def error(self) -> dict[str, str]:
        document = json.loads(self.stderr)
        assert list(document) == ["error"]
        found: dict[str, str] = document["error"]
        return found


Run = Callable[..., Outcome]
InUse = Callable[[str], AbstractContextManager[None]]


@pytest.fixture(autouse=True)
def no_settings_from_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the tester's own configuration out of the tests."""
    for name in list(os.environ):
        if name.startswith(("LAYERSTORE_", "XDG_", "_LAYERSTORE")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The root of the store, which does not exist yet."""
    return tmp_path / "store"


@pytest.fixture
def run(root: Path) -> Iterator[Run]:
    """Run a command in this process, on the store at `root`, with the vfs driver."""

    def run_(*args: str | Path, stdin: bytes = b"", store: bool = True, code: int | None = 0) -> Outcome:
        before = ["--root", str(root), "--driver", "vfs"] if store else []
        result = CliRunner().invoke(cli, [*before, *map(str, args)], input=stdin)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        outcome = Outcome(result.exit_code, result.stdout_bytes, result.stderr)
        assert code is None or outcome.code == code, outcome
        return outcome

    yield run_
    # The command has sent the log to a stream that is closed now.
    if log := sys.modules.get("layerstore_core.log"):
        log.silence()


@pytest.fixture
def used(run: Run, root: Path) -> Path:
    """The root of a store whose only layer was removed: it has the directories that stay."""
    run("rm", run("register", "-", stdin=tar_of({"was": b"here"})).text.strip())
    return root


@pytest.fixture
def command(root: Path) -> list[str]:
    """The words that start the program in a new process, on the store at `root`."""
    return [sys.executable, "-m", "layerstore_core", "--root", str(root), "--driver", "vfs"]


@pytest.fixture
def quick_command(quick_program: Path, command: list[str]) -> list[str]:
    """The words of `command` that take a fork of a process that has imported everything."""
    return [str(quick_program / "layerstore"), *command[command.index("--root") :]]


@pytest.fixture
def spawn(command: list[str]) -> Run:
    """Run a command in a new process."""

    def spawn_(*args: str | Path, stdin: bytes = b"", code: int | None = 0) -> Outcome:
        done = subprocess.run([*command, *map(str, args)], input=stdin, capture_output=True, timeout=60, check=False)
        outcome = Outcome(done.returncode, done.stdout, done.stderr.decode())
        assert code is None or outcome.code == code, outcome
        return outcome

    return spawn_


@pytest.fixture
def in_use(root: Path) -> InUse:
    """Evaluate an expression, which may use `store`, in another process, and keep its value for a `with` block."""

    @contextmanager
    def in_use_(expression: str) -> Iterator[None]:
        program = (
            "import sys\n"
            "from layerstore_core import LayerStore\n"
            "with LayerStore.open(root=sys.argv[1], driver='vfs') as store:\n"
            f"    handle = {expression}\n"
            "    print('open', flush=True)\n"
            "    sys.stdin.read()\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", program, root], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                assert process.stdout.readline() == b"open\n"
                yield
            finally:
                process.stdin.close()

    return in_use_


def tar_of(files: dict[str, bytes]) -> bytes:
    """Return a tar of regular files of the current user; surrogates in names stand for bytes that are not UTF-8."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            entry.uid, entry.gid = os.getuid(), os.getgid()
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def docker_archive(directory: Path, *names: str, layers: Sequence[bytes] = ()) -> Path:
    """Write an archive with one image, as `docker save` does, with the given layers or one default layer."""
    from tests.images.archives import ImageSpec, docker_archive

    path = directory / "image.tar"
    path.write_bytes(docker_archive(ImageSpec(layers or (tar_of({"in-image": b"z" * 100}),), names)))
    return path


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A tar file for a base layer."""
    path = tmp_path / "base.tar"
    path.write_bytes(tar_of({"hosts": b"127.0.0.1 localhost\n", "kept": b"x" * 5000}))
    return path


@pytest.fixture
def upper(tmp_path: Path) -> Path:
    """A tar file for a child of `base`."""
    path = tmp_path / "upper.tar"
    path.write_bytes(tar_of({"hosts": b"::1 localhost\n", "new": b"y" * 300}))
    return path


def tree(path: Path) -> list[str]:
    """Return every path below `path`."""
    return sorted(str(p.relative_to(path)) for p in path.rglob("*"))
