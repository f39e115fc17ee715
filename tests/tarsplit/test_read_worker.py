"""Assembly with a worker that reads files: the same tar, even if the worker fails."""

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
from layerstore_core.workers import process as worker_process
from tests import tars
from tests.child_processes import children
from tests.tarsplit.test_assemble_blocks import DAMAGED_LAYERS, DAMAGES, compare_with_assemble

pytestmark = pytest.mark.skipif(
    len(os.sched_getaffinity(0)) < 2, reason="a worker is started only if there is a second core"
)


def started(files: TreeFiles) -> ReadWorker:
    process = ReadWorker.start(files, SHARED)
    assert process is not None
    select.select([process._connection], [], [], 30)
    assert process.has_room
    return process


def exists(pid: int) -> bool:
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
def order_sizes() -> Iterator[list[int]]:
    """The number of files in each order."""
    real = ReadWorker.submit
    found: list[int] = []

    def submit(self: ReadWorker, start: int, end: int, room: int, files: list[tuple[bytes, int, int, int]]) -> bool:
        found.append(len(files))
        return real(self, start, end, room, files)

    with mock.patch.object(ReadWorker, "submit", submit):
        yield found


@pytest.mark.parametrize("damage", DAMAGES)
@settings(max_examples=5)
@DAMAGED_LAYERS
def test_a_worker_gives_the_bytes_and_errors_of_assemble(
    damage: str, parts: list[tuple[bytes, int, bytes]], chunk: int, which: int, before: bytes
) -> None:
    compare_with_assemble(damage, parts, chunk, which, before, lambda getter: closing(started(getter)))


@pytest.mark.usefixtures("nothing_left_open")
def test_the_worker_reads_a_part_of_the_files(
    tree: tuple[TreeFiles, list[Piece], bytes], order_sizes: list[int]
) -> None:
    files, pieces, tar = tree
    process = started(files)
    assert b"".join(map(bytes, assemble_blocks([pieces], files, process))) == tar
    assert sum(order_sizes) > 0
    process.close()
    process.close()
    assert not exists(process._process.pid)


def test_a_chunk_keeps_its_content_until_blocks_kept_more_are_requested(
    tree: tuple[TreeFiles, list[Piece], bytes],
) -> None:
    files, pieces, tar = tree
    process = started(files)
    kept: list[tuple[bytes | memoryview, bytes]] = []
    for chunk in assemble_blocks([pieces], files, process):
        kept.append((chunk, bytes(chunk)))
        time.sleep(0.001)  # the worker goes on meanwhile
        assert all(now == then for now, then in kept[-BLOCKS_KEPT:])
    assert b"".join(then for _, then in kept) == tar
    process.close()


def test_everything_before_a_damaged_file_is_yielded_before_the_error(
    tree: tuple[TreeFiles, list[Piece], bytes], tmp_path: Path
) -> None:
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


def test_everything_before_damaged_lines_is_yielded_before_the_error(
    tree: tuple[TreeFiles, list[Piece], bytes],
) -> None:
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
def test_files_of_a_dead_worker_are_read_by_the_parent(tree: tuple[TreeFiles, list[Piece], bytes], end: str) -> None:
    files, pieces, tar = tree
    process = started(files)
    real = ReadWorker.submit
    count = 0

    def submit(self: ReadWorker, *order: object) -> bool:
        nonlocal count
        count += 1
        if end == "killed":
            os.kill(self._process.pid, signal.SIGSTOP)
        sent = real(self, *order)  # type: ignore[arg-type]
        if end == "killed" or (end == "killed later" and count == 5):
            os.kill(self._process.pid, signal.SIGKILL)
        elif end == "socket" and count == 5:
            self._connection.shutdown(2)
        return sent

    with mock.patch.object(ReadWorker, "submit", submit):
        assert b"".join(map(bytes, assemble_blocks([pieces], files, process))) == tar
    assert count
    process.close()
    assert not exists(process._process.pid)


def test_an_order_too_large_for_its_memory_is_read_by_the_parent(
    tree: tuple[TreeFiles, list[Piece], bytes], order_sizes: list[int]
) -> None:
    files, pieces, tar = tree
    process = started(files)
    with mock.patch.object(blocks, "_ROOM", 9000):
        long = [(head, b"./" * 2000 + name, size, crc) for head, name, size, crc in pieces]
        assert b"".join(map(bytes, assemble_blocks([long], files, process))) == tar
    assert order_sizes
    assert process._submitted == 0
    process.close()


def test_large_files_and_segments_are_in_order(tmp_path: Path) -> None:
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


