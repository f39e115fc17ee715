"""Tars made byte by byte: most tests need tars that a tar library would refuse to write."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

BLOCK = 512
END = bytes(2 * BLOCK)

Records = Iterable[tuple[bytes, bytes]]
Regions = Sequence[tuple[int, int]]

_MAGIC = {"v7": bytes(8), "ustar": b"ustar\x0000", "gnu": b"ustar  \0", "star": b"ustar\x0000"}


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


def number(value: int, width: int) -> bytes:
    """Encode a number: octal if it fits, else base-256."""
    digits = b"%0*o\0" % (width - 1, value) if value >= 0 else b""
    if digits and len(digits) <= width:
        return digits
    return base256(value, width)


def base256(value: int, width: int) -> bytes:
    encoded = bytearray((value % (1 << (8 * width))).to_bytes(width, "big"))
    if value >= 0:
        encoded[0] |= 0x80
    return bytes(encoded)


def with_checksum(block: bytes, *, signed: bool = False) -> bytes:
    blank = block[:148] + b" " * 8 + block[156:]
    total = sum(blank) - (256 * sum(byte > 127 for byte in blank) if signed else 0)
    return blank[:148] + b"%06o\0 " % total + blank[156:]


def header(
    name: bytes,
    *,
    typeflag: bytes = b"0",
    mode: int = 0o644,
    uid: int = 0,
    gid: int = 0,
    size: int = 0,
    mtime: int = 0,
    linkname: bytes = b"",
    form: str = "ustar",
    prefix: bytes = b"",
    device: tuple[int, int] = (0, 0),
    fields: dict[int, bytes] | None = None,
) -> bytes:
    """Make a header block; `fields` has raw bytes by offset, written last before the checksum."""
    block = bytearray(BLOCK)

    def put(offset: int, data: bytes) -> None:
        block[offset : offset + len(data)] = data

    assert len(name) <= 100, "this needs `long_name` or `pax`"
    assert len(linkname) <= 100, "this needs `long_name` with `K`, or `pax`"
    put(0, name)
    put(100, number(mode, 8))
    put(108, number(uid, 8))
    put(116, number(gid, 8))
    put(124, number(size, 12))
    put(136, number(mtime, 12))
    put(156, typeflag)
    put(157, linkname)
    put(257, _MAGIC[form])
    if form != "v7":
        put(329, number(device[0], 8))
        put(337, number(device[1], 8))
        put(345, prefix)
    if form == "star":
        put(508, b"tar\0")
    for offset, data in (fields or {}).items():
        put(offset, data)
    return with_checksum(bytes(block))


def entry(name: bytes, data: bytes = b"", *, linkname: bytes = b"", **options: object) -> bytes:
    """Make a header and the padded content, after GNU's long-name headers for names that do not fit."""
    before = long_name(name) if len(name) > 100 else b""
    before += long_name(linkname, b"K") if len(linkname) > 100 else b""
    options.setdefault("size", len(data))
    return before + header(name[:100], linkname=linkname[:100], **options) + padded(data)  # type: ignore[arg-type]


def directory(name: bytes, **options: object) -> bytes:
    return entry(name, typeflag=b"5", **{"mode": 0o755, **options})


def symlink(name: bytes, target: bytes, **options: object) -> bytes:
    return entry(name, typeflag=b"2", linkname=target, **{"mode": 0o777, **options})


def hard_link(name: bytes, target: bytes, data: bytes = b"", **options: object) -> bytes:
    return entry(name, data, typeflag=b"1", linkname=target, **options)


def long_name(name: bytes, typeflag: bytes = b"L") -> bytes:
    """Make GNU's header for a name (`L`) or link target (`K`) that does not fit its field."""
    return entry(b"././@LongLink", name + b"\0", typeflag=typeflag, form="gnu")


def record(key: bytes, value: bytes) -> bytes:
    """Make a PAX record, whose length counts its own digits."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    if len(str(length)) + rest != length:
        length = rest + len(str(length))
    return b"%d %b=%b\n" % (length, key, value)


def pax(records: Records, *, typeflag: bytes = b"x", name: bytes = b"PaxHeaders/x") -> bytes:
    return entry(name, b"".join(record(key, value) for key, value in records), typeflag=typeflag)


def sparse_data(content: bytes, regions: Regions) -> bytes:
    """Return the data that a tar has of a sparse file's content."""
    return b"".join(content[offset : offset + length] for offset, length in regions)


def sparse_old_gnu(name: bytes, content: bytes, regions: Regions, **options: object) -> bytes:
    """Make a sparse file in GNU's old format: four regions in the header, 21 in each extension block."""
    data = sparse_data(content, regions)
    fields = [number(offset, 12) + number(length, 12) for offset, length in regions]
    first, rest = fields[:4], fields[4:]
    extensions = b""
    while rest:
        row, rest = rest[:21], rest[21:]
        extensions += b"".join(row).ljust(504, b"\0") + bytes([bool(rest)]) + bytes(7)
    raw = {386: b"".join(first), 482: bytes([bool(extensions)]), 483: number(len(content), 12)}
    block = header(name, typeflag=b"S", form="gnu", size=len(data), fields=raw, **options)  # type: ignore[arg-type]
    return block + extensions + padded(data)


def sparse_pax(name: bytes, content: bytes, regions: Regions, version: str, **options: object) -> bytes:
    """Make a sparse file in GNU's PAX format "0.0", "0.1" or "1.0"."""
    if not regions and version != "1.0":
        regions = [(len(content), 0)]  # as from GNU tar: without a map the file would not count as sparse
    data = sparse_data(content, regions)
    size = b"%d" % len(content)
    count = b"%d" % len(regions)
    if version == "0.0":
        pairs = [
            pair
            for offset, length in regions
            for pair in ((b"GNU.sparse.offset", b"%d" % offset), (b"GNU.sparse.numbytes", b"%d" % length))
        ]
        records = [(b"GNU.sparse.size", size), (b"GNU.sparse.numblocks", count), *pairs]
    elif version == "0.1":
        numbers = b",".join(b"%d,%d" % region for region in regions)
        records = [
            (b"GNU.sparse.size", size),
            (b"GNU.sparse.numblocks", count),
            (b"GNU.sparse.name", name),
            (b"GNU.sparse.map", numbers),
        ]
    else:
        lines = count + b"\n" + b"".join(b"%d\n%d\n" % region for region in regions)
        data = padded(lines) + data
        records = [
            (b"GNU.sparse.major", b"1"),
            (b"GNU.sparse.minor", b"0"),
            (b"GNU.sparse.name", name),
            (b"GNU.sparse.realsize", size),
        ]
    stored_name = name if version == "0.0" else b"GNUSparseFile.0/" + name
    return pax(records) + entry(stored_name, data, **options)


def tar(*parts: bytes, end: bytes = END) -> bytes:
    return b"".join(parts) + end
