"""Mounts that a program serves, with the real fuse-overlayfs: programs that fail, die, hang, and are left."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from layerstore_core import MountFailed
from layerstore_core.driver.services import served_mount
from layerstore_core.sdk import ServedMount, is_mount_point
from tests.child_processes import children
from tests.conftest import needs_root
from tests.ordinary_users import OrdinaryUsers

needs_fuse = pytest.mark.skipif(
    not (os.path.exists("/dev/fuse") and shutil.which("fuse-overlayfs") and shutil.which("fusermount3")),
    reason="needs /dev/fuse, and the packages fuse-overlayfs and fuse3",
)

#: Mounts and unmounts in `HERE`, through a death of the program: for other users and namespaces.
PROGRAM = """
import errno, os, signal, sys
from pathlib import Path
from layerstore_core.sdk import ServedMount, is_mount_point

here = Path(sys.argv[1])
for name in ("lower", "upper", "work", "tree"):
    (here / name).mkdir()
(here / "lower/file").write_text("content")
options = f"lowerdir={here}/lower,upperdir={here}/upper,workdir={here}/work"
served = ServedMount(here / "tree", ["fuse-overlayfs", "-f", "-o", options, f"{here}/tree"], here / "note")
for _ in range(2):
    served.mount()
    assert (here / "tree/file").read_text() == "content"
    pid = int((here / "note").read_text())
    os.kill(pid, signal.SIGKILL)
    while True:
        try:
            os.listdir(here / "tree")
        except OSError as error:
            if error.errno == errno.ENOTCONN:
                break
