"""Sparse files in all formats: extraction gives their content with holes, and export the same bytes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from layerstore_core.errors import InvalidLayer
from layerstore_core.tar.header import HeaderError
from layerstore_core.tar.sparse import MAX_REGIONS, Pax1MapReader, check_regions, pax_0_regions, pax_version
from tests import tars
from tests.pipeline import round_trip, unpack_tar

FORMATS = ["old", "0.0", "0.1", "1.0"]
SIZE = 10 << 20
BLOCK = 64 << 10


def part(form: str, name: bytes, content: bytes, regions: tars.Regions) -> bytes:
    if form == "old":
        return tars.sparse_old_gnu(name, content, regions)
    return tars.sparse_pax(name, content, regions, form)


def content_of(size: int, regions: tars.Regions) -> bytes:
    content = bytearray(size)
    for number, (offset, length) in enumerate(regions):
        content[offset : offset + length] = bytes([1 + number % 255]) * length
    return bytes(content)


REGIONS = {
    "no data": [],
    "data at the start": [(0, BLOCK)],
    "data at the end": [(SIZE - BLOCK, BLOCK)],
    "data in the middle": [(BLOCK, 5), (5 * BLOCK, BLOCK)],
    "odd offsets": [(1, 3), (1001, 2000), (SIZE - 1, 1)],
    "many": [(number * 4 * BLOCK, 700) for number in range(40)],
    "empty regions": [(0, 0), (BLOCK, 10), (SIZE, 0)],
}


@pytest.mark.parametrize("regions", REGIONS)
@pytest.mark.parametrize("form", FORMATS)
def test_a_sparse_file_is_extracted_with_its_content_and_holes(form: str, regions: str, root: Path) -> None:
    content = content_of(SIZE, REGIONS[regions])
    tar = tars.tar(part(form, b"s", content, REGIONS[regions]), tars.entry(b"after", b"x"))
    taken = round_trip(tar, root)
    assert (root / "s").read_bytes() == content
    assert (root / "after").read_bytes() == b"x"
    assert taken.size == SIZE + 1
    if has_holes(root):
        assert (root / "s").stat().st_blocks * 512 <= sum(length + 2 * BLOCK for _, length in REGIONS[regions])


def has_holes(where: Path) -> bool:
    probe = where / "probe"
    with open(probe, "wb") as file:
        os.truncate(file.fileno(), SIZE)
    blocks = probe.stat().st_blocks
    probe.unlink()
    return blocks * 512 < SIZE


def test_the_tests_run_on_a_file_system_with_holes(root: Path) -> None:
    assert has_holes(root), "the tests run on a file system without holes: point --basetemp at another"


@pytest.mark.parametrize("form", FORMATS)
def test_an_empty_sparse_file_is_extracted(form: str, root: Path) -> None:
    round_trip(tars.tar(part(form, b"s", b"", [])), root)
    assert (root / "s").read_bytes() == b""


@pytest.mark.parametrize("form", FORMATS)
def test_a_sparse_file_of_terabytes_needs_space_for_its_data_only(form: str, root: Path) -> None:
    """The tar states the logical size; only data needs space."""
    size = b"%d" % (1 << 42)
    if form == "old":
        tar = tars.header(
            b"s",
            typeflag=b"S",
            form="gnu",
            size=1,
            fields={386: tars.number(1 << 41, 12) + tars.number(1, 12), 483: tars.number(1 << 42, 12)},
        )
        tar += tars.padded(b"x")
    elif form == "1.0":
        records = [(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.realsize", size)]
        tar = tars.pax(records) + tars.entry(b"s", tars.padded(b"1\n%d\n1\n" % (1 << 41)) + b"x")
    else:
        records = [(b"GNU.sparse.size", size), (b"GNU.sparse.numblocks", b"1")]
        if form == "0.1":
            records.append((b"GNU.sparse.map", b"%d,1" % (1 << 41)))
        else:
            records += [(b"GNU.sparse.offset", b"%d" % (1 << 41)), (b"GNU.sparse.numbytes", b"1")]
        tar = tars.pax(records) + tars.entry(b"s", b"x")
    taken = round_trip(tars.tar(tar), root)
    assert taken.size == (root / "s").stat().st_size == 1 << 42
    with open(root / "s", "rb") as file:
        file.seek((1 << 41) - 1)
        assert file.read(3) == b"\0x\0"


def test_the_name_in_a_sparse_record_ends_at_a_nul(root: Path) -> None:
    records = [(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.name", b"s\0x")]
    tar = tars.tar(tars.pax([*records, (b"GNU.sparse.realsize", b"4")]) + tars.entry(b"other", tars.padded(b"0\n")))
    round_trip(tar, root)
    assert (root / "s").read_bytes() == bytes(4)


@pytest.mark.parametrize(
    "records",
    [
        [(b"GNU.sparse.major", b"2"), (b"GNU.sparse.minor", b"0")],
        [(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"1")],
        [(b"GNU.sparse.name", b"x")],
    ],
)
def test_files_of_unknown_sparse_versions_are_extracted_as_regular_files(
    records: list[tuple[bytes, bytes]], root: Path
) -> None:
    """As with Docker; GNU tar refuses them."""
    round_trip(tars.tar(tars.pax(records) + tars.entry(b"s", b"content")), root)
    assert (root / "s").read_bytes() == b"content"


def pax10(lines: bytes, data: bytes = b"", size: bytes = b"100") -> bytes:
    records = [(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.realsize", size)]
    return tars.pax(records) + tars.entry(b"s", tars.padded(lines) + data)


def pax01(numbers: bytes, count: bytes, data: bytes = b"", size: bytes = b"100") -> bytes:
    records = [(b"GNU.sparse.size", size), (b"GNU.sparse.numblocks", count), (b"GNU.sparse.map", numbers)]
    return tars.pax(records) + tars.entry(b"s", data)


@pytest.mark.parametrize(
    "bad",
    [
        pax10(b"1\n0\n5\n", b"four"),
        pax10(b"1\n0\n3\n", b"four"),
        pax10(b"1\n99\n2\n", b"xx"),
        pax10(b"2\n5\n2\n3\n2\n", b"xxxx"),
        pax10(b"1\n-5\n4\n", b"four"),
        pax10(b"1\n5\n-4\n"),
        pax10(b"x\n"),
        pax10(b"-1\n"),
        pax10(b"%d\n" % (MAX_REGIONS + 1)),
        pax10(b"1\n0\nx\n", b"x"),
        pax10(b"3\n0\n1\n"),
        pax10(b"0\n", size=b"-5"),
        pax10(b"0\n", size=b"x"),
        pax10(b"0\n", b"data"),
        pax01(b"0,4", b"2", b"four"),
        pax01(b"0,4,5", b"1", b"four"),
        pax01(b"0,4", b"x", b"four"),
        pax01(b"0,4", b"", b"four"),
        pax01(b"0,x", b"1", b"four"),
        pax01(b"0,4", b"1", b"four", b"3"),
        pax01(b"0,4", b"1", b"four", b"-3"),
        tars.pax([(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0")]) + tars.entry(b"s"),
        tars.header(b"s", typeflag=b"S", form="gnu", fields={483: tars.base256(-1, 12)}),
        tars.header(b"s", typeflag=b"S", form="gnu", size=5, fields={483: tars.number(9, 12)}) + tars.padded(b"12345"),
        tars.header(b"s", typeflag=b"S", form="gnu", fields={386: b"x" * 24}),
        tars.header(b"s", typeflag=b"S", form="gnu", fields={482: b"\1"}),
    ],
)
def test_malformed_sparse_maps_are_refused(bad: bytes, root: Path) -> None:
    with pytest.raises(InvalidLayer) as caught:
        unpack_tar(bad if bad[482:483] == b"\1" else tars.tar(bad), root)
    assert caught.value.offset is not None
    assert list(root.iterdir()) == []


def test_sparse_versions_are_recognised_by_their_records() -> None:
    def version(**fields: str) -> str | None:
        return pax_version({f"GNU.sparse.{key}".encode(): value.encode() for key, value in fields.items()})

    assert version(major="1", minor="0") == "1.0"
    assert version(major="0", minor="0") == version(major="0", minor="1") == version(map="0,1") == "0.x"
    assert version(major="1", minor="1") is version(major="0", minor="2") is version(map="") is version() is None


def test_sparse_maps_in_records_are_read() -> None:
    assert pax_0_regions({b"GNU.sparse.map": b"0,1,5,2", b"GNU.sparse.numblocks": b"2"}) == [(0, 1), (5, 2)]
    assert pax_0_regions({b"GNU.sparse.map": b"", b"GNU.sparse.numblocks": b"0"}) == []


def test_a_sparse_map_in_several_blocks_is_read() -> None:
    regions = [(number * 1000, 10) for number in range(300)]
    text = tars.padded(b"%d\n" % len(regions) + b"".join(b"%d\n%d\n" % region for region in regions))
    reader = Pax1MapReader()
    for start in range(0, len(text), 512):
        assert not reader.complete
        reader.feed(text[start : start + 512])
    assert reader.complete
    assert reader.regions() == regions


def test_regions_that_do_not_fit_the_file_are_refused() -> None:
    check_regions([(0, 5), (5, 0), (7, 3)], 10, 8)
    for regions, size, stored in (([(0, 5)], 4, 5), ([(5, 1), (4, 1)], 9, 2), ([(0, 5)], 5, 4), ([], -1, 0)):
        with pytest.raises(HeaderError):
            check_regions(regions, size, stored)
