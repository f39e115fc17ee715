"""The layer stream: it is read once, as bytes or as entries, and its listener gets all of the tar."""

from __future__ import annotations

import io
import itertools
import shutil

import pytest

from layerstore_core.errors import InvalidLayer
from layerstore_core.tar import scanner
from layerstore_core.tar.entry import TarEntry
from layerstore_core.tar.layer_stream import LayerStream
from layerstore_core.tar.run import Run, entry_of
from layerstore_core.tar.scanner import TarScanner
from tests import tars


class Listener:
    """A listener that records its calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, bytes]] = []

    def segment(self, data: bytes) -> None:
        self.calls.append(("segment", bytes(data)))

    def run(self, run: Run) -> None:
        for number in range(len(run)):
            self.segment(run.segment(number))
            self.begin_entry(entry_of(run, number))
            if payload := run.payload(number):
                self.payload(payload)
            self.end_entry()

    def begin_entry(self, entry: TarEntry) -> None:
        self.calls.append(("begin", entry.name))

    def payload(self, chunk: memoryview) -> None:
        self.calls.append(("payload", bytes(chunk)))

    def end_entry(self) -> None:
        self.calls.append(("end entry", b""))

    def end(self) -> None:
        self.calls.append(("end", b""))

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, _ in itertools.groupby(kind for kind, _ in self.calls)]

    @property
    def all_bytes(self) -> bytes:
        return b"".join(data for kind, data in self.calls if kind in ("segment", "payload"))


TAR = tars.tar(tars.entry(b"a", b"x" * 3000), tars.directory(b"d"), tars.entry(b"b", b"y" * 10), end=bytes(10240))
ALL = ["segment", "begin", "payload", "end entry", "segment", "begin", "end entry", "segment", "begin", "payload"]
ALL += ["end entry", "segment", "end"]


def stream(tar: bytes = TAR, size: int = 700) -> tuple[LayerStream, Listener]:
    file = io.BytesIO(tar)
    listener = Listener()
    return LayerStream(TarScanner(lambda: file.read(size)), listener), listener


def complete(diff: LayerStream, listener: Listener) -> None:
    diff.drain()
    assert listener.all_bytes == TAR
    assert listener.kinds == ALL
    assert diff.entry_count == 3


def test_reading_a_layer_stream_as_entries() -> None:
    diff, listener = stream()
    found = [(entry.name, b"".join(diff.payload())) for entry in diff.entries()]
    assert found == [(b"a", b"x" * 3000), (b"d", b""), (b"b", b"y" * 10)]
    assert not diff.read_raw
    complete(diff, listener)


@pytest.mark.parametrize("size", [1, 100, 512, 100000])
def test_reading_a_layer_stream_as_bytes(size: int) -> None:
    diff, listener = stream()
    assert diff.readable()
    assert b"".join(iter(lambda: diff.read(size), b"")) == TAR
    assert diff.read(size) == b""
    assert diff.read_raw
    complete(diff, listener)


def test_reading_a_layer_stream_through_other_readers() -> None:
    for read in (
        lambda diff: diff.readall(),
        lambda diff: io.BufferedReader(diff).read(),
        lambda diff: [target := io.BytesIO(), shutil.copyfileobj(diff, target)] and target.getvalue(),
    ):
        diff, listener = stream()
        assert read(diff) == TAR
        assert listener.all_bytes == TAR


@pytest.mark.parametrize("count", range(4))
def test_draining_a_layer_stream_after_some_entries(count: int) -> None:
    diff, listener = stream()
    for _ in itertools.islice(diff.entries(), count):
        pass
    complete(diff, listener)


def test_the_rest_of_a_payload_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanner, "_MAX_JOINED", 0)  # it comes in pieces, as a large one does
    diff, listener = stream()
    entries = diff.entries()
    next(entries)
    next(diff.payload())
    next(diff.payload())
    assert next(entries).name == b"d"
    complete(diff, listener)


@pytest.mark.parametrize("length", [0, 1, 512, 600, 3500, 4096, len(TAR) - 5000, len(TAR) - 1])
def test_draining_a_layer_stream_after_some_bytes(length: int) -> None:
    diff, listener = stream()
    buffered = io.BufferedReader(diff, 64)
    assert buffered.read(length) == TAR[:length]
    complete(diff, listener)


def test_draining_a_layer_stream_that_was_never_read() -> None:
    complete(*stream())


def test_draining_a_layer_stream_twice() -> None:
    diff, listener = stream()
    diff.drain()
    complete(diff, listener)


def test_there_is_no_payload_outside_an_entry() -> None:
    diff, _ = stream()
    assert list(diff.payload()) == []
    for _ in diff.entries():
        pass
    assert list(diff.payload()) == []


def test_reading_as_bytes_and_as_entries_cannot_be_mixed() -> None:
    diff, _ = stream()
    next(diff.entries())
    with pytest.raises(ValueError, match="cannot be read as bytes"):
        diff.read(1)
    diff, _ = stream()
    diff.read(1)
    with pytest.raises(ValueError, match="cannot be iterated as entries"):
        next(diff.entries())


def test_a_layer_stream_without_a_listener() -> None:
    diff = LayerStream(TarScanner(io.BytesIO(TAR).read))
    assert [entry.name for entry in diff.entries()] == [b"a", b"d", b"b"]


def consume(diff: LayerStream, how: str) -> None:
    {"entries": lambda: list(diff.entries()), "bytes": diff.readall, "drain": diff.drain}[how]()


DAMAGED = {
    "a bad header": TAR[:3584] + b"!" + TAR[3585:],
    "a cut payload": TAR[:3000],
    "a cut header": TAR[:3700],
}


@pytest.mark.parametrize("how", ["entries", "bytes", "drain"])
@pytest.mark.parametrize("damage", DAMAGED)
def test_an_error_in_the_tar_is_raised_again_at_each_call(damage: str, how: str) -> None:
    """A driver that suppresses the error must not mistake the rest for a whole layer."""
    diff, listener = stream(DAMAGED[damage])
    with pytest.raises(InvalidLayer):
        consume(diff, how)
    for again in (diff.drain, lambda: list(diff.entries()) if how == "entries" else diff.read(1), diff.drain):
        with pytest.raises(InvalidLayer):
            again()
    assert "end" not in listener.kinds


@pytest.mark.parametrize("method", ["segment", "begin_entry", "payload", "end_entry", "end"])
@pytest.mark.parametrize("how", ["entries", "bytes"])
def test_a_listeners_error_is_raised_again_at_each_call(method: str, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    diff, listener = stream()

    def full(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(listener, method, full)
    with pytest.raises(OSError, match="disk full"):
        consume(diff, how)
    with pytest.raises(OSError, match="disk full"):
        diff.drain()
