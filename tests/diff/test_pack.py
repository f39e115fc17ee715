"""Packing of trees and changes: the tar's entries, and the same tree when it is unpacked."""

from __future__ import annotations

import io
import os
import socket
import stat
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given

from layerstore_core.diff.change import Change, ChangeKind
from layerstore_core.diff.compare_trees import compare_trees
from layerstore_core.diff.pack import pack_changes, pack_tree
from layerstore_core.diff.stamps import change_clock
from layerstore_core.errors import ConfigError
from layerstore_core.log import logger
from layerstore_core.streams.iterstream import IterStream
from layerstore_core.streams.source import LayerSource
from layerstore_core.tar.layer_stream import LayerStream
from layerstore_core.tar.scanner import TarScanner
from layerstore_core.tree.copy_tree import copy_tree
from layerstore_core.tree.idmap import IDMapping, IDRange
from layerstore_core.tree.remove import remove_tree
from layerstore_core.tree.xattrs import read_xattrs
from layerstore_core.unpack.unpacker import unpack_layer
from tests.trees import Tree, build, pairs, snapshot, trees
from tests.without_kernels import plain_way

MIB = 1 << 20


def unpack(tar: bytes, root: Path) -> None:
    with LayerSource(io.BytesIO(tar), spool_dir=root.parent) as source:
        unpack_layer(LayerStream(TarScanner(source.read_chunk)), str(root))


def tar_of(root: Path, **options: object) -> bytes:
    return b"".join(pack_tree(root, **options))  # type: ignore[arg-type]


def names(tar: bytes) -> list[str]:
    """Return the names of the entries in the tar's order, with the slash of directories."""
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        return [member.name + "/" * member.isdir() for member in archive]


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    messages: list[str] = []
    sink = logger.add(lambda message: messages.append(str(message)), format="{message}")
    logger.enable("layerstore_core")
    yield messages
    logger.disable("layerstore_core")
    logger.remove(sink)


@given(tree=trees())
def test_a_packed_tree_unpacks_to_the_same_tree(tree: Tree) -> None:
    with tempfile.TemporaryDirectory() as name:
        root, other = build(Path(name, "root"), tree), Path(name, "other")
        other.mkdir()
        tar = tar_of(root)
        unpack(tar, other)
        assert snapshot(other) == snapshot(root)
        assert compare_trees(other, root) == []
        assert tar_of(other) == tar
        assert b"".join(pack_changes(root, compare_trees(root, None))) == tar


@given(pair=pairs())
def test_packed_changes_make_the_lower_tree_into_the_upper(pair: tuple[Tree, Tree]) -> None:
    with tempfile.TemporaryDirectory() as name:
        lower, upper = build(Path(name, "lower"), pair[0]), build(Path(name, "upper"), pair[1])
        applied = Path(name, "applied")
        applied.mkdir()
        copy_tree(lower, applied)
        changes = compare_trees(upper, lower)
        unpack(b"".join(pack_changes(upper, changes)), applied)
        assert snapshot(applied, directory_times=False) == snapshot(upper, directory_times=False)
        reported = {change.path.lstrip(b"/") for change in changes}
        times = snapshot(applied), snapshot(upper)
        assert not [path for path in reported & set(times[1]) if times[0][path] != times[1][path]]


@given(tree=trees())
def test_gnu_tar_and_tarfile_list_the_same_names(tree: Tree) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = build(Path(name, "root"), tree)
        tar = tar_of(root)
        expected = sorted(snapshot(root))
        # In other locales GNU tar would quote names. With these options it prints one escaped name a line.
        listed = subprocess.run(
            ["tar", "-tf", "-", "--quoting-style=escape"],
            input=tar,
            capture_output=True,
            check=True,
            env={"LC_ALL": "C"},
        )
        assert listed.stderr == b""
        assert [unescape(line.removesuffix(b"/")) for line in listed.stdout.splitlines()] == expected
        with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
            assert [os.fsencode(member.name) for member in archive] == expected


def unescape(line: bytes) -> bytes:
    return line.decode("ascii").encode().decode("unicode_escape").encode("latin-1")


def test_entries_are_sorted_by_the_bytes_of_their_paths(root: Path) -> None:
    for path in ("a/c", "a-b", "a0"):
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).touch()
    assert names(tar_of(root)) == ["a/", "a-b", "a/c", "a0"]


def test_deletions_and_opaque_directories_are_whiteouts(root: Path) -> None:
    (root / "dir").mkdir()
    (root / "dir/new").touch()
    changes = [
        Change(b"/dir/new", ChangeKind.ADD),
        Change(b"/dir", ChangeKind.MODIFY),
        Change(b"/old/gone", ChangeKind.DELETE),
        Change(b"/gone", ChangeKind.DELETE),
    ]
    tar = b"".join(pack_changes(root, changes, opaque=[b"/dir"]))
    assert names(tar) == ["dir/", "dir/.wh..wh..opq", "dir/new", ".wh.gone", "old/.wh.gone"]


