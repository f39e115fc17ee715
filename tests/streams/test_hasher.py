"""Work in a thread beside: in order, bounded, and its errors are told."""

from __future__ import annotations

import gc
import hashlib
import threading
import weakref

import pytest

from layerstore_core.streams.hasher import QUEUE, Hasher, WorkerThread


def test_chunks_come_in_order_in_one_other_thread() -> None:
    seen: list[tuple[bytes, str]] = []
    with WorkerThread(
        lambda chunk: seen.append((bytes(chunk), threading.current_thread().name)), "layerstore-x"
    ) as beside:
        for number in range(100):
            beside.put(b"%d" % number)
        beside.finish()
    assert seen == [(b"%d" % number, "layerstore-x") for number in range(100)]


def test_what_is_not_done_yet_is_bounded() -> None:
    may_go = threading.Semaphore(0)
    done: list[int] = []

    def work(chunk: bytes | memoryview) -> None:
        may_go.acquire()
        done.append(chunk[0])

    with WorkerThread(work, "layerstore-x") as beside:
        for number in range(50):
            if number >= QUEUE:
                may_go.release()
            beside.put(bytes([number]))
            assert len(done) >= number + 1 - QUEUE
        for _ in range(QUEUE):
            may_go.release()
        beside.finish()
    assert done == list(range(50))


@pytest.mark.parametrize("chunks", [1, 3, 100])
def test_an_error_is_raised_where_the_chunks_come_from(chunks: int) -> None:
    seen: list[bytes] = []

    def work(chunk: bytes | memoryview) -> None:
        seen.append(bytes(chunk))
        raise OSError(28, "No space left on device")

    def run() -> None:
        with WorkerThread(work, "layerstore-x") as beside:
            for number in range(chunks):
                beside.put(b"%d" % number)
            beside.finish()

    with pytest.raises(OSError, match="No space"):
        run()
    assert seen == [b"0"]


def test_the_thread_ends_with_the_block() -> None:
    with WorkerThread(lambda chunk: None, "layerstore-x") as beside:
        beside.put(b"x")
        assert [thread for thread in threading.enumerate() if thread.name == "layerstore-x"]
    assert not [thread for thread in threading.enumerate() if thread.name == "layerstore-x"]


def test_the_digest() -> None:
    with Hasher() as hasher:
        for chunk in (b"a", memoryview(b"bc"), b""):
            hasher.update(chunk)
        assert hasher.finish() == hashlib.sha256(b"abc").hexdigest()
    with Hasher() as hasher:
        assert hasher.finish() == hashlib.sha256().hexdigest()


def test_an_error_keeps_no_chunk_once_it_is_gone() -> None:
    class Chunk(bytearray):
        pass

    def refuse(_: bytes | memoryview) -> None:
        raise OSError(28, "No space left on device")

    def fail() -> weakref.ref[Chunk]:
        chunk = Chunk(b"x")
        with WorkerThread(refuse, "layerstore-x") as beside:
            beside.put(memoryview(chunk))
            with pytest.raises(OSError, match="space"):
                beside.finish()
        return weakref.ref(chunk)

    gc.collect()
    gc.disable()
    try:
        assert fail()() is None
    finally:
        gc.enable()
