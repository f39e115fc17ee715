"""Where there is a fast way beside the plain one, both give the same."""

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
    """Compare the two ways to parse a block; whether the fast one took it."""
    try:
        plain = parse_header(block, 7)
    except HeaderError:
        plain = None
    fast = parse_common_header(block, 7)
    assert fast is None or fast == plain
    return fast is not None


@given(headers, st.sampled_from(OFFSETS), st.binary(max_size=4), st.booleans())
def test_headers(block: bytes, at: int, noise: bytes, right_checksum: bool) -> None:
    checked(block)
    changed = (block[:at] + noise + block[at + len(noise) :])[:512]
    checked(tars.with_checksum(changed) if right_checksum else changed)


@pytest.mark.parametrize("form", ["ustar", "gnu"])
@pytest.mark.parametrize("typeflag", [b"0", b"1", b"2", b"5", b"x", b"L", b"K"])
def test_common_headers_do_go_the_fast_way(form: str, typeflag: bytes) -> None:
    assert checked(tars.header(b"usr/bin/x", typeflag=typeflag, form=form, size=10, mtime=1_700_000_000))


@given(names, st.integers(0, 1 << 62), st.integers(0, (1 << 64) - 1), st.binary(max_size=99), st.integers(0, 1 << 40))
def test_lines(name: bytes, size: int, crc: int, segment: bytes, position: int) -> None:
    both = codec.encode_segment(segment, position) + codec.encode_file(name, size, crc, position + 1)
    assert codec.encode_entry(segment, name, size, crc, position) == both
    for line in both.splitlines():
        assert codec._decode_usual_line(line) in (None, codec.decode_line(line))


@given(st.binary(max_size=40), st.integers(0, 70), st.integers(0, 100))
def test_damaged_lines(noise: bytes, at: int, length: int) -> None:
    line = codec.encode_file(b"etc/hosts", 1234, 5678, 9)
    damaged = line[:at] + noise + line[at + length :]
    fast = codec._decode_usual_line(damaged)
    assert fast is None or fast == codec.decode_line(damaged)


def lines_of(tar: bytes, size: int) -> tuple[list[codec.Segment | codec.FileEntry], bool]:
    """What the tar-split lines say of a tar that is read `size` bytes at a time."""
    out, file = io.BytesIO(), io.BytesIO(tar)
    recorder = Recorder(LineWriter(out), crc64.go_iso)
    LayerStream(TarScanner(lambda: file.read(size)), recorder).drain()
    found: list[codec.Segment | codec.FileEntry] = []
    with codec.LineReader(io.BytesIO(out.getvalue())) as lines:
        for item in codec.decode_lines(lines):
            last = found[-1] if found else None
            if isinstance(item, codec.Segment) and isinstance(last, codec.Segment):
                found[-1] = codec.Segment(last.data + item.data)  # payloads without files come as they are read
            else:
                found.append(item)
    return found, recorder.displaced


@given(whole_tars)
def test_entries_in_one_piece_and_in_many(tar: bytes) -> None:
    try:
        in_pieces = lines_of(tar, 100)
    except InvalidLayer:
        with pytest.raises(InvalidLayer):
            lines_of(tar, 1 << 20)
    else:
        assert lines_of(tar, 1 << 20) == in_pieces


def state(root: Path) -> dict[bytes, tuple[object, ...]]:
    """All of a tree that a layer decides, which names are one file included."""
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
    # Times of directories that no entry is about are those of the clock.
    return {path: (*one[:3], 0, *one[4:]) if stat.S_ISDIR(int(str(one[0]))) else one for path, one in found.items()}


def unpacked(layers: list[bytes]) -> tuple[object, ...]:
    """What unpacking layers on top of each other gives: the tree, sizes, and the error that ended it."""
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
def at_once() -> Iterator[None]:
    """Each file is made when its entry is read, by the plain way of any entry."""
    with (
        mock.patch.object(unpacker._Unpacker, "_add_to_batch", return_value=False),
        mock.patch.object(LayerStream, "entries_and_runs", LayerStream.entries),
        mock.patch.object(Creator, "_remember"),
    ):
        yield


