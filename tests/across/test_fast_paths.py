"""Fast paths: where there is a fast and a plain implementation, both give the same results."""

from __future__ import annotations

import errno
import io
import os
import select
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from unittest import mock

import pytest
from fastcrc import crc64
from hypothesis import given
from hypothesis import strategies as st

from layerstore_core.base.paths import clean_name, leaves_root
from layerstore_core.errors import InvalidLayer
from layerstore_core.tar.entry import EntryType, TarEntry
from layerstore_core.tar.header import HeaderError, parse_common_header, parse_header
from layerstore_core.tar.layer_stream import LayerStream
from layerstore_core.tar.plain_entries import entry_of
from layerstore_core.tar.scanner import TarScanner
from layerstore_core.tar.whiteouts import NameKind, classify
from layerstore_core.tarsplit import codec
from layerstore_core.tarsplit.codec import LineWriter
from layerstore_core.tarsplit.record import Recorder
from layerstore_core.tree.root import Directory
from layerstore_core.unpack import batches, unpacker
from layerstore_core.unpack.create import Creator
from layerstore_core.unpack.file_worker import FileWorker
from layerstore_core.unpack.make_files import FileToMake
from layerstore_core.workers import process
from tests import tars
from tests.across.test_properties import empty_root, entries, good_entries, names, whole_tars
from tests.child_processes import children
from tests.tree_state import paths

headers = st.builds(
    tars.header,
    names,
    typeflag=st.sampled_from([b"0", b"1", b"2", b"5", b"x", b"L", b"3", b"Z", b"\0", b"S"]),
    mode=st.integers(0, 0o7777777),
    uid=st.sampled_from([0, 1000, 0o7777777, 1 << 31, -1]),
    size=st.sampled_from([0, 1, 5000, 8**11 - 1, 8**11]),
    mtime=st.sampled_from([0, 1_700_000_000, 8**11 - 1, -1]),
    linkname=names,
    form=st.sampled_from(["v7", "ustar", "gnu", "star"]),
    prefix=st.sampled_from([b"", b"some/where", b"00000000001\0", b"x" * 155]),
)
OFFSETS = [
    0,
    99,
    100,
    107,
    108,
    116,
    123,
    124,
    134,
    135,
    136,
    146,
    147,
    148,
    154,
    155,
    156,
    157,
    257,
    263,
    345,
    357,
    508,
]


def checked(block: bytes) -> bool:
    """Compare the two parsers of a block. Return whether the fast one could parse it."""
    try:
        plain = parse_header(block, 7)
    except HeaderError:
        plain = None
    fast = parse_common_header(block, 7)
    assert fast is None or fast == plain
    return fast is not None


@given(headers, st.sampled_from(OFFSETS), st.binary(max_size=4), st.booleans())
def test_both_header_parsers_agree(block: bytes, at: int, noise: bytes, right_checksum: bool) -> None:
    checked(block)
    changed = (block[:at] + noise + block[at + len(noise) :])[:512]
    checked(tars.with_checksum(changed) if right_checksum else changed)


@pytest.mark.parametrize("form", ["ustar", "gnu"])
@pytest.mark.parametrize("typeflag", [b"0", b"1", b"2", b"5", b"x", b"L", b"K"])
def test_common_headers_are_parsed_by_the_fast_parser(form: str, typeflag: bytes) -> None:
    assert checked(tars.header(b"usr/bin/x", typeflag=typeflag, form=form, size=10, mtime=1_700_000_000))


@given(names, st.integers(0, 1 << 62), st.integers(0, (1 << 64) - 1), st.binary(max_size=99), st.integers(0, 1 << 40))
def test_both_line_encoders_agree(name: bytes, size: int, crc: int, segment: bytes, position: int) -> None:
    both = codec.encode_segment(segment, position) + codec.encode_file(name, size, crc, position + 1)
    assert codec.encode_entry(segment, name, size, crc, position) == both


