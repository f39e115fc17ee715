"""The kernel that compares a directory of an upper layer: what it decides, and what it leaves.

That its changes are those of the merged trees is tested with the driver: `drivers/overlay/tests/test_native.py`.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from layerstore_core.diff.change import ChangeKind
from layerstore_core.diff.upper import compare_upper
from tests.conftest import needs_root
from tests.trees import TIMES
from tests.without_kernels import plain_way

kernels = pytest.importorskip("layerstore_native._kernels", reason="the kernels are not built")


@pytest.fixture
def layers(tmp_path: Path) -> list[Path]:
    """Make the directory of an upper layer, and those of two lower ones."""
    made = [tmp_path / name for name in ("upper", "middle", "lowest")]
    for path in made:
        path.mkdir()
    return made


def compare(layers: list[Path]) -> dict[str, str]:
    """Compare by the kernel; return what it has found by name, `other` for what it leaves."""
    upper = os.open(layers[0], os.O_RDONLY)
    try:
        notes, _ = kernels.compare_upper(upper, tuple(os.fsencode(path) for path in layers[1:]))
    finally:
        os.close(upper)
    kinds = {"A": "added", "C": "changed", "o": "other"}
    return {name.decode(): kinds[chr(kind)] for kind, name, _ in notes}


def write(path: Path, content: bytes = b"", time: int = TIMES[1]) -> None:
    path.write_bytes(content)
    os.utime(path, ns=(0, time))


def test_the_uppermost_layer_that_has_a_name_decides(layers: list[Path]) -> None:
    upper, middle, lowest = layers
    write(upper / "new")
    write(upper / "other size", b"long")
    write(upper / "other time", b"", TIMES[2])
    write(upper / "same")
    (upper / "link").symlink_to("new")
    write(lowest / "other size")
    write(lowest / "other time")
    write(middle / "same")
    write(lowest / "same", b"what is hidden")
    write(middle / "link")
    found = {"new": "added", "other size": "changed", "other time": "changed", "same": "other", "link": "changed"}
    assert compare(layers) == found
    assert compare(layers[:1]) == dict.fromkeys(found, "added")


def test_what_is_not_plain_is_left(layers: list[Path]) -> None:
    upper, middle, lowest = layers
    (upper / "directory").mkdir()
    write(upper / "linked")
    os.link(upper / "linked", upper / "again")
    write(upper / "was a directory")
    (middle / "was a directory").mkdir()
    write(upper / "was linked", b"now")
    write(lowest / "was linked")
    os.link(lowest / "was linked", lowest / "was again")
    for name in ("redirect", "metacopy"):
        write(upper / name)
        os.setxattr(upper / name, f"user.overlay.{name}", b"1")
    assert set(compare(layers).values()) == {"other"}


@needs_root
def test_a_whiteout_hides_what_is_below(layers: list[Path]) -> None:
    upper, middle, lowest = layers
    for name in ("file", "whiteout"):
        write(lowest / name)
    os.mknod(middle / "file", 0o20600, 0)
    write(upper / "file")
    os.mknod(upper / "whiteout", 0o20600, 0)
    assert compare(layers) == {"file": "added", "whiteout": "other"}


def test_a_lower_directory_that_cannot_be_read_is_left_to_the_caller(layers: list[Path], tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(layers[1])
    for lower in (tmp_path / "gone", tmp_path / "link"):
        with pytest.raises(OSError, match=r"No such file|Not a directory"):
            compare([*layers, lower])
    with pytest.raises(ValueError, match="more than 500 names"):
        compare([layers[0], *[layers[1]] * 501])
    write(layers[0] / "new")
    upper = os.open(layers[0], os.O_RDONLY)
    assert compare_upper(upper, (os.fsencode(layers[1]),)) == ([(b"new", ChangeKind.ADD)], [])
    assert compare_upper(upper, (b"/gone",)) is None
    with plain_way():
        assert compare_upper(upper, ()) is None
    os.close(upper)


#: Lets the kernel answer listxattrat(2) with an error, as an older one does, or a filter of system calls; then compares
#: as the test does. A filter is a program for the kernel: `struct sock_filter` of `linux/filter.h`.
WITHOUT_LISTXATTRAT = """
import ctypes, os, struct, sys
from layerstore_native import _kernels
number, error = int(sys.argv[1]), int(sys.argv[2])
steps = [(0x20, 0, 0, 0), (0x15, 0, 1, 465), (0x06, 0, 0, 0x50000 | error), (0x06, 0, 0, 0x7FFF0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("@HBBI", *step) for step in steps))
program = ctypes.create_string_buffer(struct.pack("@HP", len(steps), ctypes.addressof(code)))
libc = ctypes.CDLL(None, use_errno=True)
assert not libc.prctl(38, 1, 0, 0, 0) and not libc.prctl(22, 2, program, 0, 0), ctypes.get_errno()
names = ctypes.create_string_buffer(1)
assert libc.syscall(465, number, b"metacopy", 0x100, names, 1) == -1 and ctypes.get_errno() == error
notes, _ = _kernels.compare_upper(number, ())
print(*sorted(name.decode() + chr(kind) for kind, name, _ in notes))
"""


@pytest.mark.parametrize("error", [errno.ENOSYS, errno.EPERM], ids=["an older kernel", "a filter"])
def test_attributes_are_listed_without_the_newest_system_call(error: int, layers: list[Path]) -> None:
    for name in ("metacopy", "plain"):
        write(layers[0] / name)
    os.setxattr(layers[0] / "metacopy", "user.overlay.metacopy", b"1")
    upper = os.open(layers[0], os.O_RDONLY)
    try:
        done = subprocess.run(
            [sys.executable, "-c", WITHOUT_LISTXATTRAT, str(upper), str(error)],
            pass_fds=[upper],
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        os.close(upper)
    assert (done.stdout, done.stderr) == ("metacopyo plainA\n", "")
