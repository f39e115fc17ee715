"""Unpacking by the kernels and without: above other layers, with an ordinary user's rights, and on a full disk."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from layerstore_overlay.lowers import LowerLayers, OverlayXattrs
from layerstore_overlay.unpack import OverlayWhiteouts

from layerstore_core.errors import InvalidLayer
from layerstore_core.tar.layer_stream import LayerStream
from layerstore_core.tar.scanner import TarScanner
from layerstore_core.unpack.unpacker import unpack_layer
from tests import tars
from tests.across.test_properties import empty_root
from tests.conftest import needs_root
from tests.unpack.test_runs import limits, random_layers, small_jobs, state
from tests.without_kernels import needs_kernels, plain_way

pytestmark = [needs_kernels, needs_root]

XATTRS = OverlayXattrs("trusted.overlay.")


def unpacked_apart(layers: list[bytes]) -> list[object]:
    """Unpack each layer into a directory of its own, above those before it, as overlay2 does. Return all results."""
    results: list[object] = []
    with empty_root() as root:
        lowers: list[str] = []
        for number, tar in enumerate(layers):
            upper = root / str(number)
            upper.mkdir()
            style = OverlayWhiteouts(LowerLayers(lambda: lowers[::-1], XATTRS), XATTRS, lambda: None)
            diff = LayerStream(TarScanner(io.BytesIO(tar).read))
            try:
                results += [unpack_layer(diff, str(upper), whiteouts=style), diff.displaced]
            except InvalidLayer as error:
                return [*results, str(error)]
            except OSError as error:
                return [*results, error.errno]
            # Whiteouts have the current time.
            tree = {path: one for path, one in state(upper).items() if not stat.S_ISCHR(int(str(one[0])))}
            whiteouts = sorted(set(state(upper)) - set(tree))
            results += [sorted(style.notes.implied), sorted(style.notes.whiteouts), tree, whiteouts]
            lowers.append(str(upper))
    return results


@given(random_layers, limits)
def test_random_layers_above_others_are_the_same_by_the_kernels_and_without(
    layers: list[bytes], limit: tuple[int, int]
) -> None:
    with plain_way():
        expected = unpacked_apart(layers)
    with small_jobs(*limit):
        assert unpacked_apart(layers) == expected


ORDINARY = """
import encodings.ascii, io, os, sys  # the other user may have no access to the interpreter's directory
from layerstore_core import log
from layerstore_core.base.kernels import engine
from layerstore_core.tar.layer_stream import LayerStream
from layerstore_core.tar.scanner import TarScanner
from layerstore_core.unpack.unpacker import unpack_layer
log.configure(1)
tar, has_kernels = sys.stdin.buffer.read(), engine().kernels is not None
os.chdir(sys.argv[1])
os.setgroups([])
os.setgid(12345)
os.setuid(12345)
print(has_kernels, unpack_layer(LayerStream(TarScanner(io.BytesIO(tar).read)), "."))
"""


def test_an_ordinary_user_has_the_same_files_and_warning_by_the_kernels_and_without() -> None:
    parts = [
        tars.entry(b"first", b"1"),
        *[tars.entry(b"d/%d" % number, b"x", uid=number % 3, mode=0o200 + number) for number in range(100)],
        *[tars.directory(b"e%d" % number, uid=number % 3, mode=0o40 + number, mtime=number) for number in range(70)],
        *[tars.directory(b"e%d" % (number * 4), uid=number % 2, mode=0o2700, mtime=7) for number in range(9)],
        *[tars.entry(b"e%d/f" % number, b"x", uid=number % 3) for number in range(0, 70, 5)],
        *[tars.hard_link(b"h%d" % number, b"d/%d" % number, uid=7, mode=0o644) for number in range(9)],
        *[tars.symlink(b"l%d" % number, b"first", uid=7) for number in range(9)],
        *[tars.hard_link(b"s%d" % number, b"l%d" % number, uid=7) for number in range(9)],
        tars.pax([(b"SCHILY.xattr.trusted.x", b"v"), (b"SCHILY.xattr.user.y", b"v")]) + tars.entry(b"x", mode=0o444),
        tars.entry(b"last", b"1"),
    ]

    def unpack(engine: str) -> tuple[object, ...]:
        with tempfile.TemporaryDirectory() as directory:  # pytest's own are in a directory that only root may enter
            os.chown(directory, 12345, 12345)
            environment = {**os.environ, "LAYERSTORE_NATIVE": engine}
            command = [sys.executable, "-c", ORDINARY, directory]
            done = subprocess.run(
                command, input=tars.tar(*parts), env=environment, capture_output=True, check=False, timeout=60
            )
            assert done.returncode == 0, done.stderr
            warning = done.stderr.rpartition(b"left out of the layer")[2]
            used, size = done.stdout.split()
            assert used == (b"False" if engine == "0" else b"True")
            return size, warning, state(Path(directory))

    expected = unpack("0")
    assert "owners (of " in str(expected[1])
    assert unpack("1") == expected


def test_a_disk_that_is_full_fails_the_same_entry(tmp_path: Path) -> None:
    """All files before it are whole, and nothing is left of it or of later ones."""
    parts = [tars.entry(b"f%d" % number, b"x" * 9000, mode=0o640) for number in range(300)]

    def unpack() -> tuple[object, ...]:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", tmp_path], check=True)
        try:
            with pytest.raises(OSError, match="No space left on device") as caught:
                unpack_layer(LayerStream(TarScanner(io.BytesIO(tars.tar(*parts)).read)), str(tmp_path))
            sizes = {name: (tmp_path / name).stat().st_size for name in os.listdir(tmp_path)}
        finally:
            subprocess.run(["umount", tmp_path], check=True)
        failed = caught.value.__notes__[0].partition(" into ")[0]
        return failed, {name: size for name, size in sizes.items() if size == 9000}, len(sizes)

    with plain_way():
        expected = unpack()
    failed, whole, count = unpack()
    assert (failed, whole) == expected[:2]
    assert isinstance(whole, dict)
    assert failed == f"while unpacking 'f{len(whole)}'"
    assert count <= len(whole) + 1