@contextmanager
def by_another_process(batch: int = 64, groups: int = 8) -> Iterator[list[int]]:
    """Files are made by a process, from the first on; yields how many it is given at a time."""
    real_start, real_give = FileWorker.start, FileWorker.submit
    given: list[int] = []

    def start() -> FileWorker | None:
        helper = real_start()
        if helper is None:
            return None  # there are as many as there are cores for
        select.select([helper._connection], [], [], 30)
        assert helper.has_room
        return helper

    def give(self: FileWorker, files: Iterable[FileToMake]) -> bool:
        files = list(files)
        given.append(len(files))
        return real_give(self, files)

    with (
        mock.patch.object(batches, "_BATCHES_BEFORE_WORKER", 1),
        mock.patch.object(batches, "_BATCH_FILES", batch),
        mock.patch.object(batches, "_BATCH_DIRECTORIES", groups),
        mock.patch.object(FileWorker, "start", start),
        mock.patch.object(FileWorker, "submit", give),
    ):
        yield given


some_layers = st.lists(
    st.lists(st.one_of(good_entries, entries()), max_size=12).map(lambda parts: tars.tar(*parts)), max_size=3
)


@given(some_layers, st.sampled_from([(1, 1), (2, 2), (3, 8), (64, 8)]))
def test_files_made_in_batches_and_at_once(layers: list[bytes], limits: tuple[int, int]) -> None:
    with at_once():
        expected = unpacked(layers)
    files, groups = limits
    with mock.patch.object(batches, "_BATCH_FILES", files), mock.patch.object(batches, "_BATCH_DIRECTORIES", groups):
        assert unpacked(layers) == expected


@given(some_layers, st.sampled_from([(1, 1), (2, 2), (3, 8)]))
def test_files_made_by_another_process_and_at_once(layers: list[bytes], limits: tuple[int, int]) -> None:
    with at_once():
        expected = unpacked(layers)
    with by_another_process(*limits):
        assert unpacked(layers) == expected


def runs_of(tar: bytes, size: int) -> tuple[list[tuple[TarEntry, bytes]], int]:
    """The entries of a tar that is read `size` bytes at a time, with payloads, runs taken apart; and how many were in runs."""
    found: list[tuple[TarEntry, bytes]] = []
    in_runs = 0
    file = io.BytesIO(tar)
    diff = LayerStream(TarScanner(lambda: file.read(size)))
    for item in diff.entries_and_runs():
        if isinstance(item, TarEntry):
            found.append((item, b"".join(diff.payload())))
            continue
        in_runs += len(item)
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
    return found, in_runs


def compare_runs_and_entries(tar: bytes) -> None:
    def result(size: int) -> object:
        try:
            return runs_of(tar, size)[0]
        except InvalidLayer as error:
            return error.reason, error.offset

    assert result(1 << 20) == result(100)


@given(whole_tars)
def test_runs_and_entries(tar: bytes) -> None:
    """What comes in runs is what would have come one at a time."""
    compare_runs_and_entries(tar)


PLAIN_NAMES = [b"x", b"./usr/bin/x", b"usr/.git/config", b"a/..b/.wha", b"a.wh.b", b"p" * 100, b"q/" * 80 + b"r"]
CARE = [b"/x", b"x//y", b"x/", b"./.wh.x", b"x/.wh.y", b"x/../y", b"../x", b"x/.", b"x/..", b".", b"\xc3\xa4"]


@pytest.mark.parametrize("form", ["gnu", "pax"])
@pytest.mark.parametrize("name", PLAIN_NAMES)
def test_plain_entries_do_come_in_runs(name: bytes, form: str) -> None:
    above = b""
    if len(name) > 100:
        above = tars.long_name(name) if form == "gnu" else tars.pax([(b"path", name)])
    one = above + tars.entry(name[:100], b"content", form="gnu" if form == "gnu" else "ustar")
    empty = above + tars.entry(name[:100], form="gnu" if form == "gnu" else "ustar")
    directory = above + tars.header((name + b"/")[:100], typeflag=b"5", form="gnu" if form == "gnu" else "ustar")
    assert runs_of(tars.tar(tars.entry(b"first", b"1"), one, directory, empty, one), 1 << 20)[1] == 4


