"""Resources: memory stays flat for any number of entries, and no descriptor, thread or file is left after any end."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from layerstore_core.errors import InvalidLayer
from tests import tars
from tests.pipeline import assemble_tar, unpack_tar
from tests.without_kernels import plain_way

CHECKOUT = Path(__file__).resolve().parents[2]

#: A program that scans and records a generated tar. It prints the greatest memory use of the process, in KiB.
SCAN = """
import resource, sys
from fastcrc import crc64
from layerstore_core.tar.scanner import TarScanner
from layerstore_core.tar.layer_stream import LayerStream
from layerstore_core.tarsplit.codec import LineWriter
from layerstore_core.tarsplit.record import Recorder
from tests import tars

count = int(sys.argv[1])
block = tars.entry(b"usr/share/doc/0000000000", b"content", form="gnu")
name_at, sum_at, base = 14, 148, sum(block[:512]) - sum(block[148:156]) + 8 * 32 - 10 * 48

def chunks():
    for start in range(0, count, 500):
        parts = []
        for number in range(start, start + 500):
            digits = b"%010d" % number
            part = bytearray(block)
            part[name_at : name_at + 10] = digits
            part[sum_at : sum_at + 8] = b"%06o\\0 " % (base + sum(digits))
            parts.append(part)
        yield b"".join(parts)
    yield tars.END

class Null:
    size = 0
    def write(self, data):
        self.size += len(data)

out, source = Null(), chunks()
diff = LayerStream(TarScanner(lambda: next(source, b"")), Recorder(LineWriter(out), crc64.go_iso))
diff.drain()
assert diff.entry_count == count
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak_of(entries: int) -> int:
    command = [sys.executable, "-c", SCAN, str(entries)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True)
    return int(done.stdout) * 1024


def test_memory_stays_flat_over_300_000_entries() -> None:
    """About 16 bytes are kept for each entry, for the two sets of names."""
    assert peak_of(300_000) - peak_of(1000) < 32 << 20


def test_memory_stays_flat_for_a_large_file(root: Path) -> None:
    """The content is read in chunks, whether it is plain, sparse or inline."""
    script = """
import resource, sys
from pathlib import Path
from tests import tars
from tests.pipeline import unpack_tar
from layerstore_core.streams.source import LayerSource
kind, root = sys.argv[1:]
size = 160 << 20 if kind != "none" else 512
if kind == "sparse":
    regions = tars.number(0, 12) + tars.number(size, 12)
    head = tars.header(b"f", typeflag=b"S", form="gnu", size=size, fields={386: regions, 483: tars.number(size, 12)})
else:
    head = tars.header(b"f", typeflag=b"Z" if kind == "inline" else b"0", size=size)
class File:
    left = [head, *[bytes(1 << 20)] * (size >> 20), bytes(size % (1 << 20)), tars.END]
    def read(self, _):
        return self.left.pop(0) if self.left else b""
    def seekable(self):
        return True
    def tell(self):
        return 0
unpack_tar(File(), Path(root))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""

    def peak(kind: str) -> int:
        where = root / kind
        where.mkdir()
        command = [sys.executable, "-c", script, kind, where]
        done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True)
        for path in where.iterdir():
            path.unlink()
        return int(done.stdout) * 1024

    base = peak("none")
    for kind in ("plain", "sparse", "inline"):
        assert peak(kind) - base < 32 << 20, kind


TAR = tars.tar(
    *(tars.entry(b"d%d/sub/f" % number, b"x" * 2000) for number in range(80)),
    tars.hard_link(b"h", b"d1/sub/f"),
    tars.entry(b".wh..wh.plnk/1", b"aside"),
    tars.entry(b".wh.d2"),
)


class Failing(io.BytesIO):
    """A layer's file that fails when it is read from an offset on."""

    def __init__(self, data: bytes, at: int) -> None:
        super().__init__(data)
        self.at = at

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() >= self.at:
            raise OSError("the disk is gone")
        return super().read(4096)


def damaged(tar: bytes) -> bytes:
    header = tar.index(b"d40/sub/f")
    return tar[:header] + b"!" * 512 + tar[header + 512 :]


FAILURES: dict[str, Callable[[], io.BytesIO]] = {
    "cut off": lambda: io.BytesIO(TAR[: len(TAR) * 2 // 3]),
    "damaged": lambda: io.BytesIO(damaged(TAR)),
    "compressed, cut off": lambda: io.BytesIO(gzip.compress(TAR)[:-20]),
    "compressed, damaged within": lambda: io.BytesIO(gzip.compress(damaged(TAR))),
    "leaves the root": lambda: io.BytesIO(TAR[:-1024] + tars.tar(tars.entry(b"../x", b"x"))),
    "link to nothing": lambda: io.BytesIO(TAR[:-1024] + tars.tar(tars.hard_link(b"x", b"absent"))),
    "the file fails at once": lambda: Failing(TAR, 0),
    "the file fails later": lambda: Failing(TAR, len(TAR) // 2),
    "a bad attribute": lambda: io.BytesIO(
        TAR[:-1024] + tars.pax([(b"SCHILY.xattr.", b"v")]) + tars.tar(tars.entry(b"x"))
    ),
}


@pytest.mark.usefixtures("nothing_left_open")
@pytest.mark.parametrize("failure", FAILURES)
def test_failed_extractions_leave_nothing_open(failure: str, root: Path) -> None:
    with pytest.raises((InvalidLayer, OSError)):
        unpack_tar(FAILURES[failure](), root)
    assert not [name for name in os.listdir(root) if name.startswith(".wh.")], "aufs's links are left in the root"


@pytest.mark.usefixtures("nothing_left_open")
@pytest.mark.parametrize("call", ["open", "mkdir", "write", "utime", "chmod", "link", "unlink", "scandir", "close"])
def test_failed_system_calls_leave_nothing_open(call: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = getattr(os, call)
    calls = 0

    def sometimes(*args: object, **options: object) -> object:
        nonlocal calls
        calls += 1
        if call == "close":
            result = real(*args, **options)
            if calls == 50:
                raise OSError(5, "lost on closing")
            return result
        if calls == (50 if call in ("open", "write", "utime", "mkdir") else 1):
            raise OSError(28, "No space left on device", "x")
        return real(*args, **options)

    tar = tars.tar(TAR[:-1024], *(tars.entry(b"m%d" % number, b"x", mode=0o4755) for number in range(3)))
    with plain_way(), monkeypatch.context() as patched:
        patched.setattr(os, call, sometimes)
        with pytest.raises(OSError, match=r"No space left|lost on closing") as caught:
            unpack_tar(tar, root)
    assert calls
    assert caught.value.errno in (5, 28)


@pytest.mark.usefixtures("nothing_left_open")
def test_successful_extractions_leave_nothing_open(root: Path) -> None:
    taken = unpack_tar(TAR, root)
    assert assemble_tar(taken) == TAR


@pytest.mark.usefixtures("nothing_left_open")
def test_an_interrupt_leaves_nothing_open(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    calls = 0

    def interrupted(fd: int, data: bytes) -> int:
        nonlocal calls
        calls += 1
        if calls == 20:
            raise KeyboardInterrupt
        return real(fd, data)

    monkeypatch.setattr(os, "write", interrupted)
    with plain_way(), pytest.raises(KeyboardInterrupt):
        unpack_tar(TAR, root)
