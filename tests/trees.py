"""Random trees of files: strategies, building, snapshots, and random changes.

Names, contents and times come from small pools, so that two trees often have equal files, or files with one difference.
"""

from __future__ import annotations

import os
import stat
import struct
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import strategies as st

PRIVILEGED = os.geteuid() == 0
HOLE = 1 << 17

NAMES = (
    b"a",
    b"b",
    b"a-b",
    b"c.d",
    "\u00fcml\u00e4ut".encode(),
    b"\xff\xfe raw",
    b"new\nline",
    b"n" * 100,
    b"\xc3\xa9" * 60,
    b"\x80" * 130,
    b"m" * 200,
)
TIMES = (0, 1_700_000_000_000_000_000, 1_700_000_000_123_456_789, 1_699_999_999_000_000_001, -1_500_000_000, -1)
CONTENTS = (b"", b"x", b"y", b"z" * 512, b"w" * 5000, bytes(3000))
XATTRS = ({}, {}, {}, {"user.one": b"1"}, {"user.one": b"2", "user.two": bytes(range(256)) * 3})
#: `cap_net_raw+ep`, as the kernel stores it (`linux/capability.h`, revision 2).
CAPABILITY = {"security.capability": struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)}


@dataclass(frozen=True)
class Node:
    """File of a tree. `content` is a file's bytes, a link's target, or the name that a hard link is made to."""

    type: str
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    content: bytes = b""
    hole: bool = False
    xattrs: dict[str, bytes] = field(default_factory=dict)


Tree = dict[bytes, Node]

_PATHS = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map(b"/".join)
_OWNERS = st.sampled_from([0, 0, 1000, 70000, 3_000_000_000] if PRIVILEGED else [0])
_ALL_XATTRS = (*XATTRS, CAPABILITY) if PRIVILEGED else XATTRS
_MODES = st.sampled_from([0o644, 0o600, 0o755, 0o4755, 0o6711, 0o1777])


def _nodes() -> st.SearchStrategy[Node]:
    common = {"uid": _OWNERS, "gid": _OWNERS, "mtime_ns": st.sampled_from(TIMES)}
    files = st.builds(
        Node,
        st.just("file"),
        mode=_MODES,
        content=st.sampled_from(CONTENTS),
        hole=st.booleans(),
        xattrs=st.sampled_from(_ALL_XATTRS),
        **common,
    )
    directories = st.builds(
        Node,
        st.just("dir"),
        mode=st.sampled_from([0o755, 0o700, 0o1777, 0o2750]),
        xattrs=st.sampled_from(XATTRS),
        **common,
    )
    symlinks = st.builds(
        Node,
        st.just("symlink"),
        content=st.sampled_from([b"a", b"b", b"/\xff", b"t" * 150, "\u00e9".encode()]),
        **common,
    )
    hard_links = st.builds(Node, st.just("hard link"), content=_PATHS)
    fifos = st.builds(Node, st.just("fifo"), mode=_MODES, **common)
    devices = st.builds(Node, st.sampled_from(["char", "block"]), mode=_MODES, **common)
    return st.one_of(files, files, directories, symlinks, hard_links, fifos, *([devices] if PRIVILEGED else []))


def trees() -> st.SearchStrategy[Tree]:
    """Return a strategy for trees with all types of files that this user can make."""
    return st.dictionaries(_PATHS, _nodes(), max_size=12)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Tree, Tree]:
    """Draw a lower tree, and an upper tree that keeps some of its files and has others."""
    lower = draw(trees())
    kept = {path: node for path, node in lower.items() if draw(st.integers(0, 3))}
    return lower, {**kept, **draw(trees())}


def build(root: Path, tree: Tree) -> Path:
    """Make the directory `root` with the files of `tree` in it. Impossible files (below another file) are left out."""
    top = os.fsencode(root)
    os.mkdir(top, 0o755)
    made = []
    for path, node in sorted(tree.items(), key=lambda item: (item[1].type == "hard link", item[0])):
        full = os.path.join(top, path)
        try:
            os.makedirs(os.path.dirname(full), exist_ok=True)
            if _make(top, full, node):
                made.append((full, node))
        except OSError:  # below a file, or a link to nowhere
            continue
    for directory, _, _ in os.walk(top):
        os.utime(directory, ns=(0, TIMES[1]))
    for full, node in sorted(made, key=lambda item: item[0], reverse=True):
        os.utime(full, ns=(node.mtime_ns, node.mtime_ns), follow_symlinks=False)
    return root


