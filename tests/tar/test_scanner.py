"""The tar scanner: entries in all dialects, every byte returned, malformed tars refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import repeat

import pytest

from layerstore_core.errors import InvalidLayer
from layerstore_core.tar.entry import EntryType, TarEntry
from layerstore_core.tar.scanner import MAX_HEADERS, MAX_META, MAX_NAME, TRAILER_PIECE, TarScanner
from tests import tars


def source(tar: bytes, size: int = 1 << 20) -> Callable[[], bytes]:
    chunks = iter([tar[start : start + size] for start in range(0, len(tar), size)])
    return lambda: next(chunks, b"")


def scan(tar: bytes, size: int = 1 << 20) -> list[tuple[TarEntry, bytes]]:
    """Return the entries with their payloads, and check that no byte of the tar is missing."""
    scanner = TarScanner(source(tar, size))
    found = []
    everything = []
    while True:
        segment, entry = scanner.next_entry()
        everything.append(segment)
        if entry is None:
            break
        payload = b"".join(scanner.payload())
        everything.append(payload)
        found.append((entry, payload))
    everything += scanner.trailer()
    assert b"".join(everything) == tar
    assert scanner.offset == len(tar)
    return found


def one(*parts: bytes) -> TarEntry:
    ((entry, _),) = scan(tars.tar(*parts))
    return entry


def refusal(tar: bytes) -> InvalidLayer:
    with pytest.raises(InvalidLayer) as caught:
        scan(tar)
    return caught.value


TWO = tars.tar(tars.entry(b"a", b"x" * 700), tars.long_name(b"n" * 300) + tars.entry(b"n", b"y" * 1024))


@pytest.mark.parametrize("size", [1, 7, 511, 512, 513, 4096])
def test_entries_are_the_same_in_chunks_of_any_length(size: int) -> None:
    assert scan(TWO, size) == scan(TWO)


@pytest.mark.parametrize("end", [b"", bytes(512), tars.END, bytes(10240), tars.END + b"junk", bytes(512) + b"j" * 512])
def test_an_archive_may_end_in_several_ways(end: bytes) -> None:
    assert [entry.name for entry, _ in scan(tars.entry(b"a", b"x") + end)] == [b"a"]


@pytest.mark.parametrize("tar", [b"", bytes(512), tars.END])
def test_an_empty_archive_has_no_entries(tar: bytes) -> None:
    assert scan(tar) == []


@pytest.mark.parametrize("size", [100, 1 << 16, 1 << 20, 3 << 20])
def test_trailers_come_in_the_same_pieces_however_the_tar_is_read(size: int) -> None:
    tar = tars.tar(tars.entry(b"a", b"x")) + b"t" * (2 * TRAILER_PIECE + 5)
    scanner = TarScanner(source(tar, size))
    while scanner.next_entry()[1] is not None:
        pass
    assert [len(piece) for piece in scanner.trailer()] == [TRAILER_PIECE, TRAILER_PIECE, 5]


def test_a_payload_that_is_not_read_is_skipped() -> None:
    scanner = TarScanner(source(TWO, 100))
    first = scanner.next_entry()[1]
    assert first is not None
    taken = next(scanner.payload())
    assert bytes(taken) == b"x" * len(taken)
    second = scanner.next_entry()[1]
    assert second is not None
    assert (second.name, second.offset) == (b"n" * 300, 1536)
    assert scanner.next_entry()[1] is None


def test_payload_chunks_stay_valid() -> None:
    scanner = TarScanner(source(TWO, 100))
    scanner.next_entry()
    chunks = list(scanner.payload())
    assert b"".join(chunks) == b"x" * 700


def test_a_truncated_tar_is_refused_unless_an_entry_is_complete() -> None:
    # These are the end of an archive, too, as for Docker and GNU tar: an extended header without an entry, one block of
    # zeros, and a payload or extended header whose padding is missing or incomplete.
    whole_entries = {0, *range(1212, 1537), *range(2349, 2561), 4096, *range(4608, len(TWO))}
    for cut in range(len(TWO)):
        if cut in whole_entries:
            scan(TWO[:cut])
        else:
            error = refusal(TWO[:cut])
            assert error.offset == cut
            assert "cut off" in error.reason


@pytest.mark.parametrize("padding", [0, 1, 100, 500])
@pytest.mark.parametrize("fill", [b"\0", b"z"])
@pytest.mark.parametrize("size", [1, 512, 1 << 20])
def test_the_last_entry_needs_no_padding(padding: int, fill: bytes, size: int) -> None:
    last = tars.header(b"b", size=5) + b"hello" + fill * padding
    assert [(entry.name, data) for entry, data in scan(tars.entry(b"a", b"x") + last, size)] == [
        (b"a", b"x"),
        (b"b", b"hello"),
    ]
    records = tars.pax([(b"path", b"p")])[: 512 + len(tars.record(b"path", b"p"))]
    for extended in (records, tars.with_checksum(records[:156] + b"g" + records[157:512]) + records[512:]):
        bare = extended + fill * padding
        assert [entry.name for entry, _ in scan(tars.entry(b"a", b"x") + bare, size)][:1] == [b"a"]


def test_the_message_says_that_the_input_is_not_a_tar() -> None:
    assert "not a tar" in str(refusal(b"#!/bin/sh\n" * 100))
    assert "not a tar" in str(refusal(b"short"))
    assert "not a tar" not in str(refusal(tars.entry(b"a") + b"#!/bin/sh\n" * 100))


def test_the_error_of_a_wrong_checksum_has_its_offset() -> None:
    damaged = bytearray(TWO)
    damaged[1536 + 3] ^= 1
    error = refusal(bytes(damaged))
    assert (error.offset, error.entry) == (1536, b"a")
    assert "checksum" in error.reason


def test_an_entry_has_the_fields_of_its_header() -> None:
    options = {"mode": 0o4755, "uid": 7, "gid": 8, "mtime": 9, "size": 3}
    found = one(tars.entry(b"name", b"abc", **options))
    assert found == TarEntry(
        b"name", EntryType.FILE, mode=0o4755, uid=7, gid=8, size=3, mtime_ns=9_000_000_000, typeflag=b"0", stored_size=3
    )


@pytest.mark.parametrize(
    ("part", "name"),
    [
        (tars.entry(b"n", prefix=b"a/b"), b"a/b/n"),
        (tars.entry(b"n", prefix=b"p" * 155), b"p" * 155 + b"/n"),
        (tars.entry(b"n", prefix=b"p" * 131, form="star"), b"p" * 131 + b"/n"),
        (tars.entry(b"n", prefix=b"p" * 10, form="v7"), b"n"),
        (tars.entry(b"x" * 100), b"x" * 100),
        (tars.long_name(b"long" * 100) + tars.entry(b"n"), b"long" * 100),
        (tars.long_name(b"first") + tars.long_name(b"second") + tars.entry(b"n"), b"second"),
        (tars.pax([(b"path", b"pax")]) + tars.entry(b"n"), b"pax"),
        (tars.pax([(b"path", b"pax")], typeflag=b"X") + tars.entry(b"n"), b"pax"),
        (tars.pax([(b"path", b"pax")]) + tars.long_name(b"gnu") + tars.entry(b"n"), b"gnu"),
        (tars.pax([(b"path", b"first")]) + tars.pax([(b"uid", b"1")]) + tars.entry(b"n"), b"n"),
        (tars.pax([(b"path", b"cut\0off")]) + tars.entry(b"n"), b"cut"),
        (tars.pax([(b"path", b"\xff\xfe")]) + tars.entry(b"n"), b"\xff\xfe"),
        (tars.pax([(b"path", b"")]) + tars.entry(b"n"), b"n"),
        (tars.sparse_pax(b"s", b"ab", [(0, 2)], "1.0"), b"s"),
        (tars.pax([(b"path", b"n" * MAX_NAME)]) + tars.entry(b"n"), b"n" * MAX_NAME),
    ],
)
def test_names_of_entries_in_all_dialects(part: bytes, name: bytes) -> None:
    assert one(part).name == name


def test_link_targets_in_all_dialects() -> None:
    part = tars.long_name(b"t" * 300, b"K") + tars.symlink(b"l", b"t")
    assert one(part).linkname == b"t" * 300
    assert one(tars.pax([(b"linkpath", b"p" * 300)]) + tars.symlink(b"l", b"t")).linkname == b"p" * 300
    assert one(tars.symlink(b"l", b"t" * 100)).linkname == b"t" * 100


def test_an_extended_header_applies_to_one_entry() -> None:
    tar = tars.tar(
        tars.pax([(b"uid", b"5")]) + tars.entry(b"a"), tars.long_name(b"long") + tars.entry(b"b"), tars.entry(b"c")
    )
    assert [(entry.name, entry.uid) for entry, _ in scan(tar)] == [(b"a", 5), (b"long", 0), (b"c", 0)]


def test_a_global_header_is_an_entry_and_changes_no_other() -> None:
    part = tars.pax([(b"path", b"global"), (b"uid", b"5")], typeflag=b"g") + tars.entry(b"a", b"x")
    (first, content), (second, _) = scan(tars.tar(part))
    assert (first.type, first.name, content) == (EntryType.GLOBAL, b"global", b"")
    assert (second.name, second.uid) == (b"a", 0)


@pytest.mark.parametrize(
    ("flag", "kind"),
    [
        (b"0", EntryType.FILE),
        (b"\0", EntryType.FILE),
        (b"7", EntryType.FILE),
        (b"Z", EntryType.FILE),
        (b"1", EntryType.HARDLINK),
        (b"2", EntryType.SYMLINK),
        (b"3", EntryType.CHAR),
        (b"4", EntryType.BLOCK),
        (b"5", EntryType.DIR),
        (b"D", EntryType.DIR),
        (b"6", EntryType.FIFO),
        (b"V", EntryType.VOLUME),
        (b"M", EntryType.VOLUME),
    ],
)
def test_type_flags_give_the_type_of_an_entry(flag: bytes, kind: EntryType) -> None:
    assert one(tars.entry(b"a", typeflag=flag)).type is kind


@pytest.mark.parametrize(("flag", "kind"), [(b"\0", EntryType.DIR), (b"0", EntryType.FILE)])
def test_a_slash_at_the_end_of_a_name_marks_a_directory_in_v7_only(flag: bytes, kind: EntryType) -> None:
    assert one(tars.entry(b"a/", typeflag=flag, form="v7")).type is kind


@pytest.mark.parametrize("flag", [b"1", b"2", b"3", b"4", b"5", b"6"])
def test_the_size_of_a_header_only_type_counts_only_if_a_payload_follows(flag: bytes) -> None:
    """Most writers put a size into these headers that means nothing; some do write a payload."""
    bare = tars.header(b"a", typeflag=flag, size=700, linkname=b"t")
    for following in (tars.entry(b"b", b"x"), b""):
        entries = scan(tars.tar(bare, following))
        assert (entries[0][0].size, entries[0][0].stored_size, entries[0][1]) == (0, 0, b"")
    assert scan(bare)[0][0].stored_size == 0
    full = tars.entry(b"a", b"c" * 700, typeflag=flag, linkname=b"t")
    entries = scan(tars.tar(full, tars.entry(b"b", b"x")))
    assert (entries[0][0].size, entries[0][0].stored_size, entries[0][1]) == (0, 700, b"c" * 700)
    assert entries[1][0].name == b"b"


def test_device_numbers_are_read() -> None:
    entry = one(tars.entry(b"d", typeflag=b"3", device=(0o7777777, 5)))
    assert (entry.devmajor, entry.devminor) == (0o7777777, 5)
    assert one(tars.entry(b"d", typeflag=b"3", device=(4, 5), form="v7")).devmajor == 0


def test_the_size_in_a_pax_record_is_the_size_of_the_payload() -> None:
    part = tars.pax([(b"size", b"700")]) + tars.header(b"a", size=3) + tars.padded(b"c" * 700)
    ((entry, content),) = scan(tars.tar(part))
    assert (entry.size, content) == (700, b"c" * 700)


def test_numbers_in_base_256_are_read() -> None:
    entry = one(tars.entry(b"a", uid=1 << 31, gid=-1, mtime=-5))
    assert (entry.uid, entry.gid, entry.mtime_ns) == (1 << 31, -1, -5_000_000_000)


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        (tars.header(b"a", fields={124: tars.base256(-1, 12)}), "negative"),
        (tars.header(b"a", fields={124: b"00000000008\0"}), "octal"),
        (tars.header(b"a", fields={108: b"what\0\0\0\0"}), "octal"),
        (tars.header(b"a", fields={124: b"\x80" + b"\xff" * 11}), "64 bits"),
        (tars.pax([(b"size", b"-1")]) + tars.entry(b"a"), "negative"),
        (tars.pax([(b"size", b"1e3")]) + tars.entry(b"a"), "not a number"),
        (tars.entry(b"x", b"12 path=abc", typeflag=b"x") + tars.entry(b"a"), "record"),
        (tars.header(b"x", typeflag=b"x", size=MAX_META + 1), "at most"),
        (tars.header(b"x", typeflag=b"L", size=MAX_META + 1), "at most"),
        (tars.header(b"x", typeflag=b"g", size=1 << 60), "at most"),
        (tars.pax([(b"path", b"n" * (MAX_NAME + 1))]) + tars.entry(b"a"), "longer than"),
        (tars.long_name(b"n" * (MAX_NAME + 1)) + tars.entry(b"a"), "longer than"),
        (tars.long_name(b"n" * (MAX_NAME + 1), b"K") + tars.symlink(b"a", b"t"), "longer than"),
        (tars.entry(b"a", typeflag=b"S"), "not GNU's"),
        (tars.header(b"a", size=1 << 62), "cut off"),
    ],
)
def test_malformed_headers_are_refused(part: bytes, reason: str) -> None:
    error = refusal(tars.tar(part))
    assert reason in error.reason
    assert error.offset is not None


def endless(*parts: bytes) -> Callable[[], bytes]:
    """Return a source of a tar that never ends."""
    chunks: Iterator[bytes] = (part for parts_again in repeat(parts) for part in parts_again)
    return lambda: next(chunks)


@pytest.mark.parametrize(
    "parts",
    [
        [tars.long_name(b"n" * (MAX_META - 600))],
        [tars.pax([(b"comment", b"c" * (MAX_META - 600))])],
        [tars.header(b"a", typeflag=b"S", form="gnu", fields={482: b"\1"}), b"\1" * 512],
    ],
)
def test_headers_without_end_are_refused(parts: list[bytes]) -> None:
    taken = 0
    read = endless(*parts)

    def counted() -> bytes:
        nonlocal taken
        chunk = read()
        taken += len(chunk)
        return chunk

    with pytest.raises(InvalidLayer):
        TarScanner(counted).next_entry()
    assert taken <= MAX_HEADERS + 2 * MAX_META


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"\n" * 512, id="empty"),
        pytest.param(b"1" * 512, id="digits", marks=pytest.mark.nightly),
        pytest.param(b"0" * 511 + b"\n", id="zeros", marks=pytest.mark.nightly),
    ],
)
def test_a_sparse_map_without_end_is_refused(line: bytes) -> None:
    records = [(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.realsize", b"9")]
    start = tars.pax(records) + tars.header(b"a", size=1 << 40) + tars.padded(b"200000\n").replace(b"\0", b"7", 3)
    chunks = iter([start])
    taken = 0

    def read() -> bytes:
        nonlocal taken
        chunk = next(chunks, line * 100)
        taken += len(chunk)
        return chunk

    with pytest.raises(InvalidLayer):
        TarScanner(read).next_entry()
    assert taken < MAX_HEADERS * 2


def test_errors_of_the_source_are_not_wrapped() -> None:
    def read() -> bytes:
        raise OSError("broken")

    with pytest.raises(OSError, match="broken"):
        TarScanner(read).next_entry()
