"""The kernel that scans a tar, and its twin, the scanner in Python: the same entries, or none."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerstore_core.errors import InvalidLayer
from layerstore_core.tar.entry import EntryType, TarEntry
from layerstore_core.tar.pax import xattr_key
from layerstore_core.tar.run import Run, entry_of
from layerstore_core.tar.scanner import TarScanner
from layerstore_core.tar.whiteouts import NameKind, classify
from tests import tars
from tests.across.test_properties import names, whole_tars

kernels = pytest.importorskip("layerstore_native._kernels", reason="the kernels are not built")

TYPES = (EntryType.FILE, EntryType.SYMLINK, EntryType.DIR, EntryType.HARDLINK)


class Found(NamedTuple):
    """What the scanner has found: where the payload before it ends, and the padding after that."""

    position: int
    padding: int
    segment: bytes
    entry: TarEntry
    payload: bytes


def by_the_twin(tar: bytes) -> list[Found]:
    """Return what the scanner finds in a tar, up to its end or its first error."""
    file, found = io.BytesIO(tar), []
    scanner = TarScanner(lambda: file.read(1 << 20))
    position = padding = 0
    try:
        while (entry := (item := scanner.next_entry())[1]) is not None:
            payload = b"".join(scanner.payload())
            found.append(Found(position, padding, item[0], entry, payload))
            position = scanner.offset
            padding = -position % tars.BLOCK
    except InvalidLayer:
        pass
    return found


def scan(tar: bytes, position: int = 0, padding: int = 0, *, offset: int = 0, entries: int = 99) -> Run:
    run: Run = kernels.scan(tar, position, padding, offset, entries, 1 << 40)
    return run


def check(run: Run, expected: list[Found], offset: int = 0) -> None:
    """Compare the entries of a run with those that the twin has found."""
    assert len(run) <= len(expected)
    size = 0
    for number, (position, _, segment, entry, payload) in zip(range(len(run)), expected, strict=False):
        entry.offset += offset
        assert entry_of(run, number) == entry
        assert run.entry(number)[11] == position + len(segment) + offset
        entry.offset -= offset
        assert run.segment(number) == segment
        assert run.payload(number) == payload
        assert run.path(number) == entry.path != b""
        assert classify(entry.path) is NameKind.PLAIN
        size += len(entry.linkname) if entry.type is EntryType.SYMLINK else entry.size
    assert run.size == size
    assert run.raw() == b"".join(found.segment + found.payload for found in expected[: len(run)])
    if len(run) < len(expected):
        assert (run.position, run.padding) == expected[len(run)][:2]
    check_kinds(run, [found.entry for found in expected[: len(run)]])


def check_kinds(run: Run, entries: list[TarEntry]) -> None:
    """Compare kinds with the entries that they are of."""
    kinds = [(TYPES.index(one.type), one.mode, one.uid, one.gid) for one in entries]
    assert run.kinds == [(*kind, kinds.count(kind)) for kind in dict.fromkeys(kinds)]


@given(whole_tars, st.integers(0, 1 << 50))
def test_runs_have_what_the_twin_finds(tar: bytes, offset: int) -> None:
    expected = by_the_twin(tar)
    for number, found in enumerate(expected):
        check(scan(tar, found.position, found.padding, offset=offset), expected[number:], offset)


@given(whole_tars, st.data())
def test_runs_of_a_damaged_tar_have_what_the_twin_finds(tar: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(tar)))
    block = at // tars.BLOCK * tars.BLOCK
    damaged = tar[:at] + data.draw(st.binary(max_size=12)) + tar[at + data.draw(st.integers(0, 20)) :]
    if data.draw(st.booleans()) and len(damaged) >= block + tars.BLOCK:
        mended = tars.with_checksum(damaged[block : block + tars.BLOCK])
        damaged = damaged[:block] + mended + damaged[block + tars.BLOCK :]
    expected = by_the_twin(damaged)
    for number, found in enumerate(expected):
        check(scan(damaged, found.position, found.padding), expected[number:])


@given(whole_tars, st.data())
def test_an_entry_that_goes_on_after_the_buffer_names_the_bytes_it_needs(tar: bytes, data: st.DataObject) -> None:
    expected = by_the_twin(tar)
    whole = scan(tar)
    cut = scan(tar[: data.draw(st.integers(0, len(tar)))])
    check(cut, expected)
    while cut.needed and cut.position + cut.needed <= len(tar):
        end = cut.position + cut.needed
        missing = scan(tar[: end - 1], cut.position, cut.padding)
        assert not len(missing) and 0 < missing.needed <= cut.needed
        cut = scan(tar[:end])
    assert len(cut) == len(whole)


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


@given(headers, st.sampled_from(OFFSETS), st.binary(max_size=4), st.booleans())
def test_headers_with_one_odd_field_are_read_as_by_the_twin(
    block: bytes, at: int, noise: bytes, right_checksum: bool
) -> None:
    changed = (block[:at] + noise + block[at + len(noise) :])[: tars.BLOCK]
    if right_checksum:
        changed = tars.with_checksum(changed)
    for one in (block, changed):
        tar = tars.tar(one + bytes(5120), tars.entry(b"next"))
        check(scan(tar), by_the_twin(tar))


PLAIN = {
    "file": tars.entry(b"usr/bin/x", b"content", mode=0o4755, uid=7, gid=8, mtime=1_700_000_000),
    "empty file": tars.entry(b"./etc/.pwd.lock"),
    "gnu": tars.entry(b"a", b"b", form="gnu"),
    "directory": tars.directory(b"./usr/bin/"),
    "directory without slash": tars.directory(b"usr/bin"),
    "symbolic link": tars.symlink(b"bin", b"/usr/../bin"),
    "hard link": tars.hard_link(b"bin/b", b"bin/a"),
    "prefix": tars.entry(b"name", b"x", prefix=b"some/where"),
    "other bytes": tars.entry(b"\xff\xe4/\x01\n", b"x"),
    "numbers in base 256": tars.entry(b"a", b"x", uid=1 << 31, gid=-5, mtime=-1),
    "gnu long name": tars.long_name(b"l" * 200) + tars.entry(b"l" * 100, b"x", form="gnu"),
    "gnu long link": tars.long_name(b"l" * 200, b"K") + tars.symlink(b"a", b"l" * 100, form="gnu"),
    "pax path": tars.pax([(b"path", b"\xc3\xa4" * 200)]) + tars.entry(b"short", b"x"),
    "pax link": tars.pax([(b"linkpath", b"t" * 300)]) + tars.symlink(b"a", b"t" * 100),
    "pax times": tars.pax([(b"mtime", b"1700000000.123456789"), (b"atime", b"1.5"), (b"ctime", b"2")])
    + tars.entry(b"a", b"x"),
    "pax time before 1970": tars.pax([(b"mtime", b"-1.25")]) + tars.entry(b"a"),
    "pax owner": tars.pax([(b"uid", b"3000000"), (b"gid", b"-2"), (b"uname", b"me"), (b"gname", b"")])
    + tars.entry(b"a"),
    "pax size": tars.pax([(b"size", b"3")]) + tars.header(b"a") + tars.padded(b"xyz"),
    "pax attributes": tars.pax([(b"SCHILY.xattr.user.a", b"\0="), (b"SCHILY.xattr.security.capability", b"")])
    + tars.entry(b"a", b"x"),
    "pax record that says nothing": tars.pax([(b"path", b"other"), (b"path", b""), (b"comment", b"x")])
    + tars.entry(b"a"),
    "no pax records": tars.pax([]) + tars.entry(b"a"),
}
NOT_PLAIN = {
    "root": tars.directory(b"./"),
    "whiteout": tars.entry(b"a/.wh.b"),
    "below a whiteout": tars.entry(b".wh..wh.plnk/a", b"x"),
    "absolute": tars.entry(b"/a"),
    "parent": tars.entry(b"a/../b"),
    "dot": tars.entry(b"a/./b"),
    "doubled slash": tars.entry(b"a//b"),
    "file with slash": tars.entry(b"a/"),
    "device": tars.entry(b"null", typeflag=b"3", device=(1, 3)),
    "v7": tars.entry(b"a", form="v7"),
    "star": tars.entry(b"a", form="star"),
    "global header": tars.pax([(b"comment", b"x")], typeflag=b"g"),
    "sparse": tars.sparse_pax(b"a", b"x" * 1024, [(512, 512)], "0.1"),
    "old sparse": tars.sparse_old_gnu(b"a", bytes(512) + b"x" * 512, [(512, 512)]),
    "escaped attribute": tars.pax([(xattr_key(b"user.a=b"), b"1")]) + tars.entry(b"a"),
    "attribute twice": tars.pax([(b"SCHILY.xattr.user.a", b"1"), (b"SCHILY.xattr.user.a", b"2")]) + tars.entry(b"a"),
    "link to nothing": tars.symlink(b"a", b""),
    "hard link with content": tars.hard_link(b"a", b"b", b"content"),
    "malformed time": tars.pax([(b"mtime", b"yesterday")]) + tars.entry(b"a"),
    "name that is too long": tars.pax([(b"path", b"n" * 5000)]) + tars.entry(b"a"),
    "wrong checksum": tars.header(b"a")[:-1] + b"x",
    "end": bytes(1024),
}


@pytest.mark.parametrize("tar", PLAIN.values(), ids=PLAIN.keys())
def test_plain_entries_are_in_runs(tar: bytes) -> None:
    run = scan(tars.tar(tar))
    assert len(run) == 1
    check(run, by_the_twin(tars.tar(tar)))


@pytest.mark.parametrize("tar", NOT_PLAIN.values(), ids=NOT_PLAIN.keys())
def test_a_run_ends_before_what_is_not_plain(tar: bytes) -> None:
    run = scan(tars.tar(tars.entry(b"before", b"x"), tar))
    assert (len(run), run.needed) == (1, 0)


def test_limits_of_a_run() -> None:
    tar = tars.tar(*[tars.entry(b"%d" % number, b"x" * 1000, uid=number) for number in range(300)])
    assert len(kernels.scan(tar, 0, 0, 0, 7, 1 << 40)) == 7
    assert len(kernels.scan(tar, 0, 0, 0, 999, 3072)) == 3
    assert len(kernels.scan(tar, 0, 0, 0, 999, 1 << 40)) == 256  # kinds of entries
    many = [(b"SCHILY.xattr.user.%d" % number, b"") for number in range(65)]
    assert len(scan(tars.tar(tars.pax(many[:64]) + tars.entry(b"a")))) == 1
    assert len(scan(tars.tar(tars.pax(many) + tars.entry(b"a")))) == 0


@pytest.mark.parametrize("arguments", [(-1, 0, 0, 9, 9), (2000, 0, 0, 9, 9), (0, -1, 0, 9, 9), (0, 0, 0, -1, 9)])
def test_wrong_arguments_are_refused(arguments: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="not in the buffer, or a limit is negative"):
        kernels.scan(tars.tar(), *arguments)
    with pytest.raises(TypeError):
        kernels.scan(bytearray(tars.tar()), 0, 0, 0, 9, 9)


@pytest.mark.parametrize("number", [-1, 1, 1 << 70])
def test_a_run_has_no_other_entries(number: int) -> None:
    run = scan(tars.tar(tars.entry(b"a")))
    for read in (run.entry, run.segment, run.payload, run.path):
        with pytest.raises(IndexError):
            read(number)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a tree with all that plain entries can have."""
    top = tmp_path / "tree"
    for number in range(40):
        directory = top / ("d" * (number % 7 + 1)) / ("long-" * 30 if number % 9 == 0 else "s")
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{number}-ä"
        path.write_bytes(b"x" * (number * 97))
        os.utime(path, ns=(0, 1_700_000_000_123_456_789 + number))
        if number % 5 == 0:
            (directory / f"{number}.link").symlink_to("t" * (number * 5 + 1))
            os.link(path, directory / f"{number}.hard")
    return top


@pytest.mark.parametrize("form", ["gnu", "pax", "ustar"])
def test_all_entries_of_tars_of_gnu_tar_are_plain(tree: Path, form: str) -> None:
    skipped = ["--exclude=long-*", "--exclude=*.link"] if form == "ustar" else []
    command = ["tar", f"--format={form}", "-C", tree, *skipped, "-cf", "-", *sorted(os.listdir(tree))]
    tar = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    expected = by_the_twin(tar)
    run = scan(tar, entries=9999)
    assert len(run) == len(expected) > 10
    check(run, expected)


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_all_entries_of_tars_of_python_are_plain(tree: Path, form: int) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as archive:
        archive.add(tree, "files")
    expected = by_the_twin(file.getvalue())
    run = scan(file.getvalue(), entries=9999)
    assert len(run) == len(expected) > 60
    check(run, expected)
