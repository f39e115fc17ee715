"""Chunks are processed in a worker thread in order, few are queued, and its errors are raised again."""

from __future__ import annotations

import gc
import hashlib
import threading
import weakref

import pytest

from layerstore_core.streams.hasher import QUEUE, Hasher, WorkerThread


def test_chunks_are_processed_in_order_in_one_other_thread() -> None:
    seen: list[tuple[bytes, str]] = []
    with WorkerThread(
        lambda chunk: seen.append((bytes(chunk), threading.current_thread().name)), "layerstore-x"
    ) as worker:
        for number in range(100):
            worker.put(b"%d" % number)
        worker.finish()
    assert seen == [(b"%d" % number, "layerstore-x") for number in range(100)]


def test_the_number_of_queued_chunks_is_bounded() -> None:
    may_go = threading.Semaphore(0)
    done: list[int] = []

    def work(chunk: bytes | memoryview) -> None:
        may_go.acquire()
        done.append(chunk[0])

    with WorkerThread(work, "layerstore-x") as worker:
        for number in range(50):
            if number >= QUEUE:
                may_go.release()
            worker.put(bytes([number]))
            assert len(done) >= number + 1 - QUEUE
        for _ in range(QUEUE):
            may_go.release()
        worker.finish()
    assert done == list(range(50))


@pytest.mark.parametrize("chunks", [1, 3, 100])
def test_an_error_in_the_thread_is_raised_in_the_thread_that_puts_chunks(chunks: int) -> None:
    seen: list[bytes] = []

    def work(chunk: bytes | memoryview) -> None:
        seen.append(bytes(chunk))
        raise OSError(28, "No space left on device")

    def run() -> None:
        with WorkerThread(work, "layerstore-x") as worker:
            for number in range(chunks):
                worker.put(b"%d" % number)
            worker.finish()

    with pytest.raises(OSError, match="No space"):
        run()
    assert seen == [b"0"]


def test_the_worker_thread_ends_with_the_block() -> None:
    with WorkerThread(lambda chunk: None, "layerstore-x") as worker:
        worker.put(b"x")
        assert [thread for thread in threading.enumerate() if thread.name == "layerstore-x"]
    assert not [thread for thread in threading.enumerate() if thread.name == "layerstore-x"]


def test_the_hasher_returns_the_digest_of_all_chunks() -> None:
    with Hasher() as hasher:
        for chunk in (b"a", memoryview(b"bc"), b""):
            hasher.update(chunk)
        assert hasher.finish() == hashlib.sha256(b"abc").hexdigest()
    with Hasher() as hasher:
        assert hasher.finish() == hashlib.sha256().hexdigest()


def test_an_error_in_the_thread_keeps_no_chunk_after_it_is_deleted() -> None:
    class Chunk(bytearray):
        pass

    def refuse(_: bytes | memoryview) -> None:
        raise OSError(28, "No space left on device")

    def fail() -> weakref.ref[Chunk]:
        chunk = Chunk(b"x")
        with WorkerThread(refuse, "layerstore-x") as worker:
            worker.put(memoryview(chunk))
            with pytest.raises(OSError, match="space"):
                worker.finish()
        return weakref.ref(chunk)

    gc.collect()
    gc.disable()
    try:
        assert fail()() is None
    finally:
        gc.enable()
