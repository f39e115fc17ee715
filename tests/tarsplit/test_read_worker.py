"""Files that another process reads: the tar is the same, whatever becomes of it."""

from __future__ import annotations

import gc
import os
import select
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from unittest import mock

import pytest
from fastcrc import crc64
from hypothesis import settings

from layerstore_core import LayerStore
from layerstore_core.errors import IntegrityError
from layerstore_core.store import export
from layerstore_core.tarsplit import assemble_blocks as blocks
from layerstore_core.tarsplit import read_worker
from layerstore_core.tarsplit.assemble import assemble
from layerstore_core.tarsplit.assemble_blocks import BLOCKS_KEPT, SHARED, assemble_blocks
from layerstore_core.tarsplit.codec import FileEntry, Piece, Segment
from layerstore_core.tarsplit.read_worker import ReadWorker
from layerstore_core.tree.files import TreeFiles
from layerstore_core.workers import process as beside
from tests import tars
from tests.tarsplit.test_assemble_blocks import HARMS, SPOILT_LAYERS, compare_with_the_plain_way

pytestmark = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="a second process wants a second core")


def started(files: TreeFiles) -> ReadWorker:
    process = ReadWorker.start(files, SHARED)
    assert process is not None
    select.select([process._connection], [], [], 30)
    assert process.has_room
    return process


def is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[tuple[TreeFiles, list[Piece], bytes]]:
    """A thousand files, the pieces of their tar, and the tar."""
    pieces: list[Piece] = []
    tar = b""
    for number in range(1000):
        name, content = f"d{number // 100}/f{number}", bytes([number % 251]) * (number + 1)
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
        pieces.append((b"head%d" % number, name.encode(), len(content), int(crc64.go_iso(content))))
        tar += pieces[-1][0] + content
    files = TreeFiles(tmp_path)
    with mock.patch.object(blocks, "CHUNK", 4000):
        yield files, pieces, tar
    files.close()


@pytest.fixture
def given_files() -> Iterator[list[int]]:
    """How many files processes are given at a time."""
    real = ReadWorker.submit
    found: list[int] = []

    def submit(self: ReadWorker, start: int, end: int, room: int, files: list[tuple[bytes, int, int, int]]) -> bool:
        found.append(len(files))
        return real(self, start, end, room, files)

    with mock.patch.object(ReadWorker, "submit", submit):
        yield found


@pytest.mark.parametrize("harm", HARMS)
@settings(max_examples=5)
@SPOILT_LAYERS
def test_it_gives_what_the_plain_way_gives(
    harm: str, parts: list[tuple[bytes, int, bytes]], chunk: int, which: int, before: bytes
) -> None:
    compare_with_the_plain_way(harm, parts, chunk, which, before, lambda getter: closing(started(getter)))


@pytest.mark.usefixtures("nothing_left_open")
def test_both_read(tree: tuple[TreeFiles, list[Piece], bytes], given_files: list[int]) -> None:
    files, pieces, tar = tree
    process = started(files)
    assert b"".join(map(bytes, assemble_blocks([pieces], files, process))) == tar
    assert sum(given_files) > 0
    process.close()
    process.close()
    assert not is_there(process._process.pid)


def test_a_chunk_stays_until_so_many_more_are_asked_for(tree: tuple[TreeFiles, list[Piece], bytes]) -> None:
    files, pieces, tar = tree
    process = started(files)
    kept: list[tuple[bytes | memoryview, bytes]] = []
    for chunk in assemble_blocks([pieces], files, process):
        kept.append((chunk, bytes(chunk)))
        time.sleep(0.001)  # the other one goes on meanwhile
        assert all(now == then for now, then in kept[-BLOCKS_KEPT:])
    assert b"".join(then for _, then in kept) == tar
    process.close()


def test_damage_comes_after_all_that_is_before_it(tree: tuple[TreeFiles, list[Piece], bytes], tmp_path: Path) -> None:
    files, pieces, tar = tree
    (tmp_path / "d5/f500").write_bytes(b"!" * 501)
    (tmp_path / "d5/f550").unlink()
    process = started(files)
    found = bytearray()
    with pytest.raises(IntegrityError, match=r"'d5/f500'.*checksum differs"):
        found.extend(b"".join(_each(assemble_blocks([pieces], files, process), found)))
    assert tar.startswith(found)
    assert len(found) > tar.index(b"head500") - 5000
    process.close()


def test_damaged_lines_come_after_all_that_is_before_them(tree: tuple[TreeFiles, list[Piece], bytes]) -> None:
    files, pieces, tar = tree

    def batches() -> Iterator[list[Piece]]:
        yield pieces
        raise IntegrityError("line 2001")

    process = started(files)
    found = bytearray()
    with pytest.raises(IntegrityError, match="line 2001"):
        found.extend(b"".join(_each(assemble_blocks(batches(), files, process), found)))
    assert tar.startswith(found)
    assert len(found) > len(tar) - 5000
    process.close()


