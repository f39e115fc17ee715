"""Saved payloads are found by size and checksum, bounded in number and size, and kept apart."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import fastcrc
import pytest

from layerstore_core.base.limits import Limit, Limits
from layerstore_core.errors import InvalidLayer
from layerstore_core.streams import saved as module
from layerstore_core.streams.saved import SavedPayloads


@pytest.fixture
def saved(tmp_path: Path) -> Iterator[SavedPayloads]:
    payloads = SavedPayloads(tmp_path, None, "x.tar")
    yield payloads
    payloads.close()
    assert list(tmp_path.iterdir()) == []


def add(saved: SavedPayloads, content: bytes) -> None:
    descriptor = os.memfd_create("content")
    try:
        os.write(descriptor, content)
        os.lseek(descriptor, 0, os.SEEK_SET)
        saved.add(descriptor)
    finally:
        os.close(descriptor)


def found(saved: SavedPayloads, content: bytes) -> bytes | None:
    chunks = saved.payload(0, len(content), fastcrc.crc64.go_iso(content))
    return None if chunks is None else b"".join(chunks)


def test_payloads_are_found_in_any_order_and_more_than_once(saved: SavedPayloads) -> None:
    contents = [b"first", b"second", bytes(3 << 20), os.urandom(12 << 20), b"last"]
    for content in contents:
        add(saved, content)
    for content in contents[::-1] + contents:
        assert found(saved, content) == content
    assert found(saved, b"other") is None
    assert found(saved, b"") is None


def test_payloads_can_be_read_alternately(saved: SavedPayloads) -> None:
    one, two = os.urandom(3 << 20), os.urandom(3 << 20)
    add(saved, one)
    add(saved, two)
    readers = [saved.payload(0, 3 << 20, fastcrc.crc64.go_iso(content)) for content in (one, two)]
    assert None not in readers
    pairs = list(zip(*readers, strict=True))  # type: ignore[arg-type]
    assert [b"".join(chunks) for chunks in zip(*pairs, strict=True)] == [one, two]


def test_equal_payloads_are_kept_once(saved: SavedPayloads) -> None:
    for _ in range(5):
        add(saved, b"x" * (2 << 20))
        add(saved, b"")
    add(saved, b"y")
    assert saved._end == (2 << 20) + 1
    assert found(saved, b"y") == b"y"
    assert found(saved, b"x" * (2 << 20)) == b"x" * (2 << 20)


def test_different_payloads_with_one_checksum_are_refused(
    saved: SavedPayloads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fastcrc.crc64, "go_iso", lambda data, crc=None: 5)
    add(saved, b"one")
    add(saved, b"one")
    with pytest.raises(InvalidLayer, match="same CRC-64"):
        add(saved, b"two")


def test_their_size_and_number_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits(Limit(1000, "max_spool_size", "default"), None)
    saved = SavedPayloads(tmp_path, limits, "x.tar")
    add(saved, b"x" * 600)
    add(saved, b"y" * 400)
    with pytest.raises(InvalidLayer, match=r"1000 bytes \(setting max_spool_size.*register it from a file"):
        add(saved, b"z")
    saved.close()
    monkeypatch.setattr(module, "_MOST", 2)
    saved = SavedPayloads(tmp_path, None, "x.tar")
    for content in (b"1", b"2", b"1"):
        add(saved, content)
    with pytest.raises(InvalidLayer, match="more than 2 files of its own; register it from a file"):
        add(saved, b"3")
    saved.close()


def test_an_error_says_what_was_being_done(tmp_path: Path) -> None:
    saved = SavedPayloads(tmp_path / "absent", None, "x.tar")
    with pytest.raises(FileNotFoundError) as caught:
        add(saved, b"x" * (9 << 20))
    assert caught.value.__notes__ == ["while saving replaced files of x.tar"]
    saved.close()