def _make(top: bytes, full: bytes, node: Node) -> bool:
    if node.type == "hard link":
        first = os.path.join(top, node.content)
        if os.path.lexists(first) and not stat.S_ISDIR(os.lstat(first).st_mode):
            os.link(first, full, follow_symlinks=False)
        return False
    if node.type == "symlink":
        os.symlink(node.content, full)
    elif node.type == "fifo":
        os.mkfifo(full)
    elif node.type in ("char", "block"):
        kind = stat.S_IFCHR if node.type == "char" else stat.S_IFBLK
        os.mknod(full, kind | 0o600, os.makedev(7, 300))
    elif node.type == "dir":
        os.mkdir(full)
    else:
        with open(full, "xb") as file:
            if node.hole:
                file.seek(HOLE)
            file.write(node.content)
            file.truncate()
    if PRIVILEGED:
        os.chown(full, node.uid, node.gid, follow_symlinks=False)
    if node.type != "symlink":
        os.chmod(full, node.mode)
    for name, value in node.xattrs.items():
        os.setxattr(full, name, value)
    return True


Snapshot = dict[bytes, tuple[object, ...]]


def snapshot(root: Path, *, directory_times: bool = True) -> Snapshot:
    """Return everything in a tree that a layer must keep, by path. A hard-linked file lists all its names."""
    found: Snapshot = {}
    names: dict[tuple[int, int], list[bytes]] = defaultdict(list)
    inodes: dict[bytes, tuple[int, int]] = {}
    top = os.fsencode(root)
    for where, directories, files in os.walk(top):
        for name in directories + files:
            full = os.path.join(where, name)
            path = os.path.relpath(full, top)
            status = os.lstat(full)
            content: object = None
            mtime: int | None = status.st_mtime_ns
            if stat.S_ISREG(status.st_mode):
                with open(full, "rb") as file:
                    content = file.read()
            elif stat.S_ISLNK(status.st_mode):
                content = os.readlink(full)
            elif stat.S_ISDIR(status.st_mode):
                mtime = mtime if directory_times else None
            else:
                content = status.st_rdev
            if not stat.S_ISDIR(status.st_mode):
                inodes[path] = (status.st_dev, status.st_ino)
                names[inodes[path]].append(path)
            xattrs = {
                key: os.getxattr(full, key, follow_symlinks=False) for key in os.listxattr(full, follow_symlinks=False)
            }
            found[path] = (status.st_mode, status.st_uid, status.st_gid, mtime, content, xattrs)
    return {path: (*what, sorted(names[inodes[path]]) if path in inodes else None) for path, what in found.items()}


STEPS = ("write", "rewrite", "chmod", "xattr", "unlink", "link", "rename", "swap", "create", "mkdir")


def steps() -> st.SearchStrategy[list[tuple[str, int, int]]]:
    """Return a strategy for the steps of `change`."""
    return st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 30), st.integers(0, 30)), max_size=8)


def change(root: Path, todo: list[tuple[str, int, int]]) -> None:
    """Change a tree in place, as a container's processes would. Impossible steps are skipped."""
    for step, one, other in todo:
        found = sorted(
            os.path.join(where, name) for where, below, files in os.walk(os.fsencode(root)) for name in below + files
        )
        if not found:
            return
        try:
            _change(step, found[one % len(found)], found[other % len(found)], root)
        except OSError:
            continue


def _change(step: str, path: bytes, other: bytes, root: Path) -> None:
    status = os.lstat(path)
    regular = stat.S_ISREG(status.st_mode)
    if step == "write" and regular:
        with open(path, "ab") as file:
            file.write(b"more")
    elif step == "rewrite" and regular and status.st_size:
        # The change that is hardest to notice: size and modification time stay the same.
        with open(path, "r+b") as file:
            file.write(b"?")
        os.utime(path, ns=(0, status.st_mtime_ns))
    elif step == "chmod" and not stat.S_ISLNK(status.st_mode):
        os.chmod(path, 0o711)
    elif step == "xattr" and regular:
        os.setxattr(path, "user.new", b"new")
    elif step == "unlink":
        os.unlink(path)
    elif step == "link":
        os.link(path, path + b"-linked", follow_symlinks=False)
    elif step == "rename":
        os.rename(path, other)
    elif step == "swap" and not path.startswith(other + b"/") and not other.startswith(path + b"/") and path != other:
        aside = os.path.join(os.fsencode(root), b"aside")
        os.rename(path, aside)
        os.rename(other, path)
        os.rename(aside, other)
    elif step == "create":
        with open(path + b"-new", "xb") as file:
            file.write(b"x")
    elif step == "mkdir":
        os.mkdir(path + b"-dir")
