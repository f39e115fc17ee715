"""Flushing whole file systems, each once."""

from __future__ import annotations

import ctypes
import errno
import os

import pytest

from layerstore_core.base.durability import FlushPoint
from tests.reliability import failing, power


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
    with FlushPoint(tmp_path, tmp_path / "below", tmp_path) as point:
        point.flush()
    assert kernel.calls == [tmp_path.stat().st_dev]


def test_what_could_not_be_written_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda *args, **kwargs: Kernel(errno.EIO))
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match="Input/output error") as caught, FlushPoint(tmp_path) as point:
        point.flush()
    assert caught.value.filename == str(tmp_path)
    assert caught.value.__notes__ == [f"while flushing the file system of {tmp_path}"]
    assert os.listdir("/proc/self/fd") == before


def test_a_directory_that_is_not_there_yet(tmp_path, monkeypatch):
    kernel = Kernel()
    monkeypatch.setattr(ctypes, "CDLL", lambda *args, **kwargs: kernel)
    with FlushPoint(tmp_path / "missing" / "too") as point:
        point.flush()
    assert kernel.calls == [tmp_path.stat().st_dev]


def test_what_failed_since_is_heard_though_another_has_been_told():
    """A process whose data is lost must not think it safe because somebody else has flushed meanwhile."""
    if why := power.why_not():
        pytest.skip(why)
    assert failing.who_hears_of_a_failed_write() == {"another": True, "point": True, "late": False}
