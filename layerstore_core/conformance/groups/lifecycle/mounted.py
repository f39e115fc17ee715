"""Tests of the group "lifecycle": mounted layers, and the labels that they are mounted with."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import ClassVar, Final

import pytest

from layerstore_core.conformance.base import ConformanceTests
from layerstore_core.conformance.instruments.home import status_of_files
from layerstore_core.conformance.rig import DriverRig
from layerstore_core.conformance.tars import MOMENT, directory, file, hard_link, symlink
from layerstore_core.conformance.trees import must_be, read_tree
from layerstore_core.errors import LayerStoreError

_BASE: Final = [
    directory(b"d", mtime_ns=MOMENT),
    file(b"d/file", b"of the base", mode=0o4755, xattrs={b"user.k": b"v"}),
    hard_link(b"twin", b"d/file"),
    symlink(b"link", b"d/file"),
]
_LABEL: Final = "system_u:object_r:container_file_t:s0:c1,c2"
_NO_TEMPORARY_FILES: Final = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL)


class MountedTests(ConformanceTests):
    """Tests of what `get` and `put` do to a layer, and of what programs do in a mounted one."""

    group: ClassVar = "lifecycle"

    def test_get_and_put_change_nothing(self, bench: DriverRig) -> None:
        """`get` and `put` change nothing in a layer: no file, no mode, no attribute, no time, no hole of a file.

        Otherwise each start of a container changes files, which are then in its next commit.
        """
        base = bench.layer(_BASE)
        layer = bench.writable(base)
        with bench.driver.mounted(layer) as path:
            _write(Path(path), privileged=bench.is_root)
            written = read_tree(path)
        must_be(bench.tree(layer), written, "a writable layer that was unmounted and mounted again")
        homes = []
        for _ in range(2):
            for used in (base, layer):
                bench.tree(used)
            homes.append(status_of_files(bench.driver.home))
        must_be(bench.tree(layer), written, "a writable layer that was mounted often")
        changed = sorted(name for name in homes[0].keys() | homes[1].keys() if homes[0].get(name) != homes[1].get(name))
        assert not changed, f"get and put have changed in the driver's home: {changed[:5]}"

    def test_locks_and_files_without_a_name(self, bench: DriverRig) -> None:
        """In a mounted layer programs can lock every file, and give a name to a file that had none (O_TMPFILE).

        Otherwise package managers and databases do not work in containers. A driver locks no file of a tree itself.
        """
        layer = bench.writable(bench.layer(_BASE))
        with bench.driver.mounted(layer) as path:
            for name in (".", "d", "d/file", "twin"):
                _must_be_lockable(os.path.join(path, name))
            named = _give_a_name(path)
            if not named:
                bench.note("files without a name (O_TMPFILE) are refused in mounted layers")
        with bench.driver.mounted(layer) as path:
            if named:
                assert Path(path, "d/named").read_text() == "written before it had a name", "it is lost after put"
            _must_be_lockable(os.path.join(path, "d/file"))

    @pytest.mark.parametrize("parent", ["none", "a-layer"])
    def test_a_mount_label(self, bench: DriverRig, parent: str) -> None:
        """An SELinux label of a writable layer is set on its files, or refused by an error. It is never ignored.

        Otherwise a container runs without the protection that its user has asked for.
        """
        base = bench.layer(_BASE) if parent == "a-layer" else ""
        layer = bench.new_id()
        try:
            bench.driver.create_read_write(layer, base, _LABEL, {})
        except LayerStoreError as error:
            bench.note(f"mount labels are refused: {error}")
            assert not bench.driver.exists(layer), "the refused layer is there"
            return
        _must_label_or_refuse(bench, layer, ["", "d/file"] if base else [""])

    @pytest.mark.parametrize("parent", ["none", "a-layer"])
    def test_a_mount_label_of_get(self, bench: DriverRig, parent: str) -> None:
        """A label that is first given to `get` is set on the layer's files, or refused by an error, and never ignored.

        Otherwise `layerstore rw mount --mount-label` mounts a layer without the protection that its user wants.
        """
        base = bench.layer(_BASE) if parent == "a-layer" else ""
        layer = bench.writable(base)
        _must_label_or_refuse(bench, layer, ["", "d/file"] if base else [""])
        with bench.driver.mounted(layer) as path:
            assert os.path.isdir(path), "after a mount with a label the layer cannot be mounted without one"


def _must_label_or_refuse(bench: DriverRig, layer: str, names: list[str]) -> None:
    """Mount a layer with a label, and look at the labels of files by their names, unless the mount is refused."""
    try:
        path = bench.driver.get(layer, _LABEL)
    except (OSError, LayerStoreError) as error:
        bench.note(f"mounting with a label is refused: {error}")
        assert not bench.mounts(), f"after a refused mount there is still mounted: {bench.mounts()}"
        return
    labels = [_label_of(os.path.join(path, name)) for name in names]
    bench.driver.put(layer)
    assert labels == [_LABEL] * len(names), f"the label {_LABEL!r} was ignored: the files have {labels}"


def _write(root: Path, *, privileged: bool) -> None:
    """Write all kinds of files, with metadata that a copy may lose."""
    for name, mode in ("plain", 0o640), ("set-id", 0o4711), ("unreadable", 0o200 if privileged else 0o600):
        (root / name).write_text(name)
        if privileged:
            os.chown(root / name, 12, 34)
        (root / name).chmod(mode)
        os.utime(root / name, ns=(MOMENT, MOMENT - 1))
    os.link(root / "plain", root / "d/plain-twin")
    (root / "empty").mkdir(mode=0o700)
    os.setxattr(root / "empty", "user.new", b"1")
    os.mkfifo(root / "fifo")
    os.utime(root / "fifo", ns=(MOMENT, MOMENT + 1))
    with open(root / "holes", "wb") as stream:
        stream.truncate(1 << 20)
    with socket.socket(socket.AF_UNIX) as server:
        here = os.open(root, os.O_PATH | os.O_DIRECTORY)
        try:
            server.bind(f"/proc/self/fd/{here}/socket")
        finally:
            os.close(here)
    os.utime(root / "d/file", ns=(7, 7))
    (root / "link").unlink()
    (root / ".tmp-x").write_text("like a scratch file")
    os.utime(root / "d", ns=(MOMENT, MOMENT + 2))
    os.utime(root, ns=(MOMENT, MOMENT + 3))


def _must_be_lockable(path: str) -> None:
    first, second = (os.open(path, os.O_RDONLY) for _ in range(2))
    name = os.path.basename(path)
    try:
        try:
            fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pytest.fail(f"{name!r} cannot be locked: the driver has locked it")
        with pytest.raises(BlockingIOError):
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(first)
        os.close(second)


def _give_a_name(root: str) -> bool:
    """Write a file that has no name yet, and give it one. Return whether the file system has such files."""
    with ExitStack() as opened:
        directory = os.open(os.path.join(root, "d"), os.O_RDONLY | os.O_DIRECTORY)
        opened.callback(os.close, directory)
        try:
            fd = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o600, dir_fd=directory)
        except OSError as error:
            if error.errno not in _NO_TEMPORARY_FILES:
                raise
            return False
        opened.callback(os.close, fd)
        os.write(fd, b"written before it had a name")
        os.link(f"/proc/self/fd/{fd}", "named", dst_dir_fd=directory, follow_symlinks=True)
        return True


def _label_of(path: str) -> str:
    """Return the label of a file: its own, or that of its mount."""
    try:
        return os.getxattr(path, "security.selinux").rstrip(b"\0").decode()
    except OSError:
        pass
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            point, options = line.split()[4], line.split()[-1]
            if os.path.realpath(path).startswith(point) and f'context="{_LABEL}"' in options:
                return _LABEL
    return ""
