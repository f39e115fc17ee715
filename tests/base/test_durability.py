"""Flushing whole file systems: each once, and with every write error reported."""

from __future__ import annotations

import ctypes
import errno
import os

import pytest

from layerstore_core.base.durability import FlushPoint
from tests.reliability import failing, power


class Kernel:
    """A stand-in for libc that records the calls of syncfs(2), and fails with an error number if it has one."""

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


def test_a_write_error_is_reported_by_the_flush(tmp_path, monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda *args, **kwargs: Kernel(errno.EIO))
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match="Input/output error") as caught, FlushPoint(tmp_path) as point:
        point.flush()
    assert caught.value.filename == str(tmp_path)
    assert caught.value.__notes__ == [f"while flushing the file system of {tmp_path}"]
    assert os.listdir("/proc/self/fd") == before


def test_for_a_missing_directory_its_nearest_parent_is_flushed(tmp_path, monkeypatch):
    kernel = Kernel()
    monkeypatch.setattr(ctypes, "CDLL", lambda *args, **kwargs: kernel)
    with FlushPoint(tmp_path / "missing" / "too") as point:
        point.flush()
    assert kernel.calls == [tmp_path.stat().st_dev]


def test_a_write_error_is_reported_though_another_process_has_seen_it():
    """A process must not believe that its lost data is safe because another process has flushed in between."""
    if why := power.why_not():
        pytest.skip(why)
    assert failing.flush_points_that_see_a_failed_write() == {"another": True, "point": True, "late": False}


def test_an_aborted_journal_is_reported_though_another_process_has_seen_it():
    """The kernel's own flush succeeds: what was to be flushed is lost, and nothing is left to write."""
    if why := power.why_not():
        pytest.skip(why)
    words = "the file system accepts no changes any more, and the last ones may be lost: see the kernel's log"
    assert failing.flushes_that_see_an_aborted_journal() == {"fsync": "", "flush": words}