served.mount()
busy = os.open(here / "tree/file", os.O_PATH)
served.unmount()
assert not is_mount_point(here / "tree")
assert not (here / "note").exists()
print("done")
"""


@pytest.fixture(autouse=True)
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served_mount, "_PATIENCE", 0.3)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[ServedMount]:
    for name in ("lower", "upper", "work", "a tree"):
        (tmp_path / name).mkdir()
    (tmp_path / "lower/file").write_text("content")
    target = tmp_path / "a tree"
    options = f"lowerdir={tmp_path}/lower,upperdir={tmp_path}/upper,workdir={tmp_path}/work"
    served = ServedMount(target, ["fuse-overlayfs", "-f", "-o", options, str(target)], tmp_path / "note", timeout=20)
    before = children()
    yield served
    served.unmount()
    assert not is_mount_point(target)
    assert children() <= before


def server_of(served: ServedMount) -> int:
    return int(served.note.read_text())


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@contextmanager
def in_use(served: ServedMount) -> Iterator[None]:
    """Keep the mount busy. No call is made when that ends: it would fail without the program."""
    descriptor = os.open(served.target / "file", os.O_PATH)
    try:
        yield
    finally:
        os.close(descriptor)


def wait_for_death(served: ServedMount) -> None:
    for _ in range(200):
        try:
            os.listdir(served.target)
        except OSError as error:
            if error.errno == errno.ENOTCONN:  # a call that was under way is aborted in another way
                return
        time.sleep(0.01)
    raise AssertionError("the mount still answers")


@needs_root
@needs_fuse
class TestRealMounts:
    def test_the_mount_answers_when_it_is_made(self, served: ServedMount) -> None:
        served.mount()
        assert is_mount_point(served.target)
        assert (served.target / "file").read_text() == "content"

    def test_a_mount_that_is_there_stays(self, served: ServedMount) -> None:
        served.mount()
        first = server_of(served)
        replace(served).mount()
        assert server_of(served) == first

    def test_the_program_ends_with_the_mount(self, served: ServedMount) -> None:
        served.mount()
        server = server_of(served)
        served.unmount()
        assert (is_mount_point(served.target), served.note.exists(), is_alive(server)) == (False, False, False)
        served.unmount()

    def test_a_mount_whose_program_was_killed_is_made_again(self, served: ServedMount) -> None:
        served.mount()
        first = server_of(served)
        os.kill(first, signal.SIGKILL)
        wait_for_death(served)
        served.mount()
        assert server_of(served) != first
        assert (served.target / "file").read_text() == "content"

    def test_a_mount_whose_program_was_killed_is_unmounted(self, served: ServedMount) -> None:
        served.mount()
        with in_use(served):
            os.kill(server_of(served), signal.SIGKILL)
            wait_for_death(served)
            served.unmount()
            assert not is_mount_point(served.target)

    def test_a_mount_in_use_is_detached_and_its_program_ended(self, served: ServedMount) -> None:
        served.mount()
        server = server_of(served)
        with in_use(served):
            served.unmount()
        assert (is_mount_point(served.target), is_alive(server)) == (False, False)

    def test_a_mount_that_does_not_answer_is_made_again(self, served: ServedMount) -> None:
        served.mount()
        first = server_of(served)
        os.kill(first, signal.SIGSTOP)
        replace(served, timeout=0.5).mount()
        assert server_of(served) != first
        assert not is_alive(first)
        assert (served.target / "file").read_text() == "content"

    def test_a_program_that_goes_to_the_background(self, served: ServedMount) -> None:
        command = [word for word in served.command if word != "-f"]
        replace(served, command=command).mount()
        assert (served.target / "file").read_text() == "content"
        served.unmount()
        assert not is_mount_point(served.target)

    def test_the_mount_outlives_its_process_and_another_one_ends_it(self, served: ServedMount) -> None:
        code = (
            "import sys; from pathlib import Path; from layerstore_core.sdk import ServedMount\n"
            "ServedMount(Path(sys.argv[1]), sys.argv[3:], Path(sys.argv[2])).mount()"
        )
        words = [sys.executable, "-c", code, str(served.target), str(served.note), *served.command]
        subprocess.run(words, check=True, timeout=60)
        server = server_of(served)
        assert is_alive(server)
        assert (served.target / "file").read_text() == "content"
        served.unmount()
        assert not is_alive(server)

    def test_mounts_over_each_other_are_all_removed(self, served: ServedMount) -> None:
        served.mount()
        subprocess.run([*served.command[:1], *served.command[2:]], check=True, capture_output=True)
        served.unmount()
        assert not is_mount_point(served.target)
        assert os.listdir(served.target) == []

    def test_in_a_user_namespace(self, tmp_path: Path) -> None:
        place = tmp_path / "place"
        place.mkdir()
        command = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-c", PROGRAM, str(place)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


@needs_fuse
def test_an_ordinary_user_without_a_namespace(users: OrdinaryUsers) -> None:
    """`fusermount3` mounts and unmounts. The device is one that every user may open, as udev makes it."""
    device = 'mknod "$HERE/fuse" c 10 229; chmod 666 "$HERE/fuse"; mount --bind "$HERE/fuse" /dev/fuse'
    assert users.run('"$PYTHON" -c "$PROGRAM" "$HOME"', before=device, PROGRAM=PROGRAM) == ["done"]


def test_the_message_of_a_program_that_fails_is_in_the_error(served: ServedMount) -> None:
    command = ["sh", "-c", "echo no room >&2; exit 3", str(served.target)]
    with pytest.raises(MountFailed, match=r"^sh has ended with exit code 3 without mounting; it says: no room$"):
        replace(served, command=command).mount()
    assert not served.note.exists()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["no-such-program", "x"], "no-such-program cannot be started: No such file or directory; install it"),
        (["true", "x"], "true has ended without mounting"),
        (["sh", "-c", "kill -9 $$", "x"], "sh has ended by signal 9 without mounting"),
    ],
)
def test_a_program_that_cannot_serve(served: ServedMount, command: list[str], message: str) -> None:
    with pytest.raises(MountFailed) as caught:
        replace(served, command=command).mount()
    assert str(caught.value) == message


def test_a_program_that_does_not_mount_is_ended_with_its_children(served: ServedMount) -> None:
    marks = ["1234.25", "1234.75"]
    command = ["sh", "-c", f"trap '' TERM; sleep {marks[0]} & sleep {marks[1]}; sleep 9", "x"]
    with pytest.raises(MountFailed, match=rf"has not mounted {served.target} within 0.2 seconds"):
        replace(served, command=command, timeout=0.2).mount()
    for _ in range(100):
        left = [
            words
            for path in Path("/proc").glob("[0-9]*/cmdline")
            if (words := _words(path))[:1] == [b"sleep"] and words[1].decode() in marks
        ]
        if not left:
            break
        time.sleep(0.01)
    assert left == []


def _words(cmdline: Path) -> list[bytes]:
    try:
        return cmdline.read_bytes().split(b"\0")
    except OSError:
        return []


def test_the_output_of_a_program_is_bounded(served: ServedMount) -> None:
    command = ["sh", "-c", "yes | head -c 1000000; exit 1", "x"]
    with pytest.raises(MountFailed) as caught:
        replace(served, command=command).mount()
    assert 1900 < len(str(caught.value)) < 2100


@pytest.mark.parametrize("note", ["", "not a number", "0", "-1", "99999999999999999999", "{}"])
def test_a_note_that_names_another_process_ends_nothing(served: ServedMount, note: str) -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        try:
            served.note.write_text(note.format(other.pid) if note != "{}" else f"{other.pid}\n")
            served.unmount()
            assert other.poll() is None
        finally:
            other.kill()


def test_what_is_mounted_where(tmp_path: Path) -> None:
    assert is_mount_point("/proc")
    assert not is_mount_point(tmp_path)
    assert not is_mount_point(tmp_path / "absent")
    (tmp_path / "link").symlink_to("/proc")
    assert not is_mount_point(tmp_path / "link"), "the mount is where the link leads, and not at the link"
