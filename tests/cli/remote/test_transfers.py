"""The progress of `pull` and `push`: on a terminal, as plain lines, and as JSON."""

from __future__ import annotations

import io
import json
import sys

import pytest

from layerstore_core.cli.remote import transfers
from layerstore_core.images.remote.events import BlobEvent

NAME, DIGEST = f"sha256:{'1' * 64}", f"sha256:{'a' * 64}"
EVENTS = [
    BlobEvent(NAME, "layer", "waiting"),
    BlobEvent(NAME, "layer", "compressing", done=1 << 20, size=5 << 20),
    BlobEvent(NAME, "layer", "compressing", done=2 << 20, size=5 << 20),
    BlobEvent(NAME, "layer", "uploading", DIGEST, 1 << 20, 2 << 20),
    BlobEvent(NAME, "layer", "done", DIGEST, 2 << 20, 2 << 20),
    BlobEvent(DIGEST, "config", "exists", DIGEST, 0, 700),
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def report_all(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch, **options: bool) -> str:
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    with transfers.of_blobs(**options) as report:
        assert report is not None
        for event in EVENTS:
            report(event)
    return stream.getvalue()


def test_plain_lines_have_the_last_state_of_each_blob(monkeypatch: pytest.MonkeyPatch) -> None:
    assert report_all(io.StringIO(), monkeypatch).splitlines() == [
        "111111111111  layer  done  2.0 MiB",
        "aaaaaaaaaaaa  config  already there  700 B",
    ]


def test_json_lines_have_the_same_keys_each(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [json.loads(line) for line in report_all(io.StringIO(), monkeypatch, as_json=True).splitlines()]
    assert [line["state"] for line in lines] == ["waiting", "compressing", "uploading", "done", "exists"]
    assert lines[0] == {
        "event": "blob",
        "name": NAME,
        "kind": "layer",
        "state": "waiting",
        "digest": None,
        "done": 0,
        "size": 0,
    }
    assert {tuple(line) for line in lines} == {tuple(lines[0])}


def test_a_terminal_has_a_line_for_each_blob(monkeypatch: pytest.MonkeyPatch) -> None:
    text = report_all(Terminal(), monkeypatch)
    for word in ("111111111111  layer", "done", "2.0/2.0 MiB", "aaaaaaaaaaaa  config", "already there"):
        assert word in text


def test_nothing_is_shown_if_that_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    with transfers.of_blobs(quiet=True) as report:
        assert report is None
    monkeypatch.setattr(sys, "stderr", None)
    with transfers.of_blobs() as report:
        assert report is None


def test_the_whole_counts_what_is_transferred(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    names = [f"sha256:{digit * 64}" for digit in "123"]
    with transfers.of_blobs() as report:
        assert report is not None
        report(BlobEvent(names[0], "layer", "exists", names[0], 9 << 20, 9 << 20))
        for name in names[1:]:
            report(BlobEvent(name, "layer", "waiting", name, 0, 4 << 20))
        report(BlobEvent(names[1], "layer", "downloading", names[1], 1 << 20, 4 << 20))
        report(BlobEvent(names[1], "layer", "unpacking", names[1], 1 << 20, 4 << 20))
        report(BlobEvent(names[2], "layer", "downloading", names[2], 3 << 20, 4 << 20))
    last = stream.getvalue().rpartition("all ")[2].partition("\n")[0]
    assert "7.0/8.0 MiB" in last