def test_the_roots_own_metadata_is_packed(root: Path, tmp_path: Path) -> None:
    root.chmod(0o711)
    tar = b"".join(pack_changes(root, [Change(b"/", ChangeKind.MODIFY)]))
    other = tmp_path / "other"
    other.mkdir(0o755)
    unpack(tar, other)
    assert other.stat().st_mode & 0o777 == 0o711
    assert other.stat().st_mtime_ns == root.stat().st_mtime_ns


def test_an_attribute_removed_from_a_directory_is_removed_by_the_layer(root: Path, tmp_path: Path) -> None:
    (root / "dir").mkdir()
    applied = tmp_path / "applied"
    applied.mkdir()
    copy_tree(root, applied)
    os.setxattr(applied / "dir", "user.old", b"1")
    unpack(b"".join(pack_changes(root, compare_trees(root, applied))), applied)
    assert os.listxattr(applied / "dir") == []


def test_hard_links_refer_to_the_first_name_in_the_tar(root: Path) -> None:
    (root / "z").write_bytes(b"content")
    os.link(root / "z", root / "b")
    with tarfile.open(fileobj=io.BytesIO(tar_of(root))) as archive:
        assert [(one.name, one.type, one.linkname) for one in archive] == [
            ("b", tarfile.REGTYPE, ""),
            ("z", tarfile.LNKTYPE, "b"),
        ]


def test_sockets_and_names_of_whiteouts_are_left_out_with_one_warning_each(root: Path, warnings: list[str]) -> None:
    with socket.socket(socket.AF_UNIX) as one, socket.socket(socket.AF_UNIX) as other:
        descriptor = os.open(root, os.O_RDONLY)
        one.bind(f"/proc/self/fd/{descriptor}/one")
        other.bind(f"/proc/self/fd/{descriptor}/other")
        os.close(descriptor)
    (root / ".wh.x").mkdir()
    (root / ".wh.x/inner").touch()
    (root / "kept").touch()
    tar = tar_of(root)
    assert names(tar) == ["kept"]
    assert b"".join(pack_changes(root, compare_trees(root, None))) == tar
    assert [line for line in warnings if "2 of its files: sockets" in line]
    assert [line for line in warnings if ".wh." in line]


@pytest.mark.parametrize("below", ["file", "directory", "link"])
def test_a_file_replaced_by_a_socket_gets_a_whiteout(
    root: Path, tmp_path: Path, below: str, warnings: list[str]
) -> None:
    lower = tmp_path / "lower"
    lower.mkdir()
    if below == "directory":
        (lower / "d").mkdir()
        (lower / "d" / "in").touch()
    elif below == "link":
        (lower / "d").symlink_to("anywhere")
    else:
        (lower / "d").touch()
    os.mknod(root / "d", stat.S_IFSOCK | 0o755)
    os.mknod(root / "new", stat.S_IFSOCK | 0o755)
    os.link(root / "d", root / "twin")
    assert names(b"".join(pack_changes(root, compare_trees(root, lower)))) == [".wh.d"]
    assert [line for line in warnings if "3 of its files: sockets" in line]


