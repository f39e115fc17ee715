"""Decompression of all formats: concatenated, padded and damaged streams."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerstore_core.errors import InvalidLayer
from layerstore_core.streams.compression import CHUNK, decompress, detect

try:
    from compression import zstd  # type: ignore[import-not-found,unused-ignore]
except ImportError:
    from backports import zstd

PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, 6, mtime=0),
    "zstd": lambda data: zstd.compress(data, 3),
    "xz": lambda data: lzma.compress(data, preset=1),
    "bzip2": lambda data: bz2.compress(data, 9),
}
DATA = bytes(range(256)) * 4000 + b"end"
SKIPPABLE = b"\x5a\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"\0junk"[:5]


def unpack(packed: bytes, name: str, size: int = 1 << 16) -> bytes:
    chunks = iter([packed[start : start + size] for start in range(0, len(packed), size)])
    return b"".join(iter(decompress(lambda: next(chunks, b""), name), b""))


@pytest.fixture(params=PACK)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_compressed_streams_are_detected(name: str) -> None:
    assert detect(PACK[name](b"x")) == name


@pytest.mark.parametrize(
    "start", [b"", b"BZ", b"BZhello", b"\x1f\x8b\x07", b"\x28\xb5\x2f", b"etc/hosts\0", b"\x5a\x2a\x4d"]
)
def test_other_beginnings_are_not_detected_as_compressed(start: bytes) -> None:
    assert detect(start) is None


@pytest.mark.parametrize("size", [1, 7, 4096, 1 << 20])
def test_decompression_of_chunks_of_any_size(name: str, size: int) -> None:
    data = DATA[: 3000 if size < 10 else None]
    assert unpack(PACK[name](data), name, size) == data


@pytest.mark.parametrize("length", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 77])
def test_decompression_to_about_the_size_of_a_chunk(name: str, length: int) -> None:
    data = (b"abc" * (length // 3 + 1))[:length]
    assert unpack(PACK[name](data), name) == data


@pytest.mark.parametrize("size", [1, 100, 1 << 20])
def test_concatenated_streams_are_decompressed_as_one(name: str, size: int) -> None:
    packed = b"".join(map(PACK[name], (b"one", b"", b"two", b"three" * 100)))
    assert unpack(packed, name, size) == b"onetwo" + b"three" * 100


@pytest.mark.parametrize("size", [1, 100, 1 << 20])
def test_zeros_after_a_stream_are_padding(name: str, size: int) -> None:
    assert unpack(PACK[name](b"data") + bytes(1000), name, size) == b"data"
    assert unpack(PACK[name](b"one") + bytes(8) + PACK[name](b"two") + bytes(4), name, size) == b"onetwo"


@pytest.mark.parametrize("junk", [b"junk behind it", b"x", bytes(100) + b"x", b"\x1f\x8b", b"BZh", b"\x28\xb5\x2f\xfe"])
def test_other_bytes_after_a_stream_are_refused(name: str, junk: bytes) -> None:
    with pytest.raises(InvalidLayer, match=f"the {name} stream is damaged"):
        unpack(PACK[name](b"data") + junk, name)


def test_a_stream_of_another_compression_after_a_stream_is_refused() -> None:
    with pytest.raises(InvalidLayer, match="belong to no stream"):
        unpack(PACK["gzip"](b"data") + PACK["xz"](b"data"), "gzip")


def test_a_truncated_stream_is_refused_wherever_it_ends(name: str) -> None:
    packed = PACK[name](DATA[:2000])
    for cut in range(6, len(packed)):
        with pytest.raises(InvalidLayer, match=r"cut off|damaged"):
            unpack(packed[:cut], name)


@given(data=st.data())
def test_flipped_bits_are_refused_or_change_no_content(data: st.DataObject) -> None:
    """Some bits do not affect the content: a time, an operating system."""
    name = data.draw(st.sampled_from(list(PACK)))
    packed = bytearray(PACK[name](DATA[:2000]))
    at = data.draw(st.integers(0, len(packed) * 8 - 1))
    packed[at // 8] ^= 1 << at % 8
    if detect(bytes(packed)) != name:
        return
    try:
        found = unpack(bytes(packed), name)
    except InvalidLayer:
        return
    # zstd's command line adds a checksum. Its library does not, so only the length is checked there.
    assert found == DATA[:2000] or name == "zstd"


def test_the_error_of_a_damaged_stream_has_its_position() -> None:
    packed = bytearray(PACK["gzip"](DATA))
    packed[-6] ^= 1
    with pytest.raises(InvalidLayer) as caught:
        unpack(bytes(packed), "gzip")
    assert caught.value.offset is not None
    assert caught.value.offset > len(DATA) - 2 * CHUNK


@pytest.mark.parametrize("where", ["before", "between", "after"])
def test_skippable_frames_of_zstd_are_skipped(where: str) -> None:
    one, two = PACK["zstd"](b"one"), PACK["zstd"](b"two")
    packed = {"before": SKIPPABLE + one + two, "between": one + SKIPPABLE + two, "after": one + two + SKIPPABLE}[where]
    assert detect(packed) == "zstd"
    assert unpack(packed, "zstd") == b"onetwo"


def test_zstd_windows_that_need_too_much_memory_are_refused() -> None:
    parameter = zstd.CompressionParameter
    packed = {}
    for log in (27, 28):
        compressor = zstd.ZstdCompressor(
            options={parameter.window_log: log, parameter.enable_long_distance_matching: 1}
        )
        packed[log] = compressor.compress(b"x" * 100000) + compressor.flush()
    assert len(unpack(packed[27], "zstd")) == 100000
    with pytest.raises(InvalidLayer):
        unpack(packed[28], "zstd")


def test_a_decompression_bomb_is_decompressed_in_pieces(name: str) -> None:
    packed = PACK[name](bytes(64 << 20))
    chunks = iter([packed])
    read = decompress(lambda: next(chunks, b""), name)
    tracemalloc.start()
    try:
        total = 0
        while chunk := read():
            assert len(chunk) <= CHUNK
            total += len(chunk)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total == 64 << 20
    assert peak < 24 << 20
