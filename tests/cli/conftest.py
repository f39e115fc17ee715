"""Running the command line, in this process and in one of its own, on a store in a temporary directory."""

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
    """What a command line came to."""

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
Held = Callable[[str], AbstractContextManager[None]]


@pytest.fixture(autouse=True)
def no_settings_from_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tester's own configuration must not reach the tests."""
    for name in list(os.environ):
        if name.startswith(("LAYERSTORE_", "XDG_", "_LAYERSTORE")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where the store is; nothing is there yet."""
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
    # The command switched logging on, to a stream that is gone now.
    if log := sys.modules.get("layerstore_core.log"):
        log.silence()


@pytest.fixture
def used(run: Run, root: Path) -> Path:
    """The root of a store in which a layer has been and gone: the directories that stay are there."""
    run("rm", run("register", "-", stdin=tar_of({"was": b"here"})).text.strip())
    return root


@pytest.fixture
def command(root: Path) -> list[str]:
    """The words that start the program in a process of its own, on the store at `root`."""
    return [sys.executable, "-m", "layerstore_core", "--root", str(root), "--driver", "vfs"]


@pytest.fixture
def spawn(command: list[str]) -> Run:
    """Run a command in a process of its own."""

    def spawn_(*args: str | Path, stdin: bytes = b"", code: int | None = 0) -> Outcome:
        done = subprocess.run([*command, *map(str, args)], input=stdin, capture_output=True, timeout=60, check=False)
        outcome = Outcome(done.returncode, done.stdout, done.stderr.decode())
        assert code is None or outcome.code == code, outcome
        return outcome

    return spawn_


@pytest.fixture
def held(root: Path) -> Held:
    """Makes a block in which another process has what the expression, which may use `store`, gives."""

    @contextmanager
    def held_(expression: str) -> Iterator[None]:
        program = (
            "import sys\n"
            "from layerstore_core import LayerStore\n"
            "with LayerStore.open(root=sys.argv[1], driver='vfs') as store:\n"
            f"    handle = {expression}\n"
            "    print('held', flush=True)\n"
            "    sys.stdin.read()\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", program, root], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                assert process.stdout.readline() == b"held\n"
                yield
            finally:
                process.stdin.close()

    return held_


def tar_of(files: dict[str, bytes]) -> bytes:
    """A tar of regular files that any user may own; the names may hold surrogates for odd bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            entry.uid, entry.gid = os.getuid(), os.getgid()
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def docker_archive(directory: Path, *names: str, layers: Sequence[bytes] = ()) -> Path:
    """An archive with one image, as `docker save` writes it, of the given layers or one of its own."""
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
    """A tar file for a layer on top of `base`."""
    path = tmp_path / "upper.tar"
    path.write_bytes(tar_of({"hosts": b"::1 localhost\n", "new": b"y" * 300}))
    return path


def tree(path: Path) -> list[str]:
    """Every path below `path`."""
    return sorted(str(p.relative_to(path)) for p in path.rglob("*"))