def _each(chunks: Iterator[bytes | memoryview], found: bytearray) -> Iterator[bytes]:
    for chunk in chunks:
        found += chunk
    yield b""


@pytest.mark.parametrize("end", ["killed", "killed later", "socket"])
def test_what_it_does_not_live_to_read_is_read_here(tree: tuple[TreeFiles, list[Piece], bytes], end: str) -> None:
    files, pieces, tar = tree
    process = started(files)
    real = ReadWorker.submit
    count = 0

    def submit(self: ReadWorker, *order: object) -> bool:
        nonlocal count
        count += 1
        if end == "killed":
            os.kill(self._process.pid, signal.SIGSTOP)
        well = real(self, *order)  # type: ignore[arg-type]
        if end == "killed" or (end == "killed later" and count == 5):
            os.kill(self._process.pid, signal.SIGKILL)
        elif end == "socket" and count == 5:
            self._connection.shutdown(2)
        return well

    with mock.patch.object(ReadWorker, "submit", submit):
        assert b"".join(map(bytes, assemble_blocks([pieces], files, process))) == tar
    assert count
    process.close()
    assert not is_there(process._process.pid)


def test_an_order_that_finds_no_room_is_done_here(
    tree: tuple[TreeFiles, list[Piece], bytes], given_files: list[int]
) -> None:
    files, pieces, tar = tree
    process = started(files)
    with mock.patch.object(blocks, "_ROOM", 9000):
        long = [(head, b"./" * 2000 + name, size, crc) for head, name, size, crc in pieces]
        assert b"".join(map(bytes, assemble_blocks([long], files, process))) == tar
    assert given_files
    assert process._submitted == 0
    process.close()


def test_large_files_and_segments_are_in_their_places(tmp_path: Path) -> None:
    pieces: list[Piece] = []
    tar = b""
    for number in range(60):
        content = bytes([number]) * (5000 if number % 7 == 0 else 700)
        segment = b"s" * (6000 if number % 11 == 0 else 3)
        (tmp_path / str(number)).write_bytes(content)
        pieces.append((segment, b"%d" % number, len(content), int(crc64.go_iso(content))))
        tar += segment + content
    files = TreeFiles(tmp_path)
    process = started(files)
    with mock.patch.object(blocks, "CHUNK", 4000):
        assert b"".join(map(bytes, assemble_blocks([pieces], files, process))) == tar
    process.close()
    files.close()


def test_no_device_is_opened_and_no_link_leads_out(tmp_path: Path) -> None:
    """The other process cannot be watched: what it would wait for in vain, or read, is looked for."""
    (tmp_path / "outside").write_bytes(b"x" * 10)
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to("../outside")
    os.mkfifo(root / "fifo")
    writer = threading.Thread(target=lambda: os.close(os.open(root / "fifo", os.O_WRONLY)), daemon=True)
    writer.start()
    files = TreeFiles(root)
    for name in (b"link", b"fifo"):
        process = started(files)
        with pytest.raises(IntegrityError, match="not what was registered"):
            list(assemble_blocks([[(b"", name, 10, int(crc64.go_iso(b"x" * 10)))]], files, process))
        process.close()
    assert writer.is_alive()  # nobody has opened it
    os.close(os.open(root / "fifo", os.O_RDONLY | os.O_NONBLOCK))
    writer.join()
    files.close()


def test_there_are_no_more_than_cores_for_them(tmp_path: Path) -> None:
    files = TreeFiles(tmp_path)
    running = []
    while (process := ReadWorker.start(files, SHARED)) is not None:
        running.append(process)
    assert len(running) == max(1, len(os.sched_getaffinity(0)) // 2)
    running.pop().close()
    running.append(started(files))
    for one in running:
        one.close()
    files.close()


def test_it_is_ended_where_it_has_been_stopped(tmp_path: Path) -> None:
    files = TreeFiles(tmp_path)
    process = started(files)
    os.kill(process._process.pid, signal.SIGSTOP)
    process.close()
    files.close()
    assert process._process.returncode == -signal.SIGKILL


def test_it_goes_where_this_program_is_killed_and_a_fork_has_its_socket(tmp_path: Path) -> None:
    program = """if True:
        import os, signal, sys, select
        from layerstore_core.tree.files import TreeFiles
        from layerstore_core.tarsplit import read_worker
        read_worker._PATIENCE = 1
        process = read_worker.ReadWorker.start(TreeFiles(sys.argv[1]), 1 << 20)
        select.select([process._connection], [], [])
        assert process.has_room
        if not (fork := os.fork()):
            signal.pause()
        print(process._process.pid, fork, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    ours, theirs = os.pipe()
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, "-c", program, str(tmp_path)],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_DUP2, theirs, 1)],
    )
    os.close(theirs)
    os.waitpid(pid, 0)
    helper, fork = map(int, os.read(ours, 100).split())
    os.close(ours)
    try:
        deadline = time.monotonic() + 30
        while _lives(helper) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not _lives(helper)
    finally:
        os.kill(fork, signal.SIGKILL)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.usefixtures("nothing_left_open")
def test_it_is_left_out_where_there_is_no_such_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a Python that was built for an old C library."""
    monkeypatch.delattr(os, "memfd_create")
    files = TreeFiles(tmp_path)
    for _ in range(3):
        assert ReadWorker.start(files, SHARED) is None
    files.close()
    assert not beside.has_enough_workers(read_worker._running)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LayerStore]:
    with LayerStore.open(root=tmp_path / "store", driver="vfs") as store:
        yield store