@pytest.mark.needs_root
def test_a_device_that_is_a_whiteout_to_overlayfs_is_left_out(root: Path, tmp_path: Path, warnings: list[str]) -> None:
    lower = tmp_path / "lower"
    lower.mkdir()
    (lower / "d").touch()
    for name in ("d", "new"):
        os.mknod(root / name, stat.S_IFCHR | 0o600, 0)
    os.mknod(root / "null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    assert names(b"".join(pack_changes(root, compare_trees(root, lower)))) == [".wh.d", "null"]
    assert [line for line in warnings if "2 of its files: character devices 0:0" in line]


def test_owners_are_shifted_to_the_layers_numbers(root: Path) -> None:
    (root / "file").touch()
    uid, gid = os.geteuid(), (root / "file").stat().st_gid
    mapping = IDMapping(uids=[IDRange(5, uid, 1)], gids=[IDRange(7, gid, 1)])
    with tarfile.open(fileobj=io.BytesIO(tar_of(root, id_mapping=mapping))) as archive:
        member = archive.next()
        assert member is not None
        assert (member.uid, member.gid, member.uname, member.gname) == (5, 7, "", "")


def test_an_owner_outside_the_mapping_is_an_error_that_names_the_file(root: Path) -> None:
    (root / "file").touch()
    with pytest.raises(ConfigError, match=r"root/file.*widen the ID mapping"):
        tar_of(root, id_mapping=IDMapping(uids=[IDRange(0, 4_000_000, 1)]))


def test_attributes_named_by_skip_xattrs_are_left_out(root: Path) -> None:
    (root / "file").touch()
    for name in ("user.kept", "user.skipped", "user.overlay.origin"):
        os.setxattr(root / "file", name, b"1")
    with tarfile.open(fileobj=io.BytesIO(tar_of(root, skip_xattrs=lambda name: name == b"user.skipped"))) as archive:
        member = archive.next()
        assert member is not None
        assert member.pax_headers.get("SCHILY.xattr.user.kept") == "1"
        assert not [key for key in member.pax_headers if "skipped" in key or "overlay" in key]


_ODD_ATTRIBUTES = {
    b"user.empty": b"",
    b"user.=equals==": b"1",
    b"user.%": b"2",
    b"user.%25": b"3",
    b"user.%3D": b"4",
    b"user.%3d%%25=%41": b"5",
    b"user.\nline \xff": b"\0\n=",
}


def test_attributes_of_any_name_and_without_value_are_unpacked_here_and_by_gnu_tar(root: Path, tmp_path: Path) -> None:
    (root / "file").touch()
    for name, value in _ODD_ATTRIBUTES.items():
        os.setxattr(root / "file", name, value)
    tar = tar_of(root)
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for copy in ours, theirs:
        copy.mkdir()
    unpack(tar, ours)
    subprocess.run(["tar", "--xattrs", "--xattrs-include=*", "-xf", "-", "-C", theirs], input=tar, check=True)
    for copy in ours, theirs:
        assert read_xattrs(os.fsencode(copy / "file")) == _ODD_ATTRIBUTES


def test_attributes_written_by_gnu_tar_are_read(root: Path, tmp_path: Path) -> None:
    (root / "file").touch()
    for name, value in _ODD_ATTRIBUTES.items():
        os.setxattr(root / "file", name, value)
    made = subprocess.run(["tar", "--xattrs", "-cf", "-", "-C", root, "file"], capture_output=True, check=True)
    (tmp_path / "copy").mkdir()
    unpack(made.stdout, tmp_path / "copy")
    assert read_xattrs(os.fsencode(tmp_path / "copy" / "file")) == _ODD_ATTRIBUTES


def test_holes_are_packed_as_zeros_in_chunks_of_bounded_size(root: Path) -> None:
    with open(root / "sparse", "wb") as file:
        file.seek(20 * MIB + 5)
        file.write(b"data")
        file.truncate(40 * MIB)
    chunks = list(pack_tree(root))
    assert max(len(chunk) for chunk in chunks) <= 2 * MIB
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
        content = archive.extractfile("sparse")
        assert content is not None
        data = content.read()
    assert data == bytes(20 * MIB + 5) + b"data" + bytes(20 * MIB - 9)


@pytest.mark.parametrize("size", [10, 5 * MIB])
@pytest.mark.parametrize("change", ["grows", "shrinks", "gets another time", "is rewritten, with its time restored"])
def test_a_file_that_is_changed_while_it_is_packed_is_an_error(
    root: Path, size: int, change: str, monkeypatch: pytest.MonkeyPatch, nothing_left_open: None
) -> None:
    path = root / "busy"
    path.write_bytes(b"x" * size)
    while change_clock(root.parent) <= path.stat().st_ctime_ns:
        pass  # the clock of ctimes ticks coarsely
    real = os.listxattr

    def interfere(*args: object, **more: object) -> list[str]:
        if change == "grows":
            os.truncate(path, size + 1)
        elif change == "shrinks":
            os.truncate(path, size - 1)
        elif change == "gets another time":
            os.utime(path, ns=(0, 0))
        else:
            time = path.stat().st_mtime_ns
            path.write_bytes(b"y" * size)
            os.utime(path, ns=(time, time))
        return real(*args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "listxattr", interfere)
    # The kernel leaves such a file to Python, which then says what is wrong.
    with plain_way(), pytest.raises(OSError, match=r"changed while it was packed.*root/busy"):
        tar_of(root)


def test_a_file_that_has_vanished_is_an_error_that_names_it(root: Path, nothing_left_open: None) -> None:
    with pytest.raises(FileNotFoundError, match="root/gone"):
        b"".join(pack_changes(root, [Change(b"/gone", ChangeKind.ADD)]))


def test_closing_the_stream_closes_all_descriptors(root: Path, nothing_left_open: None) -> None:
    (root / "dir").mkdir()
    (root / "dir/large").write_bytes(bytes(5 * MIB))
    with IterStream(pack_tree(root)) as stream:
        assert stream.read(10)
    with IterStream(pack_tree(root)):
        pass


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    """A directory whose content may be deeper than pytest can remove."""
    path = tmp_path / "deep"
    path.mkdir()
    yield path
    remove_tree(os.fsencode(path))


def test_trees_deeper_than_the_longest_path_are_packed(deep: Path, nothing_left_open: None) -> None:
    depth = 1200
    root, copy = deep / "root", deep / "copy"
    root.mkdir()
    copy.mkdir()
    here = os.open(root, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("directory", dir_fd=here)
        below = os.open("directory", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    copy_tree(root, copy)
    assert compare_trees(copy, root) == []
    assert len(compare_trees(copy, None)) == depth + 1
    tar = tar_of(copy)
    assert tar == tar_of(root)
    assert b"directory/" * depth + b"file" in tar
