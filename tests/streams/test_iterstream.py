"""A binary stream over an iterator of chunks."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerstore_core.streams.iterstream import IterStream


@given(st.lists(st.binary(max_size=20)), st.lists(st.integers(-1, 30)))
def test_reads_of_any_sizes_return_all_bytes_of_any_chunks(chunks: list[bytes], sizes: list[int]) -> None:
    stream = IterStream(iter(chunks))
    found = b"".join(stream.read(size) for size in sizes)
    assert found + stream.read() == b"".join(chunks)
    assert stream.read() == stream.read(5) == b""
    stream.close()


def test_a_read_is_empty_only_at_the_end() -> None:
    stream = IterStream(iter([b"", b"ab", b"", b"", b"c"]))
    assert [stream.read(1), stream.read(9), stream.read(9), stream.read(9)] == [b"a", b"b", b"c", b""]


def test_readinto_fills_buffers_of_any_type() -> None:
    stream = IterStream(iter([b"abc", b"d"]))
    assert stream.readable()
    buffer = bytearray(2)
    assert [stream.readinto(buffer), bytes(buffer)] == [2, b"ab"]
    assert [stream.readinto(memoryview(buffer)), buffer[:1]] == [1, b"c"]
    assert io.BufferedReader(stream).read(5) == b"d"


def test_a_read_of_zero_bytes_consumes_nothing() -> None:
    stream = IterStream(iter([b"abc"]))
    assert stream.read(0) == b""
    assert stream.read(None) == b"abc"


@pytest.mark.parametrize("reads", [0, 1, 3])
def test_closing_the_stream_ends_its_generator_and_calls_on_close_once(reads: int) -> None:
    ended: list[str] = []

    def chunks() -> Iterator[bytes]:
        try:
            yield b"a"
            yield b"b"
        finally:
            ended.append("generator")

    stream = IterStream(chunks(), lambda: ended.append("on_close"))
    for _ in range(reads):
        stream.read(1)
    stream.close()
    stream.close()
    assert ended == (["generator"] if reads else []) + ["on_close"]
    for use in (stream.read, lambda: stream.read(1), lambda: stream.readinto(bytearray(1))):
        with pytest.raises(ValueError, match="closed"):
            use()


def test_on_close_is_called_though_the_generator_fails() -> None:
    called: list[int] = []

    def chunks() -> Iterator[bytes]:
        try:
            yield b"a"
        finally:
            raise OSError("while ending")

    stream = IterStream(chunks(), lambda: called.append(1))
    stream.read(1)
    with pytest.raises(OSError, match="while ending"):
        stream.close()
    assert stream.closed
    assert called == [1]


def test_errors_of_the_iterator_are_not_wrapped() -> None:
    def chunks() -> Iterator[bytes]:
        yield b"a"
        raise OSError("no more")

    with IterStream(chunks()) as stream:
        assert stream.read(5) == b"a"
        with pytest.raises(OSError, match="no more"):
            stream.read(5)
