"""`save` and `export` to standard output, pipes, devices, and files that cannot be written."""

from __future__ import annotations

import os
import pty
import stat
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Run, tar_of
from tests.images.archives import ImageSpec, docker_archive, sha256

LAYER = tar_of({"hosts": b"127.0.0.1\n"})
IMAGE = ImageSpec((LAYER,), ("app:1",))
VERBS = {
    "save": ("save", "app:1"),
    "save-oci": ("save", "app:1", "--format", "oci"),
    "export": ("export", sha256(LAYER)),
}


@pytest.fixture(params=VERBS)
def words(run: Run, request: pytest.FixtureRequest) -> tuple[str, ...]:
    run("load", "-", stdin=docker_archive(IMAGE))
    found: tuple[str, ...] = VERBS[request.param]
    return found


@pytest.fixture
def expected(run: Run, words: tuple[str, ...], tmp_path: Path) -> bytes:
    run(*words, "-o", tmp_path / "expected.tar")
    return (tmp_path / "expected.tar").read_bytes()


@pytest.mark.parametrize("file", ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "link"])
@pytest.mark.parametrize("kind", ["pipe", "file", "appended", "deleted"])
def test_output_to_standard_output_by_each_of_its_names(
    quick_command: list[str], words: tuple[str, ...], expected: bytes, file: str, kind: str, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to("/dev/stdout")
    name = str(tmp_path / "link") if file == "link" else file
    before = b"before" if kind == "appended" else b""
    (tmp_path / "out").write_bytes(before)
    target = subprocess.PIPE if kind == "pipe" else os.open(tmp_path / "out", os.O_RDWR | os.O_APPEND)
    if kind == "deleted":
        (tmp_path / "out").unlink()
    done = subprocess.run(
        [*quick_command, *words, "-o", name], stdout=target, stderr=subprocess.PIPE, cwd=tmp_path, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    if kind == "pipe":
        assert done.stdout == expected
    else:
        assert os.pread(target, 1 << 20, 0) == before + expected
        os.close(target)
    assert "-" not in os.listdir(tmp_path)


def test_output_to_another_open_descriptor(command: list[str], words: tuple[str, ...], expected: bytes) -> None:
    reader, writer = os.pipe()
    with open(reader, "rb") as pipe:
        process = subprocess.Popen([*command, *words, "-o", f"/dev/fd/{writer}"], pass_fds=[writer])
        os.close(writer)
        assert pipe.read() == expected
        assert process.wait() == 0


def test_output_to_a_fifo_does_not_replace_it(
    spawn: Run, words: tuple[str, ...], expected: bytes, tmp_path: Path
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(fifo.read_bytes()))
    reader.start()
    spawn(*words, "-o", fifo)
    reader.join()
    assert got == [expected]
    assert stat.S_ISFIFO(fifo.stat().st_mode)


def test_a_tar_is_not_written_to_a_terminal_nor_with_json(run: Run, command: list[str], words: tuple[str, ...]) -> None:
    assert "-o FILE" in run("--json", *words, "-o", "-", code=2).error["message"]
    master, slave = pty.openpty()
    done = subprocess.run([*command, *words, "-o", "-"], stdout=slave, stderr=subprocess.PIPE, check=False)
    os.close(slave)
    os.close(master)
    assert done.returncode == 2
    assert b"standard output is a terminal" in done.stderr


def missing(_: Path) -> str:
    return "none/x.tar"


def full_device(_: Path) -> str:
    return "/dev/full"


def full_disk(tmp_path: Path) -> str:
    (tmp_path / "small").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", tmp_path / "small"], check=True)
    return "small/x.tar"


def read_only(tmp_path: Path) -> str:
    full_disk(tmp_path)
    subprocess.run(["mount", "-o", "remount,ro", tmp_path / "small"], check=True)
    return "small/x.tar"


def no_descriptor(_: Path) -> str:
    return "/dev/fd/99"


def file_as_parent(tmp_path: Path) -> str:
    (tmp_path / "plain").write_bytes(b"")
    return "plain/x.tar"


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk")
@pytest.mark.parametrize(
    ("place", "reason"),
    [
        (missing, "No such file or directory"),
        (full_device, "No space left on device"),
        (full_disk, "No space left on device"),
        (read_only, "Read-only file system"),
        (no_descriptor, "Bad file descriptor"),
        (file_as_parent, "Not a directory"),
    ],
)
def test_an_error_of_writing_names_the_given_file_and_leaves_nothing(
    run: Run,
    words: tuple[str, ...],
    place: Callable[[Path], str],
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    file = place(tmp_path)
    try:
        refused = run(*words, "-o", file, code=1)
        assert refused.stderr.startswith(f"layerstore: {file}: {reason}")
        assert refused.stderr.count("\n") == 1
        assert not (tmp_path / "small").exists() or os.listdir(tmp_path / "small") == []
    finally:
        if (tmp_path / "small").is_mount():
            subprocess.run(["umount", tmp_path / "small"], check=True)


@pytest.mark.parametrize("place", [missing, file_as_parent])
def test_an_error_of_writing_a_layout_names_the_given_directory(
    run: Run, place: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("load", "-", stdin=docker_archive(IMAGE))
    monkeypatch.chdir(tmp_path)
    file = place(tmp_path).removesuffix(".tar")
    assert run(*VERBS["save-oci"], "-o", file, code=1).stderr.startswith(f"layerstore: {file}: ")