def lines_of(tar: bytes, size: int) -> tuple[list[codec.Segment | codec.FileEntry], bool]:
    """Return the items of the tar-split lines of a tar that is read `size` bytes at a time."""
    out, file = io.BytesIO(), io.BytesIO(tar)
    recorder = Recorder(LineWriter(out), crc64.go_iso)
    LayerStream(TarScanner(lambda: file.read(size)), recorder).drain()
    found: list[codec.Segment | codec.FileEntry] = []
    with codec.LineReader(io.BytesIO(out.getvalue())) as lines:
        for item in codec.decode_lines(lines):
            last = found[-1] if found else None
            if isinstance(item, codec.Segment) and isinstance(last, codec.Segment):
                found[-1] = codec.Segment(
                    last.data + item.data
                )  # payloads without files come in the pieces of the reads
            else:
                found.append(item)
    return found, recorder.displaced


@given(whole_tars)
def test_a_tar_gives_the_same_entries_in_one_piece_and_in_many(tar: bytes) -> None:
    try:
        in_pieces = lines_of(tar, 100)
    except InvalidLayer:
        with pytest.raises(InvalidLayer):
            lines_of(tar, 1 << 20)
    else:
        assert lines_of(tar, 1 << 20) == in_pieces


def state(root: Path) -> dict[bytes, tuple[object, ...]]:
    """Return all facts of a tree that a layer determines, including the hard links."""
    found: dict[bytes, tuple[object, ...]] = {}
    first_names: dict[int, bytes] = {}
    for path in [b".", *paths(root)]:
        full = os.path.join(os.fsencode(root), path)
        status = os.lstat(full)
        content = b""
        if stat.S_ISREG(status.st_mode):
            with open(full, "rb") as file:
                content = file.read()
        elif stat.S_ISLNK(status.st_mode):
            content = os.readlink(full)
        same = b"" if stat.S_ISDIR(status.st_mode) else first_names.setdefault(status.st_ino, path)
        found[path] = status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, content, same
    # Directories without an entry have the current time.
    return {path: (*one[:3], 0, *one[4:]) if stat.S_ISDIR(int(str(one[0]))) else one for path, one in found.items()}


def unpacked(layers: list[bytes]) -> tuple[object, ...]:
    """Extract layers into one root. Return the sizes, and the tree or the error."""
    results: list[object] = []
    with empty_root() as root:
        for tar in layers:
            file = io.BytesIO(tar)
            diff = LayerStream(TarScanner(lambda file=file: file.read(1 << 20)))  # type: ignore[misc]
            try:
                results += [unpacker.unpack_layer(diff, str(root)), diff.displaced]
            except InvalidLayer as error:
                return *results, str(error)
        return *results, state(root)


@contextmanager
def one_by_one() -> Iterator[None]:
    """Create each file when its entry is read, in the plain way, for the length of a `with` block."""
    with (
        mock.patch.object(unpacker._Unpacker, "_add_to_batch", return_value=False),
        mock.patch.object(LayerStream, "entries_and_batches", LayerStream.entries),
        mock.patch.object(Creator, "_remember"),
    ):
        yield


@contextmanager
def files_by_worker(batch: int = 64, groups: int = 8) -> Iterator[list[int]]:
    """Let a worker create all files for the length of a `with` block. Yield the number of files of each request."""
    real_start, real_submit = FileWorker.start, FileWorker.submit
    given: list[int] = []

    def start() -> FileWorker | None:
        worker = real_start()
        if worker is None:
            return None  # as many workers run as the number of cores allows
        select.select([worker._connection], [], [], 30)
        assert worker.has_room
        return worker

    def submit(self: FileWorker, files: Iterable[FileToMake]) -> bool:
        files = list(files)
        given.append(len(files))
        return real_submit(self, files)

    with (
        mock.patch.object(batches, "_BATCHES_BEFORE_WORKER", 1),
        mock.patch.object(batches, "_BATCH_FILES", batch),
        mock.patch.object(batches, "_BATCH_DIRECTORIES", groups),
        mock.patch.object(FileWorker, "start", start),
        mock.patch.object(FileWorker, "submit", submit),
    ):
        yield given


some_layers = st.lists(
    st.lists(st.one_of(good_entries, entries()), max_size=12).map(lambda parts: tars.tar(*parts)), max_size=3
)


@given(some_layers, st.sampled_from([(1, 1), (2, 2), (3, 8), (64, 8)]))
def test_files_are_the_same_in_batches_and_one_by_one(layers: list[bytes], limits: tuple[int, int]) -> None:
    with one_by_one():
        expected = unpacked(layers)
    files, groups = limits
    with mock.patch.object(batches, "_BATCH_FILES", files), mock.patch.object(batches, "_BATCH_DIRECTORIES", groups):
        assert unpacked(layers) == expected