def test_the_worker_opens_no_fifo_and_follows_no_link_outside(tmp_path: Path) -> None:
    """The worker's system calls are not observed. A fifo would make it wait, and a link would give it the content."""
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
    assert writer.is_alive()  # no process has opened the fifo
    os.close(os.open(root / "fifo", os.O_RDONLY | os.O_NONBLOCK))
    writer.join()
    files.close()


def test_the_number_of_workers_is_limited_by_the_cores(tmp_path: Path) -> None:
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


def test_closing_ends_a_stopped_worker(tmp_path: Path) -> None:
    files = TreeFiles(tmp_path)
    process = started(files)
    os.kill(process._process.pid, signal.SIGSTOP)
    process.close()
    files.close()
    assert process._process.returncode == -signal.SIGKILL


def test_the_worker_ends_when_its_parent_is_killed_and_a_fork_keeps_the_socket(tmp_path: Path) -> None:
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
    worker, fork = map(int, os.read(ours, 100).split())
    os.close(ours)
    try:
        deadline = time.monotonic() + 30
        while _lives(worker) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not _lives(worker)
    finally:
        os.kill(fork, signal.SIGKILL)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.usefixtures("nothing_left_open")
def test_no_worker_is_started_without_memfd_create(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python that was built for an old C library has none."""
    monkeypatch.delattr(os, "memfd_create")
    files = TreeFiles(tmp_path)
    for _ in range(3):
        assert ReadWorker.start(files, SHARED) is None
    files.close()
    assert not worker_process.has_enough_workers(read_worker._running)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LayerStore]:
    with LayerStore.open(root=tmp_path / "store", driver="vfs") as store:
        yield store


def _tar() -> bytes:
    return tars.tar(*[tars.entry(b"d/%d" % number, b"%d" % number * 3000) for number in range(500)])


@pytest.mark.parametrize("way", ["copied", "read", "left early", "write fails"])
def test_large_layers_are_exported_with_a_worker(
    store: LayerStore, way: str, order_sizes: list[int], tmp_path: Path
) -> None:
    tar = _tar()
    (tmp_path / "t").write_bytes(tar)
    layer = store.register(tmp_path / "t")
    before, processes = set(os.listdir("/proc/self/fd")), children()
    real = ReadWorker.start

    def start(files: TreeFiles, size: int) -> ReadWorker | None:
        process = real(files, size)
        assert process is not None
        select.select([process._connection], [], [], 30)
        return process

    def refuse(_: bytes | memoryview) -> None:
        raise OSError(28, "No space left on device")

    with (
        mock.patch.object(export, "_WORKER_FROM", 1),
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
    assert order_sizes
    assert found == {"copied": tar, "read": tar, "left early": tar[:20000], "write fails": b""}[way]
    gc.collect()  # an error refers to its chunk, and so to the memory
    assert set(os.listdir("/proc/self/fd")) == before
    assert not list(read_worker._running)
    assert children() <= processes


def test_a_getter_of_another_class_gets_no_worker(store: LayerStore, tmp_path: Path) -> None:
    """A class derived from `TreeFiles` may open other files."""
    (tmp_path / "t").write_bytes(_tar())
    layer = store.register(tmp_path / "t")
    own = type("Own", (TreeFiles,), {})(store.driver.get(layer.cache_id))
    with (
        mock.patch.object(export, "_WORKER_FROM", 1),
        mock.patch.object(type(store.driver), "diff_getter", return_value=own),
        mock.patch.object(ReadWorker, "start", side_effect=AssertionError),
        layer.tar_stream() as stream,
    ):
        assert stream.read() == _tar()
    store.driver.put(layer.cache_id)


def test_small_layers_are_exported_without_a_worker(store: LayerStore, tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(_tar())
    layer = store.register(tmp_path / "t")
    with mock.patch.object(ReadWorker, "start", side_effect=AssertionError), layer.tar_stream() as stream:
        assert stream.read() == _tar()


def test_segments_without_files_are_no_order() -> None:
    """Segments without files are assembled by the parent."""
    with tempfile.TemporaryDirectory() as root:
        files = TreeFiles(root)
        process = started(files)
        with mock.patch.object(ReadWorker, "submit", side_effect=AssertionError):
            found = b"".join(map(bytes, assemble_blocks([[(b"x" * 9, b"", 0, 0)] * 9], files, process)))
        assert found == b"x" * 81 == b"".join(assemble([Segment(b"x" * 81), FileEntry(b"")], files))
        process.close()
        files.close()


def test_waiting_for_a_stopped_worker_ends(tree: tuple[TreeFiles, list[Piece], bytes]) -> None:
    files, pieces, tar = tree
    with mock.patch.object(worker_process, "TIMEOUT", 1):
        process = started(files)
    os.kill(process._process.pid, signal.SIGSTOP)
    assert b"".join(map(bytes, assemble_blocks([pieces], files, process))) == tar
    process.close()
    assert not exists(process._process.pid)
