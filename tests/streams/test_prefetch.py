"""Reading and decompressing ahead give the same bytes and errors as doing it at once."""

from __future__ import annotations

import contextlib
import gzip
import os
import random
import threading
import weakref
from collections.abc import Callable, Iterator

import pytest

from layerstore_core.base.threads import Lane, rest, submit
from layerstore_core.errors import InvalidLayer
from layerstore_core.streams.compression import CHUNK, decompress
from layerstore_core.streams.prefetch import DecompressAhead, ReadAhead

NOISE = random.Random(1).randbytes(9 * CHUNK + 17)


@pytest.fixture(autouse=True)
def no_thread_has_work() -> Iterator[None]:
    rest()
    before = set(threading.enumerate())
    yield
    rest()
    assert set(threading.enumerate()) == before


def chunks_of(data: bytes, size: int = CHUNK) -> Callable[[], bytes]:
    pieces = iter([data[start : start + size] for start in range(0, len(data), size)])
    return lambda: next(pieces, b"")


def all_of(ahead: DecompressAhead | ReadAhead) -> bytes:
    try:
        return b"".join(iter(ahead.read_chunk, b""))
    finally:
        ahead.stop()


def until_damage(read: Callable[[], bytes]) -> list[bytes]:
    found = []
    with contextlib.suppress(InvalidLayer):
        while len(found) < 100:
            found.append(read())
    return found


@pytest.mark.parametrize("size", [1000, 100_000, CHUNK, 1 << 30])
@pytest.mark.parametrize("data", [b"", b"x", NOISE, bytes(30 * CHUNK)], ids=["empty", "byte", "noise", "zeros"])
def test_decompressing_ahead_gives_the_same_bytes(data: bytes, size: int) -> None:
    packed = gzip.compress(data[: len(data) // 2], 1) + gzip.compress(data[len(data) // 2 :], 1) + bytes(1000)
    assert all_of(DecompressAhead(chunks_of(packed, size), "gzip")) == data


def test_the_end_and_an_error_of_decompressing_ahead_are_repeated_at_each_call() -> None:
    ahead = DecompressAhead(chunks_of(gzip.compress(b"data")), "gzip")
    assert [ahead.read_chunk() for _ in range(3)] == [b"data", b"", b""]
    ahead.stop()

    ahead = DecompressAhead(chunks_of(gzip.compress(NOISE)[:-1]), "gzip")
    with pytest.raises(InvalidLayer, match="it is cut off") as found:
        all_of(ahead)
    with pytest.raises(InvalidLayer) as again:
        ahead.read_chunk()
    assert again.value is found.value
    assert found.value.offset == len(NOISE)


def test_decompressing_a_damaged_stream_ahead_gives_the_bytes_before_the_damage() -> None:
    packed = bytearray(gzip.compress(NOISE, 1))
    packed[-6] ^= 1  # the checksum
    ahead = DecompressAhead(chunks_of(packed), "gzip")
    plain, found = until_damage(decompress(chunks_of(packed), "gzip")), until_damage(ahead.read_chunk)
    ahead.stop()
    assert found == plain
    assert 5 < len(found) < 20


@pytest.mark.parametrize("number", [0, 1, 5])
def test_an_error_of_the_compressed_source_is_raised_unchanged(number: int) -> None:
    failure = OSError(5, "the disk is gone")
    good = chunks_of(gzip.compress(NOISE))
    count = 0

    def read() -> bytes:
        nonlocal count
        count += 1
        if count > number:
            raise failure
        return good()

    ahead = DecompressAhead(read, "gzip")
    for _ in range(2):
        with pytest.raises(OSError, match="gone") as found:
            all_of(ahead)
        assert found.value is failure
    assert count == number + 1, "nothing was read after the error"


def test_the_compressed_source_is_read_in_the_callers_thread_and_not_far_ahead() -> None:
    callers = []
    packed = chunks_of(gzip.compress(NOISE, 0))

    def read() -> bytes:
        callers.append(threading.get_ident())
        return packed()

    ahead = DecompressAhead(read, "gzip")
    for taken in range(1, 5):
        ahead.read_chunk()
        assert len(callers) <= taken + 3
    ahead.stop()
    assert set(callers) == {threading.get_ident()}


@pytest.mark.parametrize("taken", [0, 1, 3])
def test_decompressing_ahead_is_bounded_and_stops(taken: int) -> None:
    bomb = gzip.compress(bytes(1 << 26), 1)
    ahead = DecompressAhead(chunks_of(bomb), "gzip")
    for _ in range(taken):
        ahead.read_chunk()
    produced = ahead._work.outputs.qsize  # bounded, though all of the input has been read
    assert produced() <= 4
    ahead.stop()
    ahead.stop()


def test_reading_ahead_gives_the_same_bytes_and_repeats_the_end() -> None:
    ahead = ReadAhead(chunks_of(NOISE))
    assert all_of(ahead) == NOISE
    assert ahead.read_chunk() == b""


@pytest.mark.parametrize("good", [0, 1, 5])
def test_an_error_of_reading_ahead_comes_after_the_bytes_before_it_and_is_repeated(good: int) -> None:
    pieces = [b"x"] * good

    def read() -> bytes:
        if not pieces:
            raise OSError(5, "Input/output error")
        return pieces.pop()

    ahead = ReadAhead(read)
    assert [ahead.read_chunk() for _ in range(good)] == [b"x"] * good
    for _ in range(2):
        with pytest.raises(OSError, match="Input/output error"):
            ahead.read_chunk()
    ahead.stop()


@pytest.mark.parametrize("taken", [0, 1, 3])
def test_reading_ahead_is_bounded_and_stops(taken: int) -> None:
    read = 0

    def endless() -> bytes:
        nonlocal read
        read += 1
        return b"x"

    ahead = ReadAhead(endless)
    for _ in range(taken):
        ahead.read_chunk()
    ahead.stop()
    ahead.stop()
    assert read <= taken + 2


def test_a_source_that_waits_holds_no_thread_of_the_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    rest()
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0})
    packed = chunks_of(gzip.compress(NOISE, 1), 3 * CHUNK)
    answers: list[int] = []

    def read() -> bytes:
        answers.append(submit(lambda: 5).result())  # it needs the only thread of the pool
        return packed()

    ahead = DecompressAhead(read, "gzip")
    assert all_of(ahead) == NOISE
    assert set(answers) == {5}


def test_readers_that_nobody_reads_any_more_hold_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    rest()
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0})
    packed = gzip.compress(bytes(20 * CHUNK), 1)
    abandoned = [DecompressAhead(chunks_of(packed), "gzip") for _ in range(5)]
    for ahead in abandoned:
        ahead.read_chunk()
    files = [ReadAhead(chunks_of(NOISE)) for _ in range(5)]
    with Lane("other") as lane:
        lane.put(lambda: None)
        lane.drain()
    known = [weakref.ref(one) for one in (*abandoned, *files)]
    del ahead, abandoned, files
    assert [one() for one in known] == [None] * 10


def test_nothing_is_read_after_the_end_of_the_source() -> None:
    pieces = [gzip.compress(b"data"), b""]
    ahead = DecompressAhead(lambda: pieces.pop(0), "gzip")
    assert all_of(ahead) == b"data"
    assert not pieces
