"""Verification of payloads: file entries whose files differ become inline payloads."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import BinaryIO

import pytest
from fastcrc import crc64

from layerstore_core.errors import InvalidLayer
from layerstore_core.tarsplit.assemble import assemble
from layerstore_core.tarsplit.codec import FileEntry, LineReader, LineWriter, Segment, decode_lines
from layerstore_core.tarsplit.verify_payloads import verify_payloads

TAR = b"head" + b"first" * 1000 + b"mid" + b"second" + b"tail"
FIRST, SECOND = b"first" * 1000, b"second"


def entry(name: bytes, content: bytes) -> FileEntry:
    return FileEntry(name, len(content), int(crc64.go_iso(content)))


ENTRIES: list[Segment | FileEntry] = [
    Segment(b"head"),
    entry(b"a", FIRST),
    Segment(b"mid"),
    FileEntry(b"dir"),
    entry(b"b", SECOND),
    Segment(b"tail"),
]


class Tar:
    """Second reading of the tar; offsets must ascend."""

    def __init__(self, data: bytes = TAR) -> None:
        self.data = data
        self.end = 0

    def payload(self, offset: int, size: int, crc: int) -> Iterator[bytes] | None:
        assert offset >= self.end
        self.end = offset + size
        return (self.data[start : min(start + 777, self.end)] for start in range(offset, self.end, 777))


class Saved:
    """The payloads that were saved, as of a pipe."""

    def __init__(self, *payloads: bytes) -> None:
        self.payloads = {(len(one), crc64.go_iso(one)): one for one in payloads}

    def payload(self, offset: int, size: int, crc: int) -> Iterator[bytes] | None:
        found = self.payloads.get((size, crc))
        return None if found is None else iter((found[:100], found[100:]))


class Files:
    def __init__(self, **files: bytes | OSError) -> None:
        self.files = files

    def open(self, name: bytes) -> BinaryIO:
        found = self.files.get(name.decode(), FileNotFoundError(2, "No such file"))
        if isinstance(found, OSError):
            raise found
        return io.BytesIO(found)


def verified(files: Files, tar: Tar | Saved | None = None) -> tuple[int, list[Segment | FileEntry]]:
    out = io.BytesIO()
    inlined = verify_payloads(ENTRIES, files, tar or Tar(), LineWriter(out))
    out.seek(0)
    with LineReader(out) as lines:
        return inlined, list(decode_lines(lines))


def test_entries_whose_files_have_the_payload_are_kept() -> None:
    assert verified(Files(a=FIRST, b=SECOND)) == (0, ENTRIES)


@pytest.mark.parametrize(
    "files",
    [
        Files(b=SECOND),
        Files(a=b"", b=SECOND),
        Files(a=FIRST[:-1], b=SECOND),
        Files(a=FIRST + b"x", b=SECOND),
        Files(a=b"!" + FIRST[1:], b=SECOND),
        Files(a=SECOND, b=SECOND),
        Files(a=NotADirectoryError(20, "Not a directory"), b=SECOND),
        Files(a=OSError(40, "loop"), b=SECOND),
    ],
)
def test_a_payload_that_its_file_does_not_have_becomes_inline(files: Files) -> None:
    inlined, entries = verified(files)
    assert inlined == 1
    assert [one.name for one in entries if isinstance(one, FileEntry)] == [b"dir", b"b"]
    assert b"".join(assemble(entries, files)) == TAR


def test_all_payloads_may_become_inline() -> None:
    inlined, entries = verified(Files())
    assert inlined == 2
    assert b"".join(assemble(entries, Files())) == TAR


def test_a_tar_that_changed_meanwhile_raises_oserror() -> None:
    with pytest.raises(OSError, match="its file 'a' differs"):
        verified(Files(b=SECOND), Tar(TAR.replace(b"first", b"FIRST")))


def test_different_contents_with_the_same_checksum_are_refused() -> None:
    """The checksum is linear, so that collisions can be made. Here the tar is changed after its lines were written."""
    with pytest.raises(InvalidLayer, match="same CRC-64") as caught:
        verified(Files(a=FIRST, b=SECOND), Tar(TAR.replace(SECOND, b"SECOND")))
    assert (caught.value.entry, caught.value.offset) == (b"b", TAR.index(SECOND))


def test_payloads_that_were_saved_become_inline_and_the_others_are_in_their_files() -> None:
    files = Files(a=SECOND, b=SECOND)
    inlined, entries = verified(files, Saved(FIRST))
    assert inlined == 1
    assert b"".join(assemble(entries, files)) == TAR
    assert verified(Files(a=FIRST, b=SECOND), Saved(SECOND)) == (0, ENTRIES)


def test_a_saved_payload_with_the_checksum_of_another_file_is_refused() -> None:
    saved = Saved()
    saved.payloads[len(SECOND), int(crc64.go_iso(SECOND))] = b"SECOND"
    with pytest.raises(InvalidLayer, match="same CRC-64"):
        verified(Files(a=FIRST, b=SECOND), saved)


def test_a_payload_that_nobody_has_raises_oserror() -> None:
    with pytest.raises(OSError, match="the file 'a' was changed while the layer was unpacked; register it from a file"):
        verified(Files(b=SECOND), Saved())
