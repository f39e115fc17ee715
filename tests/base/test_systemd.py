"""Sockets that systemd passes, and what it is sent. The rest is tested with a server (bridges/*/tests)."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from layerstore_core.base.systemd import notify_systemd, passed_socket


def test_sockets_of_another_process_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_PID", "1")
    monkeypatch.setenv("LISTEN_FDS", "1")
    assert passed_socket() is None
    assert "LISTEN_FDS" not in os.environ


def test_manager_that_is_gone_does_no_harm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "none"))
    notify_systemd("READY=1")


def test_abstract_socket_of_a_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0layerstore-test-{os.getpid()}")
        manager.settimeout(60)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@layerstore-test-{os.getpid()}")
        notify_systemd("READY=1")
        assert manager.recv(100) == b"READY=1"