@given(some_layers, st.sampled_from([(1, 1), (2, 2), (3, 8)]))
def test_files_are_the_same_by_a_worker_and_one_by_one(layers: list[bytes], limits: tuple[int, int]) -> None:
    with one_by_one():
        expected = unpacked(layers)
    with files_by_worker(*limits):
        assert unpacked(layers) == expected


def batches_of(tar: bytes, size: int) -> tuple[list[tuple[TarEntry, bytes]], int]:
    """Return the entries and payloads of a tar, read `size` bytes at a time, and the number of entries in batches."""
    found: list[tuple[TarEntry, bytes]] = []
    in_batches = 0
    file = io.BytesIO(tar)
    diff = LayerStream(TarScanner(lambda: file.read(size)))
    for item in diff.entries_and_batches():
        if isinstance(item, TarEntry):
            found.append((item, b"".join(diff.payload())))
            continue
        in_batches += len(item)
        for plain in item:
            _, name, path, owner, mtime_ns, payload, offset = plain
            entry = entry_of(plain)
            assert (name, owner, mtime_ns) == (entry.name, (entry.mode, entry.uid, entry.gid), entry.mtime_ns)
            assert (offset, len(payload or b"")) == (entry.offset, entry.size)
            assert (payload is None) == (entry.type is EntryType.DIR)
            assert path == clean_name(name) != b""
            assert not leaves_root(path)
            assert classify(path) is NameKind.PLAIN
            found.append((entry, bytes(payload or b"")))
    return found, in_batches


def compare_batches_and_entries(tar: bytes) -> None:
    def result(size: int) -> object:
        try:
            return batches_of(tar, size)[0]
        except InvalidLayer as error:
            return error.reason, error.offset

    assert result(1 << 20) == result(100)


@given(whole_tars)
def test_batches_have_the_same_entries_as_single_reads(tar: bytes) -> None:
    """Batches contain the same entries that single reads would return."""
    compare_batches_and_entries(tar)


PLAIN_NAMES = [b"x", b"./usr/bin/x", b"usr/.git/config", b"a/..b/.wha", b"a.wh.b", b"p" * 100, b"q/" * 80 + b"r"]
SPECIAL_NAMES = [b"/x", b"x//y", b"x/", b"./.wh.x", b"x/.wh.y", b"x/../y", b"../x", b"x/.", b"x/..", b".", b"\xc3\xa4"]


@pytest.mark.parametrize("form", ["gnu", "pax"])
@pytest.mark.parametrize("name", PLAIN_NAMES)
def test_plain_entries_come_in_batches(name: bytes, form: str) -> None:
    extended = b""
    if len(name) > 100:
        extended = tars.long_name(name) if form == "gnu" else tars.pax([(b"path", name)])
    one = extended + tars.entry(name[:100], b"content", form="gnu" if form == "gnu" else "ustar")
    empty = extended + tars.entry(name[:100], form="gnu" if form == "gnu" else "ustar")
    directory = extended + tars.header((name + b"/")[:100], typeflag=b"5", form="gnu" if form == "gnu" else "ustar")
    assert batches_of(tars.tar(tars.entry(b"first", b"1"), one, directory, empty, one), 1 << 20)[1] == 4


@pytest.mark.parametrize("name", SPECIAL_NAMES)
def test_entries_with_special_names_do_not_come_in_batches(name: bytes) -> None:
    for entry in (tars.entry(name, b"content"), tars.directory(name + b"/"), tars.directory(name)):
        if not (name == b"x/" and entry == tars.directory(name)):
            assert batches_of(tars.tar(tars.entry(b"first", b"1"), entry), 1 << 20)[1] == 0


def test_a_directory_with_content_does_not_come_in_a_batch() -> None:
    tar = tars.tar(tars.directory(b"d/"), tars.directory(b"e/"), tars.entry(b"f/", b"content", typeflag=b"5"))
    assert batches_of(tar, 1 << 20)[1] == 1


@pytest.mark.parametrize("at", OFFSETS)
@pytest.mark.parametrize("byte", [b"\0", b" ", b"7", b"9", b"-", b"_", b"\xff"])
def test_a_damaged_header_in_a_batch(at: int, byte: bytes) -> None:
    """A damaged header is not accepted because a similar one was."""
    good = tars.entry(b"some/name", b"content", mtime=1_700_000_000)
    for right_checksum in (False, True):
        block = good[:at] + byte + good[at + 1 : 512]
        bad = (tars.with_checksum(block) if right_checksum else block) + good[512:]
        compare_batches_and_entries(tars.tar(good, good, bad, good))