def _tar() -> bytes:
    return tars.tar(*[tars.entry(b"d/%d" % number, b"%d" % number * 3000) for number in range(500)])


@pytest.mark.parametrize("way", ["copied", "read", "left early", "write fails"])
def test_larger_layers_go_out_with_it(store: LayerStore, way: str, given_files: list[int], tmp_path: Path) -> None:
    tar = _tar()
    (tmp_path / "t").write_bytes(tar)
    layer = store.register(tmp_path / "t")
    before = set(os.listdir("/proc/self/fd"))
    real = ReadWorker.start

    def start(files: TreeFiles, size: int) -> ReadWorker | None:
        process = real(files, size)
        assert process is not None
        select.select([process._connection], [], [], 30)
        return process

    def refuse(_: bytes | memoryview) -> None:
        raise OSError(28, "No space left on device")

    with (
        mock.patch.object(export, "_BESIDE_FROM", 1),
        mock.patch.object(ReadWorker, "start", start),
        mock.patch.object(blocks, "CHUNK", 5000),
    ):
        found = bytearray()
        if way == "copied":
            layer.copy_tar(found.extend)
        elif way == "write fails":
            with pytest.raises(OSError, match="No space left"):
                layer.copy_tar(refuse, in_thread=True)
        else:
            with layer.tar_stream() as stream:
                found += stream.read(20000 if way == "left early" else -1)
    assert given_files
    assert found == {"copied": tar, "read": tar, "left early": tar[:20000], "write fails": b""}[way]
    gc.collect()  # an error knows of the chunk that it met, and so of the memory
    assert set(os.listdir("/proc/self/fd")) == before
    assert not list(read_worker._running)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_it_reads_for_no_getter_of_another_kind(store: LayerStore, tmp_path: Path) -> None:
    """One that derives from ours may open something else."""
    (tmp_path / "t").write_bytes(_tar())
    layer = store.register(tmp_path / "t")
    own = type("Own", (TreeFiles,), {})(store.driver.get(layer.cache_id))
    with (
        mock.patch.object(export, "_BESIDE_FROM", 1),
        mock.patch.object(type(store.driver), "diff_getter", return_value=own),
        mock.patch.object(ReadWorker, "start", side_effect=AssertionError),
        layer.tar_stream() as stream,
    ):
        assert stream.read() == _tar()
    store.driver.put(layer.cache_id)


def test_small_layers_do_without(store: LayerStore, tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(_tar())
    layer = store.register(tmp_path / "t")
    with mock.patch.object(ReadWorker, "start", side_effect=AssertionError), layer.tar_stream() as stream:
        assert stream.read() == _tar()


def test_what_is_no_file_entry_is_no_order() -> None:
    """Segments alone are put together here."""
    with tempfile.TemporaryDirectory() as root:
        files = TreeFiles(root)
        process = started(files)
        with mock.patch.object(ReadWorker, "submit", side_effect=AssertionError):
            found = b"".join(map(bytes, assemble_blocks([[(b"x" * 9, b"", 0, 0)] * 9], files, process)))
        assert found == b"x" * 81 == b"".join(assemble([Segment(b"x" * 81), FileEntry(b"")], files))
        process.close()
        files.close()


def test_one_that_is_stopped_is_not_waited_for_for_ever(tree: tuple[TreeFiles, list[Piece], bytes]) -> None:
    files, pieces, tar = tree
    with mock.patch.object(beside, "TIMEOUT", 1):
        process = started(files)
    os.kill(process._process.pid, signal.SIGSTOP)
    assert b"".join(map(bytes, assemble_blocks([pieces], files, process))) == tar
    process.close()
    assert not is_there(process._process.pid)
