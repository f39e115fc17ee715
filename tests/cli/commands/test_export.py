"""`layerstore export`: the bytes, where they go, and damage found on the way."""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import select
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Run


@pytest.fixture
def chain(run: Run, base: Path) -> str:
    return run("register", base).text.strip()


def corrupt(root: Path) -> None:
    """Change a byte of a layer's content without the store."""
    (kept,) = (root / "vfs").rglob("kept")
    content = bytearray(kept.read_bytes())
    content[100] ^= 1
    kept.write_bytes(content)


def test_export_to_standard_output_gives_the_same_bytes(run: Run, chain: str, base: Path) -> None:
    assert run("export", chain).stdout == base.read_bytes()


def test_export_to_a_file_gives_the_same_bytes_and_the_usual_mode(
    run: Run, chain: str, base: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    mask = os.umask(0o027)
    try:
        outcome = run("export", chain, "-o", out / "x.tar")
    finally:
        os.umask(mask)
    assert outcome.stdout == b""
    assert (out / "x.tar").read_bytes() == base.read_bytes()
    assert stat.S_IMODE((out / "x.tar").stat().st_mode) == 0o640
    assert os.listdir(out) == ["x.tar"]


def test_export_in_json(run: Run, chain: str, base: Path, tmp_path: Path) -> None:
    file = str(tmp_path / "x.tar")
    document = run("export", chain[7:20], "-o", file, "--json").json
    assert document == {"chain_id": chain, "file": file, "bytes": base.stat().st_size}


def test_export_in_json_without_a_file_is_wrong_usage(run: Run, chain: str) -> None:
    assert "-o FILE" in run("--json", "export", chain, code=2).error["message"]


def test_export_to_a_terminal_is_refused(chain: str, command: list[str]) -> None:
    master, slave = pty.openpty()
    try:
        done = subprocess.run([*command, "export", chain], stdout=slave, stderr=subprocess.PIPE, check=False)
    finally:
        os.close(slave)
        os.close(master)
    assert done.returncode == 2
    assert b"standard output is a terminal" in done.stderr


def test_export_of_a_damaged_layer_leaves_the_old_file(run: Run, chain: str, root: Path, tmp_path: Path) -> None:
    corrupt(root)
    out = tmp_path / "out"
    out.mkdir()
    (out / "x.tar").write_text("the old file")
    outcome = run("--json", "export", chain, "-o", out / "x.tar", code=1)
    assert outcome.error["type"] == "IntegrityError"
    assert os.listdir(out) == ["x.tar"]
    assert (out / "x.tar").read_text() == "the old file"


def test_export_of_a_damaged_layer_to_standard_output_names_the_layer(run: Run, chain: str, root: Path) -> None:
    corrupt(root)
    assert chain[7:] in run("export", chain, code=1).stderr


def test_the_error_names_the_given_file_if_it_cannot_be_written(run: Run, chain: str, tmp_path: Path) -> None:
    for file, reason in {str(tmp_path / "none/x.tar"): errno.ENOENT, "/dev/full": errno.ENOSPC}.items():
        outcome = run("export", chain, "-o", file, code=1)
        assert outcome.stderr == f"layerstore: {file}: {os.strerror(reason)} (while exporting layer {chain})\n"


def test_a_full_disk_is_an_error_and_leaves_no_file(chain: str, root: Path, tmp_path: Path) -> None:
    program = (
        "import os, sys\n"
        "real = os.write\n"
        "def write(fd, data):\n"
        "    if '/out/' in os.readlink(f'/proc/self/fd/{fd}'): raise OSError(28, 'No space left on device')\n"
        "    return real(fd, data)\n"
        "os.write = write\n"
        "from layerstore_core.cli import main\n"
        f"sys.argv = ['layerstore', '--root', {str(root)!r}, '--driver', 'vfs', 'export', {chain!r}, '-o', 'x.tar']\n"
        "main()\n"
    )
    out = tmp_path / "out"
    out.mkdir()
    done = subprocess.run([sys.executable, "-c", program], cwd=out, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"layerstore: x.tar: No space left on device (while exporting layer {chain})\n"
    assert os.listdir(out) == []


def test_an_interrupt_ends_an_export_to_a_pipe_that_is_not_read(
    chain: str, command: list[str], root: Path, tmp_path: Path
) -> None:
    """The thread that the signal interrupts is the one that writes to the pipe."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
    try:
        with subprocess.Popen([*command, "export", chain, "-o", str(fifo)], stderr=subprocess.PIPE) as process:
            assert select.select([reader], [], [], 60)[0]
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130
    finally:
        os.close(reader)


def test_export_to_a_symbolic_link_replaces_its_target(run: Run, chain: str, base: Path, tmp_path: Path) -> None:
    (tmp_path / "real.tar").write_text("old")
    (tmp_path / "link.tar").symlink_to("real.tar")
    run("export", chain, "-o", tmp_path / "link.tar")
    assert (tmp_path / "link.tar").is_symlink()
    assert (tmp_path / "real.tar").read_bytes() == base.read_bytes()


def test_export_to_a_named_pipe_writes_to_it(spawn: Run, chain: str, base: Path, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with subprocess.Popen(["cat", fifo], stdout=subprocess.PIPE) as reader:
        spawn("export", chain, "-o", fifo)
        assert reader.stdout is not None
        assert reader.stdout.read() == base.read_bytes()
    assert stat.S_ISFIFO(fifo.stat().st_mode)
