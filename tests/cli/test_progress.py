"""The progress display on a terminal."""

from __future__ import annotations

import io
import sys

import pytest

from layerstore_core.cli import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_bytes_and_entries_are_shown_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(progress, "_INTERVAL", 0.0)
    with progress.of_bytes("Registering [x]") as report:
        assert report is not None
        report(5 << 20, 1234)
    text = terminal.getvalue()
    assert "Registering [x]" in text
    assert "5.0 MiB" in text
    assert "1234 entries" in text
    assert "B/s" in text


def test_the_number_of_layers_is_shown_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with progress.of_layers("Checking") as report:
        assert report is not None
        report(3, 12)
    assert "3 of 12 layers" in terminal.getvalue()


def test_without_a_terminal_there_is_no_report_function(monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    with progress.of_bytes("Registering") as report:
        assert report is None
    monkeypatch.setattr(sys, "stderr", None)
    with progress.of_bytes("Registering") as report:
        assert report is None
    assert log.getvalue() == ""


def test_the_display_ends_when_the_block_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with pytest.raises(KeyboardInterrupt), progress.of_bytes("Registering"):
        raise KeyboardInterrupt
    assert terminal.getvalue().count("\x1b[?25l") == terminal.getvalue().count("\x1b[?25h") == 1


def test_each_layer_of_an_image_has_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with progress.of_each_layer() as begin:
        assert begin is not None
        for number in (1, 2):
            begin(f"layer {number} of 2 (blobs/[x])", 2048)(1024, 3)
    assert "layer 1 of 2" in terminal.getvalue() and "layer 2 of 2" in terminal.getvalue()
    assert "1.0/2.0 KiB" in terminal.getvalue()
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with progress.of_each_layer() as begin:
        assert begin is None
