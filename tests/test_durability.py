"""Flushing whole file systems, each once."""

from __future__ import annotations

import ctypes
import errno
import os

import pytest

from layerstore_core.durability import flush_file_systems


class Kernel:
    """Stands for libc; counts, and fails if it is told to."""

    def __init__(self, code=0):
        self.calls = []
        self._code = code

    def syncfs(self, fd):
        self.calls.append(os.fstat(fd).st_dev)
        ctypes.set_errno(self._code)
        return -1 if self._code else 0


def test_each_file_system_is_flushed_once(tmp_path, monkeypatch):
    kernel = Kernel()
    monkeypatch.setattr(ctypes, "CDLL", lambda *args, **kwargs: kernel)
    (tmp_path / "below").mkdir()
    flush_file_systems(tmp_path, tmp_path / "below", tmp_path)
    assert kernel.calls == [tmp_path.stat().st_dev]


def test_what_could_not_be_written_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda *args, **kwargs: Kernel(errno.EIO))
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match="Input/output error") as caught:
        flush_file_systems(tmp_path)
    assert caught.value.filename == str(tmp_path)
    assert caught.value.__notes__ == [f"while flushing the file system of {tmp_path}"]
    assert os.listdir("/proc/self/fd") == before


def test_a_directory_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        flush_file_systems(tmp_path / "missing")