@pytest.mark.parametrize("name", CARE)
def test_names_that_want_care_do_not(name: bytes) -> None:
    for entry in (tars.entry(name, b"content"), tars.directory(name + b"/"), tars.directory(name)):
        if not (name == b"x/" and entry == tars.directory(name)):
            assert runs_of(tars.tar(tars.entry(b"first", b"1"), entry), 1 << 20)[1] == 0


def test_a_directory_with_content_does_not() -> None:
    tar = tars.tar(tars.directory(b"d/"), tars.directory(b"e/"), tars.entry(b"f/", b"content", typeflag=b"5"))
    assert runs_of(tar, 1 << 20)[1] == 1


@pytest.mark.parametrize("at", OFFSETS)
@pytest.mark.parametrize("byte", [b"\0", b" ", b"7", b"9", b"-", b"_", b"\xff"])
def test_a_damaged_header_in_a_run(at: int, byte: bytes) -> None:
    """It does not pass because one like it has."""
    good = tars.entry(b"some/name", b"content", mtime=1_700_000_000)
    for right_checksum in (False, True):
        block = good[:at] + byte + good[at + 1 : 512]
        bad = (tars.with_checksum(block) if right_checksum else block) + good[512:]
        compare_runs_and_entries(tars.tar(good, good, bad, good))


@pytest.mark.parametrize("form", ["gnu", "pax"])
def test_a_long_name_before_a_header_with_any_bytes_for_a_name(form: str) -> None:
    name = b"d/" + b"n" * 120
    above = tars.long_name(name) if form == "gnu" else tars.pax([(b"path", name)])
    odd = above + tars.entry(b"d/\xff\0rest", b"content", form="gnu" if form == "gnu" else "ustar")
    usual = above + tars.entry(name[:100], b"content", form="gnu" if form == "gnu" else "ustar")
    tar = tars.tar(tars.entry(b"first", b"1"), usual, odd)
    compare_runs_and_entries(tar)
    assert runs_of(tar, 1 << 20)[1] == 2


MANY = [tars.entry(b"d%d/f%d" % (number % 7, number), b"x" * (number % 50 + 1)) for number in range(400)]


def test_another_process_does_make_them(root: Path) -> None:
    with by_another_process() as given:
        unpacker.unpack_layer(LayerStream(TarScanner(io.BytesIO(tars.tar(*MANY)).read)), str(root))
    assert given
    assert len(list(root.glob("*/*"))) == 400


@pytest.mark.parametrize("like", ["", "/bin/false", "/bin/sleep", "/nonexistent"])
def test_it_is_left_out_where_it_cannot_be_had(like: str, root: Path, tmp_path: Path) -> None:
    """And what is in the interpreter's place may end at once, or say nothing."""
    program = tmp_path / "python3"
    if like:
        program.symlink_to(like)
    with (
        mock.patch.object(sys, "executable", str(program) if like else None),
        mock.patch.object(batches, "_BATCHES_BEFORE_WORKER", 1),
    ):
        unpacker.unpack_layer(LayerStream(TarScanner(io.BytesIO(tars.tar(*MANY)).read)), str(root))
    assert len(list(root.glob("*/*"))) == 400


def test_one_that_is_stopped_is_not_waited_for_for_ever(root: Path) -> None:
    """What it was given is made here; some of it may have been made by then."""
    real = FileWorker.submit

    def give(self: FileWorker, files: Iterable[FileToMake]) -> bool:
        given = real(self, files)
        os.kill(self._process.pid, signal.SIGSTOP)
        return given

    with (
        mock.patch.object(process, "TIMEOUT", 1),
        by_another_process(),
        mock.patch.object(FileWorker, "submit", give),
    ):
        unpacker.unpack_layer(LayerStream(TarScanner(io.BytesIO(tars.tar(*MANY)).read)), str(root))
    assert len(list(root.glob("*/*"))) == 400
    assert all(path.stat().st_size for path in root.glob("*/*"))


def test_its_death_is_an_error(root: Path) -> None:
    tar = tars.tar(*MANY)
    real = FileWorker.submit

    def give(self: FileWorker, files: Iterable[FileToMake]) -> bool:
        self._process.kill()
        self._process.wait()
        return real(self, files)

    with (
        by_another_process(),
        mock.patch.object(FileWorker, "submit", give),
        pytest.raises(ChildProcessError, match="has died") as caught,
    ):
        unpacker.unpack_layer(LayerStream(TarScanner(io.BytesIO(tar).read)), str(root))
    assert "while unpacking 'd" in caught.value.__notes__[0]


