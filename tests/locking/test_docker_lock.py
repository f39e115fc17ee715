"""The lock against Docker daemons, with a stand-in for the daemon. `tests/docker` tests it with a real one."""

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

LOCKS_THE_DATABASE = """
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
def daemon(database: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that locks the database as a daemon does."""
    with subprocess.Popen(
        [sys.executable, "-c", LOCKS_THE_DATABASE, database], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process


def test_a_root_without_docker_is_not_locked(tmp_path: Path) -> None:
    DockerLock(tmp_path).close()
    (tmp_path / "volumes").write_text("no directory")
    inside.guard(tmp_path)
    with pytest.raises(BadRecord, match="regular file"):
        DockerLock(tmp_path)


def test_the_error_names_the_process_of_a_running_daemon(tmp_path: Path, daemon: subprocess.Popen[bytes]) -> None:
    open_before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(RootInUse, match=rf"{tmp_path} .*, process {daemon.pid} \(python"):
        DockerLock(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == open_before
    daemon.communicate()
    DockerLock(tmp_path).close()


def test_no_daemon_can_start_until_the_last_of_several_stores_is_closed(tmp_path: Path, database: Path) -> None:
    one, other = DockerLock(tmp_path), DockerLock(tmp_path)
    with open(database) as file:
        one.close()
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        other.close()
        other.close()
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