@pytest.mark.parametrize("form", ["gnu", "pax"])
def test_a_long_name_before_a_header_with_an_odd_name(form: str) -> None:
    name = b"d/" + b"n" * 120
    extended = tars.long_name(name) if form == "gnu" else tars.pax([(b"path", name)])
    odd = extended + tars.entry(b"d/\xff\0rest", b"content", form="gnu" if form == "gnu" else "ustar")
    usual = extended + tars.entry(name[:100], b"content", form="gnu" if form == "gnu" else "ustar")
    tar = tars.tar(tars.entry(b"first", b"1"), usual, odd)
    compare_batches_and_entries(tar)
    assert batches_of(tar, 1 << 20)[1] == 2


MANY = [tars.entry(b"d%d/f%d" % (number % 7, number), b"x" * (number % 50 + 1)) for number in range(400)]


def test_a_worker_creates_files(root: Path) -> None:
    with files_by_worker() as given:
        unpacker.unpack_layer(LayerStream(TarScanner(io.BytesIO(tars.tar(*MANY)).read)), str(root))
    assert given
    assert len(list(root.glob("*/*"))) == 400


@pytest.mark.parametrize("like", ["", "/bin/false", "/bin/sleep", "/nonexistent"])
def test_files_are_created_without_a_worker_if_none_can_start(like: str, root: Path, tmp_path: Path) -> None:
    """The program in the interpreter's place may also end at once, or never answer."""
    program = tmp_path / "python3"
    if like:
        program.symlink_to(like)
    with (
        mock.patch.object(sys, "executable", str(program) if like else None),
        mock.patch.object(batches, "_BATCHES_BEFORE_WORKER", 1),
    ):
        unpacker.unpack_layer(LayerStream(TarScanner(io.BytesIO(tars.tar(*MANY)).read)), str(root))
    assert len(list(root.glob("*/*"))) == 400


def test_a_stopped_worker_is_given_up_after_the_timeout(root: Path) -> None:
    """This process creates the files of the worker's request. The worker may have created some already."""
    real = FileWorker.submit

    def submit(self: FileWorker, files: Iterable[FileToMake]) -> bool:
        given = real(self, files)
        os.kill(self._process.pid, signal.SIGSTOP)
        return given

    with (
        mock.patch.object(process, "TIMEOUT", 1),
        files_by_worker(),
        mock.patch.object(FileWorker, "submit", submit),
    ):
        unpacker.unpack_layer(LayerStream(TarScanner(io.BytesIO(tars.tar(*MANY)).read)), str(root))
    assert len(list(root.glob("*/*"))) == 400
    assert all(path.stat().st_size for path in root.glob("*/*"))


def test_the_death_of_a_worker_is_an_error(root: Path) -> None:
    tar = tars.tar(*MANY)
    real = FileWorker.submit

    def submit(self: FileWorker, files: Iterable[FileToMake]) -> bool:
        self._process.kill()
        self._process.wait()
        return real(self, files)

    with (
        files_by_worker(),
        mock.patch.object(FileWorker, "submit", submit),
        pytest.raises(ChildProcessError, match="has died") as caught,
    ):
        unpacker.unpack_layer(LayerStream(TarScanner(io.BytesIO(tar).read)), str(root))
    assert "while unpacking 'd" in caught.value.__notes__[0]


