"""The kernel that packs plain files, against its twin: the same bytes."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerstore_core.diff import pack as pack_module
from layerstore_core.diff.change import Change
from layerstore_core.diff.compare_trees import compare_trees
from layerstore_core.diff.pack import pack_changes, pack_tree
from layerstore_core.tar.encode import encode_header, padding
from layerstore_core.tar.entry import EntryType, TarEntry
from tests.conftest import needs_root
from tests.trees import TIMES, Tree, build, pairs, trees
from tests.without_kernels import plain_way

kernels = pytest.importorskip("layerstore_native._kernels", reason="the kernels are not built")

ROOM = 1 << 20


def pack(directory: Path, *names: bytes, above: bytes = b"", room: int = ROOM, used: int = 0) -> tuple[int, bytes]:
    """Pack files by the kernel; return how many, and the bytes."""
    buffer, fd = bytearray(room), os.open(directory, os.O_RDONLY)
    try:
        done, used = kernels.pack(fd, above, names, buffer, used)
    finally:
        os.close(fd)
    return done, bytes(buffer[:used])


@given(trees(), st.integers(1, 3))
def test_the_tar_of_a_tree_is_that_of_the_twin(tree: Tree, at_once: int) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(pack_module, "AT_ONCE", at_once)
        root = build(Path(name, "root"), tree)
        with plain_way():
            expected = b"".join(pack_tree(root))
        assert b"".join(pack_tree(root)) == expected


@given(pairs(), st.data())
def test_the_tar_of_changes_is_that_of_the_twin(pair: tuple[Tree, Tree], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        lower, upper = build(Path(name, "lower"), pair[0]), build(Path(name, "upper"), pair[1])
        changes: list[Change] = compare_trees(upper, lower)
        paths = [change.path for change in changes]
        opaque = data.draw(st.lists(st.sampled_from(paths), max_size=2)) if paths else []
        opaque = [path for path in opaque if (upper / os.fsdecode(path[1:])).is_dir()]
        with plain_way():
            expected = b"".join(pack_changes(upper, changes, opaque=opaque))
        assert b"".join(pack_changes(upper, changes, opaque=opaque)) == expected


def path_of(length: int, last: int) -> bytes:
    """Return a path of a directory, with a slash at the end: so many bytes with a name of `last` bytes after it."""
    rest, parts = length - last, []
    while rest > 0:
        size = min(rest - 1, 51)
        parts.append(b"d" * size + b"/")
        rest -= size + 1
    return b"".join(parts)


@pytest.mark.parametrize("last", [1, 50, 99, 100, 101])
@pytest.mark.parametrize("length", [99, 100, 101, 102, 155, 156, 157, 200, 254, 255, 256, 257, 300, 4000])
@pytest.mark.parametrize("kind", [EntryType.FILE, EntryType.DIR])
def test_long_paths_have_the_header_of_the_twin(tmp_path: Path, length: int, last: int, kind: EntryType) -> None:
    base = b"f" * last
    path = tmp_path / base.decode()
    path.touch() if kind is EntryType.FILE else path.mkdir()
    path.chmod(0o6750)
    os.utime(path, ns=(0, TIMES[2]))
    above = path_of(length, last)
    name = above + base + (b"/" if kind is EntryType.DIR else b"")
    owner = path.stat().st_uid, path.stat().st_gid
    expected = encode_header(TarEntry(name, kind, 0o6750, *owner, mtime_ns=TIMES[2]))
    assert pack(tmp_path, base, above=above) == (1, expected)


@given(st.integers(0, 0o77777777777), st.integers(0, 999_999_999))
def test_any_time_has_the_header_of_the_twin(seconds: int, fraction: int) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        path = Path(name, "file")
        path.write_bytes(b"content")
        os.utime(path, ns=(0, seconds * 1_000_000_000 + fraction))
        status = path.stat()
        entry = TarEntry(b"file", EntryType.FILE, 0o644, status.st_uid, status.st_gid, 7, status.st_mtime_ns)
        path.chmod(0o644)
        assert pack(Path(name), b"file") == (1, encode_header(entry) + b"content" + padding(7))


def test_the_first_that_is_not_plain_ends_it(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"x" * (1 << 17))
    (tmp_path / "large").write_bytes(b"x" * ((1 << 17) + 1))
    (tmp_path / "linked").touch()
    os.link(tmp_path / "linked", tmp_path / "again")
    (tmp_path / ".wh.name").touch()
    (tmp_path / "marked").touch()
    os.setxattr(tmp_path / "marked", "user.one", b"1")
    (tmp_path / "\u00e9").touch()
    (tmp_path / "long").symlink_to("x" * 101)
    (tmp_path / "old").touch()
    os.utime(tmp_path / "old", ns=(0, -1))
    os.mkfifo(tmp_path / "fifo")
    assert pack(tmp_path, b"plain")[0] == 1
    for name in (b"large", b"linked", b".wh.name", b"marked", "\u00e9".encode(), b"long", b"old", b"fifo", b"gone"):
        done, data = pack(tmp_path, b"plain", name, b"plain")
        assert (done, data) == pack(tmp_path, b"plain"), name


@needs_root
def test_attributes_of_the_host_and_large_owners(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.setxattr(tmp_path / "file", "trusted.overlay.origin", b"1")
    assert pack(tmp_path, b"file")[0] == 1
    os.chown(tmp_path / "file", 0o10000000, 0)
    assert pack(tmp_path, b"file")[0] == 0


def test_a_file_that_is_shorter_than_its_status_says_is_left() -> None:
    """As one that is truncated meanwhile."""
    place = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not place.exists() or len(place.read_bytes()) >= place.stat().st_size:
        pytest.skip("this kernel has no such file")
    assert pack(place.parent, os.fsencode(place.name)) == (0, b"")


def test_it_ends_before_the_room_does(tmp_path: Path) -> None:
    for number in range(9):
        (tmp_path / str(number)).write_bytes(b"x" * (1 << 17))
        os.utime(tmp_path / str(number), ns=(0, TIMES[1]))
    names = [b"%d" % number for number in range(9)]
    done, data = pack(tmp_path, *names, room=1 << 19)
    assert (done, len(data)) == (3, 3 * (512 + (1 << 17)))
    assert pack(tmp_path, *names, room=1000) == (0, b"")
    assert pack(tmp_path, *names, used=ROOM) == (0, bytes(ROOM))
    assert pack(tmp_path) == (0, b"")


def test_wrong_arguments_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="more bytes are used"):
        pack(tmp_path, used=ROOM + 1)
    with pytest.raises(ValueError, match="more bytes are used"):
        pack(tmp_path, used=-1)
    with pytest.raises(ValueError, match="null"):
        pack(tmp_path, b"a\0b")
    with pytest.raises(TypeError):
        kernels.pack(0, b"", (b"a",), b"read-only", 0)
    assert kernels.pack(-1, b"", (b"a",), bytearray(ROOM), 0) == (0, 0)
