"""Recording in a lane: the same lines, in order, and the errors of the recorder."""

from __future__ import annotations

import errno
import io
import threading
from unittest import mock

import pytest
from fastcrc import crc64
from hypothesis import example, given
from hypothesis import strategies as st

from layerstore_core.base.kernels import Engine
from layerstore_core.base.threads import Lane
from layerstore_core.errors import InvalidLayer
from layerstore_core.tar import scanner
from layerstore_core.tar.layer_stream import LayerStream
from layerstore_core.tar.scanner import TarScanner
from layerstore_core.tarsplit import record_lane
from layerstore_core.tarsplit.codec import LineReader, LineWriter
from layerstore_core.tarsplit.record import Recorder
from layerstore_core.tarsplit.record_lane import RecorderLane
from tests import tars
from tests.across.test_properties import whole_tars


def record(tar: bytes, size: int, *, in_lane: bool) -> tuple[list[bytes], bool] | str:
    """Return the lines of a tar that is read `size` bytes at a time, and whether a file was displaced; or the error."""
    out, file = io.BytesIO(), io.BytesIO(tar)
    recorder = Recorder(LineWriter(out), crc64.go_iso)
    try:
        with Lane("test") as lane:
            listener = RecorderLane(recorder, lane) if in_lane else recorder
            LayerStream(TarScanner(lambda: file.read(size)), listener).drain()
    except InvalidLayer as error:
        return str(error)
    with LineReader(io.BytesIO(out.getvalue())) as lines:
        return list(lines), recorder.displaced


#: The same name twice, so that the second payload is in the lines; it is in three pieces of 700 bytes.
TWICE = tars.entry(b"a/a") + tars.entry(b"a/a", b"x" * 512)


@example(TWICE, 1, 700)
@given(whole_tars, st.sampled_from([1, 5, 100]), st.sampled_from([700, 1 << 20]))
def test_lines_in_a_lane_are_those_of_the_recorder_in_python(tar: bytes, calls: int, size: int) -> None:
    with mock.patch.object(scanner, "engine", return_value=Engine(None, "a test")):
        expected = record(tar, size, in_lane=False)
    with mock.patch.object(record_lane, "_CALLS", calls):
        assert record(tar, size, in_lane=True) == expected


MANY = tars.tar(*[tars.entry(b"%d" % number, b"x" * 9000) for number in range(500)])


def test_a_small_layer_is_recorded_without_a_thread() -> None:
    here = threading.current_thread()
    threads = []

    def crc(data: memoryview, value: int | None) -> int:
        threads.append(threading.current_thread())
        return crc64.go_iso(data, value)

    for tar, in_here in ((tars.tar(tars.entry(b"a" * 90, b"x", form="v7")), True), (MANY, False)):
        threads.clear()
        recorder = Recorder(LineWriter(io.BytesIO()), crc)
        with Lane("test") as lane, mock.patch.object(scanner, "engine", return_value=Engine(None, "a test")):
            file = io.BytesIO(tar)
            LayerStream(TarScanner(lambda file=file: file.read(1 << 20)), RecorderLane(recorder, lane)).drain()  # type: ignore[misc]
        assert threads
        assert all((thread is here) == in_here for thread in threads)


class FullDisk(io.BytesIO):
    """A file that takes no bytes any more."""

    def write(self, data: object) -> int:
        raise OSError(errno.ENOSPC, "no space left on device")


@pytest.mark.parametrize("tar", [MANY, tars.tar(tars.entry(b"a", b"x"))], ids=["many", "one"])
def test_an_error_of_the_recorder_is_raised(tar: bytes) -> None:
    file = io.BytesIO(tar)
    with Lane("test") as lane:
        listener = RecorderLane(Recorder(LineWriter(FullDisk()), crc64.go_iso), lane)
        diff = LayerStream(TarScanner(lambda: file.read(1 << 18)), listener)
        with pytest.raises(OSError, match="no space left"):
            diff.drain()