def test_the_number_of_workers_is_limited_by_the_cores() -> None:
    running = []
    while (worker := FileWorker.start()) is not None:
        running.append(worker)
    assert len(running) == max(1, len(os.sched_getaffinity(0)) // 2)
    running.pop().close()
    again = FileWorker.start()
    assert again is not None
    for one in [*running, again]:
        one.close()


def test_a_worker_creates_nothing_for_a_killed_process(root: Path) -> None:
    """If the process that requested files was killed, its layer may be removed at once."""
    program = """if True:
        import os, sys, select, signal
        from layerstore_core.unpack.file_worker import FileWorker
        worker = FileWorker.start()
        select.select([worker._connection], [], [])
        assert worker.has_room
        directory = os.open(sys.argv[1], os.O_RDONLY)
        os.kill(worker._process.pid, signal.SIGSTOP)
        worker.submit([(directory, b"%d" % number, (0o644, None, False), 0, memoryview(b"x")) for number in range(64)])
        print(worker._process.pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", program, root], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    worker = int(done.stdout)
    os.kill(worker, signal.SIGCONT)
    deadline = time.monotonic() + 30
    while Path(f"/proc/{worker}").exists() and time.monotonic() < deadline:
        if Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            break
        time.sleep(0.01)
    assert list(root.iterdir()) == []


def test_a_worker_leaves_no_descriptor_and_no_process(root: Path) -> None:
    before, processes = set(os.listdir("/proc/self/fd")), children()
    with files_by_worker() as given:
        unpacker.unpack_layer(LayerStream(TarScanner(io.BytesIO(tars.tar(*MANY)).read)), str(root))
    assert given
    assert set(os.listdir("/proc/self/fd")) == before
    assert children() <= processes


def test_files_are_created_without_a_worker_if_memfd_create_is_missing(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Python that was built for an old C library has no memfd_create."""
    monkeypatch.delattr(os, "memfd_create")
    with mock.patch.object(batches, "_BATCHES_BEFORE_WORKER", 1):
        unpacker.unpack_layer(LayerStream(TarScanner(io.BytesIO(tars.tar(*MANY)).read)), str(root))
    assert len(list(root.glob("*/*"))) == 400


@pytest.mark.parametrize("code", [errno.ETOOMANYREFS, errno.EMSGSIZE, errno.ENOBUFS])
def test_files_that_cannot_be_sent_to_the_worker_are_created_here(code: int, root: Path) -> None:
    """The kernel limits an ordinary user's descriptors in flight to the number of descriptors that may be open."""
    with files_by_worker() as given, mock.patch.object(socket, "send_fds", side_effect=OSError(code, "no")) as send:
        unpacker.unpack_layer(LayerStream(TarScanner(io.BytesIO(tars.tar(*MANY)).read)), str(root))
    assert given
    assert send.call_count == len(given)
    assert len(list(root.glob("*/*"))) == 400


def test_a_request_that_is_longer_than_a_message(root: Path) -> None:
    """Names that no file system accepts may have any length."""
    bad = [tars.entry(b"d1/%04d" % number + b"n" * 3000, b"x") for number in range(100)]
    with files_by_worker(), pytest.raises(InvalidLayer, match="component of its name is too long") as caught:
        unpacker.unpack_layer(LayerStream(TarScanner(io.BytesIO(tars.tar(MANY[1], *bad)).read)), str(root))
    assert caught.value.entry is not None and caught.value.entry.startswith(b"d1/0000")


def started() -> FileWorker:
    worker = FileWorker.start()
    assert worker is not None
    select.select([worker._connection], [], [], 30)
    assert worker.has_room
    return worker


def test_closing_kills_a_stopped_worker() -> None:
    worker = started()
    os.kill(worker._process.pid, signal.SIGSTOP)
    worker.close()
    assert worker._process.returncode == -signal.SIGKILL


def test_closing_ends_a_worker_whose_socket_a_fork_has_too() -> None:
    worker = started()
    fork = os.fork()
    if not fork:
        signal.pause()
        os._exit(0)
    try:
        worker.close()
    finally:
        os.kill(fork, signal.SIGKILL)
        os.waitpid(fork, 0)


@pytest.mark.parametrize("in_worker", [True, False])
@pytest.mark.parametrize("before", [0, 10, 300])
def test_an_error_in_a_batch_of_files_names_its_entry(before: int, in_worker: bool, root: Path) -> None:
    """It takes precedence over the error of a later entry."""
    bad = tars.entry(b"d1/" + b"n" * 256, b"x")
    tar = tars.tar(*MANY[: before + 1], bad, *MANY[before + 1 :], tars.entry(b"../x"))
    with (
        files_by_worker() if in_worker else nullcontext(),
        pytest.raises(InvalidLayer, match="component of its name is too long") as caught,
    ):
        unpacker.unpack_layer(LayerStream(TarScanner(io.BytesIO(tar).read)), str(root))
    assert caught.value.offset == tar.index(b"d1/nnn") - 512
    assert caught.value.entry is not None and caught.value.entry.endswith(b"n" * 256)


@pytest.mark.parametrize("in_worker", [True, False])
@pytest.mark.parametrize("others", [0, 30, 70])
@pytest.mark.parametrize("inner", [b"", b"/s"])
def test_a_file_that_replaces_an_open_directory(inner: bytes, others: int, in_worker: bool) -> None:
    """Later entries under it find no directory, even if a directory under it is still open."""
    tar = tars.tar(
        tars.entry(b"first", b"1"),
        tars.entry(b"x" + inner + b"/a", b"1"),
        *[tars.entry(b"o%d/f" % number, b"1") for number in range(others)],
        tars.entry(b"x", b"2"),
        tars.entry(b"x" + inner + b"/b", b"3"),
    )
    with one_by_one():
        expected = unpacked([tar])
    assert "something on its path is no directory" in str(expected[-1])
    with files_by_worker() if in_worker else nullcontext():
        assert unpacked([tar]) == expected


def test_directories_stay_open_while_their_files_are_pending() -> None:
    """Removing a directory of this layer opens so many others that the current one could be closed."""
    tar = tars.tar(
        tars.entry(b"first", b"1"),
        *[tars.entry(b"x/%d/f" % number, b"1") for number in range(100)],
        tars.entry(b"link", typeflag=b"2", linkname=b"first"),
        tars.entry(b"y/first", b"1"),
        tars.entry(b"x", b"in the place of a directory"),
        tars.entry(b"y/second", b"makes the batch too large"),
    )
    with one_by_one():
        expected = unpacked([tar])
    with mock.patch.object(batches, "SLOT", 30):
        assert unpacked([tar]) == expected


@pytest.mark.parametrize(
    "later",
    [tars.entry(b"../x", b"1"), tars.entry(b"dir/y", b"1", uid=1 << 40), b"no header" * 99, tars.header(b"y", size=9)],
)
@pytest.mark.parametrize("between", [b"", tars.directory(b"other")])
def test_the_error_of_an_earlier_file_takes_precedence(between: bytes, later: bytes) -> None:
    bad = tars.entry(b"dir/" + b"n" * 256, b"x")
    tar = tars.tar(tars.entry(b"first", b"1"), tars.entry(b"dir/x", b"1"), bad, between, later)
    with one_by_one():
        expected = unpacked([tar])
    assert "component of its name is too long" in str(expected)
    assert unpacked([tar]) == expected


def test_a_file_in_a_directory_that_is_replaced_later() -> None:
    inner = tars.tar(tars.entry(b"x/f", b"inner"))
    tar = tars.tar(
        tars.entry(b"first", b"1"), tars.entry(b"x/f", b"2"), tars.entry(b"x", b"makes the batch too large, too")
    )
    with one_by_one():
        expected = unpacked([inner, tar])
    with mock.patch.object(batches, "SLOT", 30):
        assert unpacked([inner, tar]) == expected


def test_a_directory_in_a_directory_that_is_replaced() -> None:
    """The directory is not open, but its parent is."""
    inner = tars.tar(tars.entry(b"x/s/f", b"inner"))
    tar = tars.tar(
        tars.entry(b"first", b"1"), tars.entry(b"x/f", b"2"), tars.entry(b"x", b"3"), tars.entry(b"x/s/g", b"4")
    )
    with one_by_one():
        expected = unpacked([inner, tar])
    assert unpacked([inner, tar]) == expected


def test_pending_contents_in_memory_are_bounded() -> None:
    """Small files that are far apart in the tar would each keep their piece of the tar in memory."""
    large = tars.header(b"big", size=4 << 20) + bytes(4 << 20)
    tar = tars.tar(*(part for number in range(20) for part in (tars.entry(b"s%d" % number, b"x"), large)))
    spans: list[int] = []
    real = batches.FileWriters.add

    def watching(self: batches.FileWriters, directory: Directory, files: list[batches.PlannedFile]) -> None:
        real(self, directory, files)
        oldest = self._in_progress[0] if self._in_progress else self._current
        spans.append(batches._offset_of(files[0]) - oldest.start if oldest else 0)

    source = io.BytesIO(tar)
    with empty_root() as root, mock.patch.object(batches.FileWriters, "add", watching):
        unpacker.unpack_layer(LayerStream(TarScanner(lambda: source.read(1 << 20))), str(root))
    assert len(spans) > 5
    assert max(spans) <= batches._MAX_SPAN
