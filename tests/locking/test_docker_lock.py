"""The root of a running Docker daemon, as far as it shows without one: `tests/docker` has the real thing."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerstore_core.base import inside
from layerstore_core.errors import BadRecord, RootInUse
from layerstore_core.locking.docker_lock import DockerLock

HOLD = """
import fcntl, sys
file = open(sys.argv[1])
fcntl.flock(file, fcntl.LOCK_EX)
print(flush=True)
sys.stdin.read()
"""


@pytest.fixture
def database(tmp_path: Path) -> Path:
    (tmp_path / "volumes").mkdir()
    path = tmp_path / "volumes" / "metadata.db"
    path.write_bytes(b"bolt")
    return path


@pytest.fixture
def holder(database: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has the database as a daemon has it."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, database], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process


def test_a_root_without_docker(tmp_path: Path) -> None:
    DockerLock(tmp_path).close()
    (tmp_path / "volumes").write_text("no directory")
    inside.guard(tmp_path)
    with pytest.raises(BadRecord, match="regular file"):
        DockerLock(tmp_path)


def test_a_daemon_is_named(tmp_path: Path, holder: subprocess.Popen[bytes]) -> None:
    open_before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(RootInUse, match=rf"{tmp_path} .*, process {holder.pid} \(python"):
        DockerLock(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == open_before
    holder.communicate()
    DockerLock(tmp_path).close()


def test_several_stores_keep_a_daemon_off_until_the_last_is_closed(tmp_path: Path, database: Path) -> None:
    one, other = DockerLock(tmp_path), DockerLock(tmp_path)
    with open(database) as file:
        one.close()
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        other.close()
        other.close()
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
