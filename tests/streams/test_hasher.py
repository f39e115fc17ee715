"""The hasher gives the digest of all chunks, raises errors of hashing, and holds little memory."""

from __future__ import annotations

import hashlib
import weakref

import pytest

from layerstore_core.streams import hasher as module
from layerstore_core.streams.hasher import QUEUE, Hasher


def test_the_hasher_returns_the_digest_of_all_chunks() -> None:
    with Hasher() as hasher:
        for chunk in (b"a", b"", memoryview(b"bc")):
            hasher.update(chunk)
        assert hasher.finish() == hashlib.sha256(b"abc").hexdigest()
    with Hasher() as hasher:
        assert hasher.finish() == hashlib.sha256().hexdigest()


def test_an_error_of_the_hash_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def update(self, chunk: bytes) -> None:
            raise MemoryError("no room")

    monkeypatch.setattr(module.hashlib, "sha256", Broken)
    with Hasher() as hasher:
        hasher.update(b"x")
        with pytest.raises(MemoryError, match="no room"):
            hasher.finish()


def test_no_more_than_the_queued_chunks_are_kept() -> None:
    class Chunk(bytearray):
        pass

    known = []
    with Hasher() as hasher:
        for _ in range(3 * QUEUE):
            chunk = Chunk(1 << 16)
            known.append(weakref.ref(chunk))
            hasher.update(chunk)  # type: ignore[arg-type]
            del chunk
            assert sum(one() is not None for one in known) <= QUEUE