def test_there_are_no_more_than_cores_for_them() -> None:
    running = []
    while (helper := FileWorker.start()) is not None:
        running.append(helper)
    assert len(running) == max(1, len(os.sched_getaffinity(0)) // 2)
    running.pop().close()
    again = FileWorker.start()
    assert again is not None
    for one in [*running, again]:
        one.close()


def test_it_makes_nothing_for_the_dead(root: Path) -> None:
    """Whoever ordered files and was killed may see its layer removed at once."""
    program = """if True:
        import os, sys, select, signal
        from layerstore_core.unpack.file_worker import FileWorker
        helper = FileWorker.start()
        select.select([helper._connection], [], [])
        assert helper.has_room
        directory = os.open(sys.argv[1], os.O_RDONLY)
        os.kill(helper._process.pid, signal.SIGSTOP)
        helper.submit([(directory, b"%d" % number, (0o644, None, False), 0, memoryview(b"x")) for number in range(64)])
        print(helper._process.pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", program, root], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    helper = int(done.stdout)
    os.kill(helper, signal.SIGCONT)
    deadline = time.monotonic() + 30
    while Path(f"/proc/{helper}").exists() and time.monotonic() < deadline:
        if Path(f"/proc/{helper}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            break
        time.sleep(0.01)
    assert list(root.iterdir()) == []


def test_nothing_of_it_is_left(root: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    with by_another_process() as given:
        unpacker.unpack_layer(LayerStream(TarScanner(io.BytesIO(tars.tar(*MANY)).read)), str(root))
    assert given
    assert set(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_it_is_left_out_where_there_is_no_such_memory(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a Python that was built for an old C library."""
    monkeypatch.delattr(os, "memfd_create")
    with mock.patch.object(batches, "_BATCHES_BEFORE_WORKER", 1):
        unpacker.unpack_layer(LayerStream(TarScanner(io.BytesIO(tars.tar(*MANY)).read)), str(root))
    assert len(list(root.glob("*/*"))) == 400


@pytest.mark.parametrize("code", [errno.ETOOMANYREFS, errno.EMSGSIZE, errno.ENOBUFS])
def test_what_cannot_be_sent_is_made_here(code: int, root: Path) -> None:
    """An ordinary user may have no more descriptors on their way than open."""
    with by_another_process() as given, mock.patch.object(socket, "send_fds", side_effect=OSError(code, "no")) as send:
        unpacker.unpack_layer(LayerStream(TarScanner(io.BytesIO(tars.tar(*MANY)).read)), str(root))
    assert given
    assert send.call_count == len(given)
    assert len(list(root.glob("*/*"))) == 400


def test_an_order_that_is_longer_than_a_message(root: Path) -> None:
    """Names that no file system takes may be of any length."""
    bad = [tars.entry(b"d1/%04d" % number + b"n" * 3000, b"x") for number in range(100)]
    with by_another_process(), pytest.raises(InvalidLayer, match="component of its name is too long") as caught:
        unpacker.unpack_layer(LayerStream(TarScanner(io.BytesIO(tars.tar(MANY[1], *bad)).read)), str(root))
    assert caught.value.entry is not None and caught.value.entry.startswith(b"d1/0000")


def started() -> FileWorker:
    helper = FileWorker.start()
    assert helper is not None
    select.select([helper._connection], [], [], 30)
    assert helper.has_room
    return helper


def test_it_is_ended_where_it_has_been_stopped() -> None:
    helper = started()
    os.kill(helper._process.pid, signal.SIGSTOP)
    helper.close()
    assert helper._process.returncode == -signal.SIGKILL


def test_it_is_ended_where_a_fork_of_this_program_has_its_socket() -> None:
    helper = started()
    fork = os.fork()
    if not fork:
        signal.pause()
        os._exit(0)
    try:
        helper.close()
    finally:
        os.kill(fork, signal.SIGKILL)
        os.waitpid(fork, 0)


@pytest.mark.parametrize("elsewhere", [True, False])
@pytest.mark.parametrize("before", [0, 10, 300])
def test_an_error_in_a_batch_names_its_entry(before: int, elsewhere: bool, root: Path) -> None:
    """And comes before that of a later entry."""
    bad = tars.entry(b"d1/" + b"n" * 256, b"x")
    tar = tars.tar(*MANY[: before + 1], bad, *MANY[before + 1 :], tars.entry(b"../x"))
    with (
        by_another_process() if elsewhere else nullcontext(),
        pytest.raises(InvalidLayer, match="component of its name is too long") as caught,
    ):
        unpacker.unpack_layer(LayerStream(TarScanner(io.BytesIO(tar).read)), str(root))
    assert caught.value.offset == tar.index(b"d1/nnn") - 512
    assert caught.value.entry is not None and caught.value.entry.endswith(b"n" * 256)


@pytest.mark.parametrize("elsewhere", [True, False])
@pytest.mark.parametrize("others", [0, 30, 70])
@pytest.mark.parametrize("below", [b"", b"/s"])
def test_a_file_in_the_place_of_an_open_directory(below: bytes, others: int, elsewhere: bool) -> None:
    """What comes below it afterwards finds no directory, also where one of those below it is still open."""
    tar = tars.tar(
        tars.entry(b"first", b"1"),
        tars.entry(b"x" + below + b"/a", b"1"),
        *[tars.entry(b"o%d/f" % number, b"1") for number in range(others)],
        tars.entry(b"x", b"2"),
        tars.entry(b"x" + below + b"/b", b"3"),
    )
    with at_once():
        expected = unpacked([tar])
    assert "something on its path is no directory" in str(expected[-1])
    with by_another_process() if elsewhere else nullcontext():
        assert unpacked([tar]) == expected


def test_directories_are_open_while_files_are_to_come_into_them() -> None:
    """To remove a directory of this layer, so many others are opened that the one in hand could be closed."""
    tar = tars.tar(
        tars.entry(b"first", b"1"),
        *[tars.entry(b"x/%d/f" % number, b"1") for number in range(100)],
        tars.entry(b"link", typeflag=b"2", linkname=b"first"),
        tars.entry(b"y/first", b"1"),
        tars.entry(b"x", b"in the place of a directory"),
        tars.entry(b"y/second", b"makes the batch too large"),
    )
    with at_once():
        expected = unpacked([tar])
    with mock.patch.object(batches, "SLOT", 30):
        assert unpacked([tar]) == expected


@pytest.mark.parametrize(
    "later",
    [tars.entry(b"../x", b"1"), tars.entry(b"dir/y", b"1", uid=1 << 40), b"no header" * 99, tars.header(b"y", size=9)],
)
@pytest.mark.parametrize("between", [b"", tars.directory(b"other")])
def test_what_an_earlier_file_meets_comes_first(between: bytes, later: bytes) -> None:
    bad = tars.entry(b"dir/" + b"n" * 256, b"x")
    tar = tars.tar(tars.entry(b"first", b"1"), tars.entry(b"dir/x", b"1"), bad, between, later)
    with at_once():
        expected = unpacked([tar])
    assert "component of its name is too long" in str(expected)
    assert unpacked([tar]) == expected


def test_a_file_that_replaces_another_one_whose_directory_is_to_be_replaced() -> None:
    below = tars.tar(tars.entry(b"x/f", b"below"))
    tar = tars.tar(
        tars.entry(b"first", b"1"), tars.entry(b"x/f", b"2"), tars.entry(b"x", b"makes the batch too large, too")
    )
    with at_once():
        expected = unpacked([below, tar])
    with mock.patch.object(batches, "SLOT", 30):
        assert unpacked([below, tar]) == expected


def test_a_directory_below_one_that_is_to_be_replaced() -> None:
    """It is not open, and the one above it is."""
    below = tars.tar(tars.entry(b"x/s/f", b"below"))
    tar = tars.tar(
        tars.entry(b"first", b"1"), tars.entry(b"x/f", b"2"), tars.entry(b"x", b"3"), tars.entry(b"x/s/g", b"4")
    )
    with at_once():
        expected = unpacked([below, tar])
    assert unpacked([below, tar]) == expected


def test_contents_in_memory_are_bounded() -> None:
    """Small files that stand far apart would each keep the piece of the tar that they are in."""
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
