"""Files of blobs that are being received: ranges, locks, and tables that cannot be true."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerstore_core.errors import BadRecord
from layerstore_core.images.remote.receive.partial_file import MAX_RANGES, PartialFile, read_table
from layerstore_core.locking.file_locks import is_locked

SIZE = 400


def opened(path: Path, size: int = SIZE) -> PartialFile:
    file = PartialFile(path, size)
    assert file.try_lock()
    return file


RANGES = st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)).filter(lambda one: one[0] < one[1])


@given(st.lists(RANGES, max_size=40))
def test_ranges_are_those_that_were_added(
    tmp_path_factory: pytest.TempPathFactory, added: list[tuple[int, int]]
) -> None:
    path = tmp_path_factory.mktemp("file") / "blob"
    there = [False] * SIZE
    content = bytes(range(200)) * 2
    file = opened(path)
    for start, end in added:
        file.write_at(start, content[start:end])
        file.add(start, end)
        there[start:end] = [True] * (end - start)
    for again in (file, None):
        if again is None:
            file.close()
            again = opened(path)
        assert [any(start <= at < end for start, end in again.ranges) for at in range(SIZE)] == there
        assert [any(start <= at < end for start, end in again.gaps()) for at in range(SIZE)] == [not x for x in there]
        assert again.received == sum(there)
        assert again.complete == all(there)
        for at in range(SIZE):
            end = again.end_of(at)
            assert all(there[at:end]) and (end in (SIZE, at) or not there[end])
            if end > at:
                assert again.read_at(at, end - at) == content[at:end]
        again.close()


def test_too_many_ranges_are_not_recorded(tmp_path: Path) -> None:
    file = opened(tmp_path / "blob", 1000)
    for start in range(0, 1000, 10):
        file.add(start, start + 1)
    assert len(file.ranges) == MAX_RANGES
    file.add(0, 1000)
    assert file.complete
    file.close()


def test_one_file_is_locked_once(tmp_path: Path) -> None:
    first, second = opened(tmp_path / "blob"), PartialFile(tmp_path / "blob", SIZE)
    assert not second.try_lock()
    first.add(0, 100)
    first.close()
    assert second.try_lock()
    assert second.ranges == [(0, 100)]
    with open(second.path, "rb") as file:
        assert is_locked(file.fileno())
        second.close()
        assert not is_locked(file.fileno())


def test_a_complete_file_can_be_used_after_its_removal(tmp_path: Path) -> None:
    first, second = opened(tmp_path / "blob"), PartialFile(tmp_path / "blob", SIZE)
    assert not second.try_lock()
    first.write_at(0, b"x" * SIZE)
    first.add(0, SIZE)
    first.remove()
    assert second.try_lock()
    assert second.complete
    assert second.read_at(0, SIZE) == b"x" * SIZE
    second.remove()
    assert not second.path.exists()


def test_a_complete_file_is_for_all_who_read(tmp_path: Path) -> None:
    first, second = opened(tmp_path / "blob"), PartialFile(tmp_path / "blob", SIZE)
    assert not second.try_lock()
    first.write_at(0, b"x" * SIZE)
    first.add(0, SIZE)
    third = opened(tmp_path / "blob")
    assert second.try_lock()
    assert second.complete
    assert third.complete
    for file in (first, second, third):
        assert file.read_at(SIZE - 1, 1) == b"x"
        file.remove()
    assert not first.path.exists()


def test_an_incomplete_file_that_was_removed_is_begun_anew(tmp_path: Path) -> None:
    first, second = opened(tmp_path / "blob"), PartialFile(tmp_path / "blob", SIZE)
    assert not second.try_lock()
    first.add(0, 100)
    first.remove()
    assert second.try_lock()
    assert (second.ranges, second.path.exists()) == ([], True)
    second.close()


def test_removal_leaves_the_file_of_another_one(tmp_path: Path) -> None:
    first = opened(tmp_path / "blob")
    first.path.unlink()
    second = opened(tmp_path / "blob")
    first.remove()
    assert second.path.exists()
    second.close()


def table(*ranges: tuple[int, int], count: int | None = None, magic: bytes = b"LSRANGES") -> bytes:
    data = b"".join(struct.pack("<QQ", *one) for one in ranges)
    return struct.pack("<8sII", magic, len(ranges) if count is None else count, zlib.crc32(data)) + data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"LSRANGES",
        table((0, 10), magic=b"LSRANGEX"),
        table((0, 10))[:-1],
        table((0, 10), count=2),
        table((0, 10), count=1 << 31),
        table((10, 0)),
        table((0, SIZE + 1)),
        table((0, 10), (5, 20)),
        table((20, 30), (0, 10)),
        table((0, 10))[:-8] + b"\xff" * 8,
    ],
)
def test_a_table_that_cannot_be_true_counts_as_none(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "blob"
    path.write_bytes(bytes(SIZE) + data)
    with open(path, "rb") as raw:
        assert read_table(raw.fileno(), SIZE) is None
    file = opened(path)
    assert file.gaps() == [(0, SIZE)]
    file.close()


@given(st.binary(max_size=100))
def test_random_bytes_are_no_table(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("file") / "blob"
    path.write_bytes(bytes(SIZE) + data)
    with open(path, "rb") as raw:
        assert read_table(raw.fileno(), SIZE) is None


def test_a_manifest_with_another_size_finds_no_table(tmp_path: Path) -> None:
    file = opened(tmp_path / "blob")
    file.add(0, SIZE)
    file.close()
    other = opened(tmp_path / "blob", SIZE + 1)
    assert other.ranges == []
    other.close()


def test_an_empty_blob_is_complete(tmp_path: Path) -> None:
    file = opened(tmp_path / "blob", 0)
    assert (file.complete, file.gaps()) == (True, [])
    file.close()


@pytest.mark.parametrize("kind", ["link", "fifo", "directory", "hard link"])
def test_something_else_in_its_place_is_refused(tmp_path: Path, kind: str) -> None:
    path, victim = tmp_path / "blob", tmp_path / "victim"
    victim.write_bytes(b"keep")
    {
        "link": lambda: path.symlink_to(victim),
        "fifo": lambda: os.mkfifo(path),
        "directory": path.mkdir,
        "hard link": lambda: os.link(victim, path),
    }[kind]()
    with pytest.raises(BadRecord):
        PartialFile(path, SIZE).try_lock()
    assert victim.read_bytes() == b"keep"


def test_a_resting_file_that_was_removed_says_so(tmp_path: Path) -> None:
    file = opened(tmp_path / "blob")
    file.write_at(0, bytes(SIZE))
    file.add(0, SIZE)
    file.rest()
    (tmp_path / "blob").unlink()
    with pytest.raises(OSError, match="another process has removed what was received; pull again"):
        file.wake()
    (tmp_path / "blob").write_bytes(b"another one")
    with pytest.raises(OSError, match="another process has removed what was received; pull again"):
        file.wake()
