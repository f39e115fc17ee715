"""What becomes of processes that a child has started, when it is killed or has ended."""

from __future__ import annotations

import errno
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from layerstore_core.conformance.instruments import system_calls

#: A test waits for this long, in seconds, for what takes milliseconds.
_PATIENCE = 30


@pytest.fixture(autouse=True)
def _stops() -> None:
    if reason := system_calls.why_not():
        pytest.skip(reason)


def server(script: str, *arguments: object) -> subprocess.Popen[bytes]:
    """Start a shell outside of the process group, as a program that serves a mount is."""
    command = ["sh", "-c", script, "sh", *map(str, arguments)]
    return subprocess.Popen(command, start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def appears(path: Path, content: str) -> bool:
    """Wait until a file has some content. Return whether it ever has."""
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        if path.exists() and path.read_text() == content:
            return True
        time.sleep(0.01)
    return False


def test_steps_are_those_of_the_child_and_of_what_it_starts(tmp_path: Path) -> None:
    def work(_: object, begin: Callable[[], None]) -> None:
        begin()
        (tmp_path / "one").mkdir()
        server('mkdir "$1"', tmp_path / "two").wait()

    assert system_calls.stop_at(work, 0, 0)[1:] == (2, "mkdir")
    assert (tmp_path / "one").is_dir()
    assert (tmp_path / "two").is_dir()


def test_writing_to_a_device_needs_no_room(tmp_path: Path) -> None:
    """A program that serves a mount answers the kernel by writing to /dev/fuse."""

    def work(report: Callable[[str], None], begin: Callable[[], None]) -> None:
        with open("/dev/null", "wb", buffering=0) as device, open(tmp_path / "file", "wb", buffering=0) as file:
            begin()
            report(str(device.write(b"answer")))
            file.write(b"content")

    run = system_calls.stop_at(work, 1, errno.ENOSPC)
    assert run.ended.reported == ["6"]
    assert "No space left on device" in run.ended.error
    assert run[1:] == (1, "write")


def test_the_child_is_killed_before_its_call(tmp_path: Path) -> None:
    def work(_: object, begin: Callable[[], None]) -> None:
        begin()
        (tmp_path / "one").mkdir()
        (tmp_path / "two").mkdir()

    run = system_calls.stop_at(work, 2, 0)
    assert run.ended.killed
    assert run[1:] == (2, "mkdir")
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_a_server_goes_on_when_the_child_is_killed_at_its_call(tmp_path: Path) -> None:
    """A process that dies waits for the server of its open files: without an answer, both would wait for ever."""

    def work(_: object, begin: Callable[[], None]) -> None:
        begin()
        server('mkdir "$1" && mkdir "$2" && echo done >"$3"', *(tmp_path / name for name in ("one", "two", "three")))
        time.sleep(_PATIENCE)

    run = system_calls.stop_at(work, 1, 0)
    assert run.ended.killed
    assert run[1:] == (1, "mkdir")
    assert appears(tmp_path / "three", "done\n")


@pytest.mark.parametrize("code", [0, errno.ENOSPC])
def test_a_server_goes_on_when_the_child_has_ended(tmp_path: Path, code: int) -> None:
    def work(report: Callable[[str], None], begin: Callable[[], None]) -> None:
        begin()
        server('while [ ! -e "$1" ]; do sleep 0.01; done; echo done >"$2"', tmp_path / "ended", tmp_path / "served")
        try:
            (tmp_path / "one").mkdir()
        except OSError as error:
            report(str(error.errno))

    run = system_calls.stop_at(work, 1 if code else 0, code)
    assert run.ended.reported == ([str(code)] if code else [])
    (tmp_path / "ended").touch()
    assert appears(tmp_path / "served", "done\n")
