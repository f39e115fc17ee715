"""Sparse files in tars: GNU's old format, and its PAX formats 0.0, 0.1 and 1.0.

A map lists the data regions as `(offset, length)`. The bytes between them read as zeros.
Formats: GNU tar manual, "Storing Sparse Files". Numbers in PAX maps are decimal, although the manual says otherwise.
"""

from __future__ import annotations

from typing import Final

from layerstore_core.tar.header import HeaderError, parse_number
from layerstore_core.tar.pax import parse_decimal

#: More regions than this count as an attack on memory. In practice, a region has at least 512 bytes.
MAX_REGIONS: Final = 1 << 18

#: The largest number of blocks in a map of `MAX_REGIONS` regions: each number is a line of at most 20 digits.
_MAX_BLOCKS: Final = (2 * MAX_REGIONS + 1) * 21 // 512 + 1

Regions = list[tuple[int, int]]


def old_gnu_regions(fields: bytes) -> Regions:
    """Read the regions from the 24-byte map fields of an old GNU header, or of its extension block.

    Raises:
        HeaderError: a number is malformed.
    """
    regions = []
    for start in range(0, len(fields), 24):
        if fields[start] == 0:
            break
        regions.append((parse_number(fields[start : start + 12]), parse_number(fields[start + 12 : start + 24])))
    return regions


def pax_version(records: dict[bytes, bytes]) -> str | None:
    """Return the PAX sparse format that the records declare: `"0.x"`, `"1.0"`, or `None` for no known format."""
    major, minor = records.get(b"GNU.sparse.major", b""), records.get(b"GNU.sparse.minor", b"")
    if major == b"0" and minor in (b"0", b"1"):
        return "0.x"
    if major == b"1" and minor == b"0":
        return "1.0"
    if not major and not minor and records.get(b"GNU.sparse.map"):
        return "0.x"  # formats 0.0 and 0.1 need not declare a version
    return None


def pax_0_regions(records: dict[bytes, bytes]) -> Regions:
    """Read the map of formats 0.0 and 0.1, which is in the records.

    Raises:
        HeaderError: the map is malformed, or its length differs from the number of regions in the records.
    """
    numbers = [parse_decimal(part, "sparse map") for part in records.get(b"GNU.sparse.map", b"").split(b",") if part]
    count = parse_decimal(records.get(b"GNU.sparse.numblocks", b""), "number of sparse regions")
    if len(numbers) != 2 * count:
        raise HeaderError("the number of regions in the sparse map differs from the number in the extended header")
    return list(zip(numbers[::2], numbers[1::2], strict=True))


class Pax1MapReader:
    """A reader of the map of format 1.0, which is in whole blocks before the data, one number a line."""

    def __init__(self) -> None:
        self._blocks: list[bytes] = []
        self._lines = 0
        self._lines_needed: int | None = None

    @property
    def complete(self) -> bool:
        """Whether the last block that was fed is the last of the map."""
        return self._lines_needed is not None and self._lines >= self._lines_needed

    def feed(self, block: bytes) -> None:
        """Add the next block.

        Raises:
            HeaderError: the map does not begin with a number, claims too many regions, or does not end.
        """
        if len(self._blocks) == _MAX_BLOCKS:
            raise HeaderError("the sparse map is longer than its number of regions allows")
        self._blocks.append(block)
        self._lines += block.count(b"\n")
        if self._lines_needed is None:
            count = parse_decimal(block.partition(b"\n")[0], "number of sparse regions")
            if not 0 <= count <= MAX_REGIONS:
                raise HeaderError(f"the sparse map claims {count} regions; at most {MAX_REGIONS} are accepted")
            self._lines_needed = 2 * count + 1

    def regions(self) -> Regions:
        """Return the map, once it is complete.

        Raises:
            HeaderError: a line is not a number.
        """
        lines = b"".join(self._blocks).split(b"\n")[1 : self._lines_needed]
        numbers = [parse_decimal(line, "sparse map") for line in lines]
        return list(zip(numbers[::2], numbers[1::2], strict=True))


def check_regions(regions: Regions, size: int, stored_size: int) -> None:
    """Check that a file can be written according to a map.

    Args:
        regions: the map.
        size: the file's logical size in bytes.
        stored_size: the number of bytes of data that the tar has for the file.

    Raises:
        HeaderError: regions overlap or exceed the file, or the map needs more or less data than the tar has.
    """
    if size < 0:
        raise HeaderError("the size of the sparse file is negative")
    end = total = 0
    for offset, length in regions:
        if offset < end or length < 0 or offset + length > size:
            raise HeaderError("the sparse map is not in order, or exceeds the file")
        end = offset + length
        total += length
    if total != stored_size:
        raise HeaderError(f"the sparse map needs {total} bytes of data, but the entry has {stored_size}")
