"""Breaking of links between trees: a layer's hard link to a file that another tree shares gets a copy of the file."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests import tars
from tests.conftest import needs_root
from tests.pipeline import round_trip

CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")


@pytest.fixture
def parent(root: Path, tmp_path: Path) -> Path:
    """A tree whose files are hard-linked into `root`."""
    parent = tmp_path / "parent"
    (parent / "d").mkdir(parents=True)
    (parent / "d/file").write_bytes(b"content")
    os.setxattr(parent / "d/file", "user.k", b"v")
    os.link(parent / "d/file", parent / "twin")
    (parent / "alone").write_bytes(b"alone")
    (parent / "alone").chmod(0o4755)
    os.mkfifo(parent / "fifo")
    (parent / "symlink").symlink_to("nowhere")
    with open(parent / "sparse", "wb") as sparse:
        sparse.truncate(1 << 40)
        sparse.seek(1 << 39)
        sparse.write(b"data")
    (root / "d").mkdir()
    for name in ("d/file", "twin", "alone", "fifo", "symlink", "sparse"):
        os.link(parent / name, root / name, follow_symlinks=False)
    return parent


def state(tree: Path) -> object:
    """Return what a layer must not change: everything but the number of links."""
    found = {}
    for path in sorted(tree.rglob("*")):
        status = path.lstat()
        attributes = {
            name: os.getxattr(path, name, follow_symlinks=False) for name in os.listxattr(path, follow_symlinks=False)
        }
        found[path] = (
            status.st_mode,
            status.st_ino,
            status.st_uid,
            status.st_gid,
            status.st_mtime_ns,
            status.st_size,
            attributes,
        )
    return found, (tree / "d/file").read_bytes(), (tree / "alone").read_bytes()


@pytest.mark.parametrize(
    ("target", "names"),
    [
        ("d/file", ["d/file", "twin"]),
        ("twin", ["d/file", "twin"]),
        ("alone", ["alone"]),
        ("fifo", ["fifo"]),
        ("sparse", ["sparse"]),
    ],
)
def test_a_link_target_gets_its_own_inode_under_all_its_names(
    parent: Path, root: Path, target: str, names: list[str]
) -> None:
    before = state(parent)
    content = (parent / target).read_bytes() if target not in ("fifo", "sparse") else None
    twice = [
        tars.hard_link(name, target.encode(), mode=0o640, mtime=mtime) for name, mtime in ((b"new", 5), (b"last", 6))
    ]
    unpacked = round_trip(tars.tar(*twice), root, break_links=True)
    assert state(parent) == before
    assert unpacked.size == 0
    made = (root / target).lstat()
    assert made.st_ino != (parent / target).lstat().st_ino
    assert (stat.S_IMODE(made.st_mode), made.st_mtime, made.st_nlink) == (0o640, 6, len(names) + 2)
    for name in (*names, "new", "last"):
        assert (root / name).lstat().st_ino == made.st_ino
    if content is not None:
        assert (root / target).read_bytes() == content
    assert made.st_size == (parent / target).lstat().st_size
    assert made.st_blocks <= (parent / target).lstat().st_blocks
    if target == "d/file":
        assert os.getxattr(root / "twin", "user.k") == b"v"
    assert sorted(os.listdir(root)) == sorted({*os.listdir(parent), "new", "last"})
    shared = {"d/file", "twin", "alone", "fifo", "symlink", "sparse"} - {*names}
    assert all((root / name).lstat().st_ino == (parent / name).lstat().st_ino for name in shared)


def test_names_that_the_layer_has_replaced_are_not_relinked(parent: Path, root: Path) -> None:
    parts = [
        tars.entry(b"twin", b"the layer's"),
        tars.entry(b"d/.wh.other"),
        tars.hard_link(b"new", b"d/file", mtime=9),
    ]
    unpacked = round_trip(tars.tar(*parts), root, break_links=True)
    assert ((root / "twin").read_bytes(), (root / "new").read_bytes()) == (b"the layer's", b"content")
    assert (parent / "twin").stat().st_nlink == 2
    assert unpacked.size == len(b"the layer's")


def test_the_layers_own_files_and_symbolic_links_are_linked_without_a_copy(parent: Path, root: Path) -> None:
    parts = [
        tars.entry(b"own", b"x"),
        tars.hard_link(b"own2", b"own"),
        tars.hard_link(b"own3", b"own2"),
        tars.hard_link(b"symlink2", b"symlink", mode=0o600, mtime=5),
    ]
    before = state(parent)
    round_trip(tars.tar(*parts), root, break_links=True)
    assert (root / "own").stat().st_nlink == 3
    assert (root / "symlink2").lstat().st_ino == (parent / "symlink").lstat().st_ino
    assert state(parent) == before


@needs_root
@pytest.mark.parametrize("owner", [0, 1000])
def test_a_hard_link_entry_keeps_capabilities_and_set_id_bits(root: Path, owner: int) -> None:
    records = tars.pax([(b"SCHILY.xattr.security.capability", CAPABILITY), (b"SCHILY.xattr.user.k", b"v")])
    file = records + tars.entry(b"ping", b"x", mode=0o6755)
    round_trip(tars.tar(file, tars.hard_link(b"ping2", b"ping", mode=0o6711, uid=owner, gid=owner)), root)
    round_trip(tars.tar(tars.hard_link(b"ping3", b"ping2", mode=0o4711, uid=owner, gid=1)), root)
    for name in ("ping", "ping2", "ping3"):
        status = (root / name).stat()
        assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o4711, owner, 1)
        assert os.getxattr(root / name, "security.capability") == CAPABILITY
        assert os.getxattr(root / name, "user.k") == b"v"
