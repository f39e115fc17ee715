"""Runs of plain entries: a stream that yields them has the same entries as one that yields each by itself."""

from __future__ import annotations

import io
from collections.abc import Iterator
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerstore_core.base.kernels import Engine, engine
from layerstore_core.errors import InvalidLayer
from layerstore_core.tar import scanner
from layerstore_core.tar.entry import TarEntry
from layerstore_core.tar.layer_stream import LayerStream
from layerstore_core.tar.run import entry_of
from layerstore_core.tar.scanner import TarScanner
from tests import tars
from tests.across.test_properties import whole_tars

pytestmark = pytest.mark.skipif(engine().kernels is None, reason="the kernels are not used")


def stream(tar: bytes, size: int) -> LayerStream:
    file = io.BytesIO(tar)
    return LayerStream(TarScanner(lambda: file.read(size)))


def read(tar: bytes, size: int, *, runs: bool) -> tuple[list[object], list[int]]:
    """Return the entries and payloads of a tar, or the error at the end, and the lengths of its runs."""
    found: list[object] = []
    lengths = []
    diff = stream(tar, size)
    try:
        for item in diff.entries_and_runs() if runs else diff.entries():
            if isinstance(item, TarEntry):
                found.append((item, b"".join(diff.payload())))
                continue
            lengths.append(len(item))
            found += [(entry_of(item, number), bytes(item.payload(number))) for number in range(len(item))]
    except InvalidLayer as error:
        found.append((error.reason, error.offset, error.entry))
    else:
        assert diff.entry_count == len(found)
    return found, lengths


@given(whole_tars, st.sampled_from([100, 512, 1300, 1 << 20]))
def test_a_stream_with_runs_has_the_same_entries(tar: bytes, size: int) -> None:
    assert read(tar, size, runs=True)[0] == read(tar, size, runs=False)[0]


ENTRIES = [
    tars.pax([(b"mtime", b"1.5"), (b"comment", b"c" * number)]) + tars.entry(b"d/%d" % number, b"x" * number)
    for number in range(0, 3000, 75)
]


@pytest.mark.parametrize("size", [1, 512, 700, 4096, 1 << 20])
def test_an_entry_in_two_chunks_is_in_a_run(size: int) -> None:
    expected, _ = read(tars.tar(*ENTRIES), 1 << 20, runs=False)
    found, lengths = read(tars.tar(*ENTRIES), size, runs=True)
    assert found == expected
    assert sum(lengths) == len(ENTRIES)
    assert len(lengths) == 1 or size < 1 << 20


def test_a_large_payload_in_two_chunks_is_not_in_a_run() -> None:
    tar = tars.tar(ENTRIES[0], tars.entry(b"large", bytes(1 << 20)), ENTRIES[1])
    found, lengths = read(tar, 700_000, runs=True)
    assert (len(found), lengths) == (3, [1, 1])


def test_a_run_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanner, "_RUN_ENTRIES", 16)
    assert read(tars.tar(*ENTRIES), 1 << 20, runs=True)[1] == [16, 16, 8]
    monkeypatch.setattr(scanner, "_RUN_BYTES", 1 << 14)
    assert max(read(tars.tar(*ENTRIES), 1 << 20, runs=True)[1]) < 16


def test_a_tar_after_the_end_of_the_tar_is_not_read() -> None:
    first = tars.tar(ENTRIES[0])
    diff = stream(first + tars.tar(*ENTRIES), 1 << 20)
    assert sum(1 for _ in diff.entries_and_runs()) == 1
    diff.drain()
    assert diff.entry_count == 1


def test_draining_a_stream_reads_runs_to_the_end() -> None:
    diff = stream(tars.tar(*ENTRIES) + b"trailer", 700)
    diff.drain()
    assert diff.entry_count == len(ENTRIES)
    cut = stream(tars.tar(*ENTRIES)[:5000], 1 << 20)
    for _ in range(2):  # a driver that suppresses the error must not mistake the rest for a whole layer
        with pytest.raises(InvalidLayer, match="cut off"):
            cut.drain()


def test_there_are_no_runs_without_kernels() -> None:
    with mock.patch.object(scanner, "engine", return_value=Engine(None, "a test")):
        found, lengths = read(tars.tar(*ENTRIES), 1 << 20, runs=True)
    assert (len(found), lengths) == (len(ENTRIES), [])


def test_entries_after_bytes_are_refused() -> None:
    diff = stream(tars.tar(*ENTRIES), 1 << 20)
    assert diff.read(10)
    items: Iterator[object] = diff.entries_and_runs()
    with pytest.raises(ValueError, match="read as bytes"):
        next(items)
