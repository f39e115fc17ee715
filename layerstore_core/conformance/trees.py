"""What a mounted tree shows, what a layer's entries should make of it, and how the two differ."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Final

from layerstore_core.conformance.tars import Item
from layerstore_core.diff.change import Change, ChangeKind
from layerstore_core.tar.entry import EntryType
from layerstore_core.tree.xattrs import read_xattrs

_KINDS: Final = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symbolic link",
    stat.S_IFIFO: "fifo",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
    stat.S_IFSOCK: "socket",
}
_OF_ENTRIES: Final = {
    EntryType.FILE: "file",
    EntryType.DIR: "directory",
    EntryType.SYMLINK: "symbolic link",
    EntryType.FIFO: "fifo",
    EntryType.CHAR: "character device",
    EntryType.BLOCK: "block device",
}
#: What an owner needs, to read a file of a kind again.
_RIGHTS_TO_READ: Final = {"file": 0o400, "directory": 0o700, "fifo": 0o400}
#: Longer content is told by its digest.
_SHOWN: Final = 64


@dataclass(frozen=True, slots=True)
class Node:
    """One file as the contract knows it; two that are equal are the same to every user of a layer.

    Attributes:
        content: of a regular file: what it holds, or its length and sha256 if that is long.
        names: the names of this tree by which the file goes, if there are several.
    """

    kind: str
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    content: bytes = b""
    target: bytes = b""
    device: tuple[int, int] = (0, 0)
    xattrs: Mapping[bytes, bytes] = field(default_factory=dict)
    names: frozenset[bytes] = frozenset()


#: The files of a tree by path, relative to its root (which is `b""`).
Tree = dict[bytes, Node]


def read_tree(root: str) -> Tree:
    """All that is in a tree."""
    top = os.fsencode(root)
    tree: Tree = {}
    inodes: dict[tuple[int, int], set[bytes]] = {}
    statuses: dict[bytes, os.stat_result] = {}
    pending = [b""]
    while pending:
        path = pending.pop()
        status = os.lstat(os.path.join(top, path) if path else top)
        statuses[path] = status
        if stat.S_ISDIR(status.st_mode):
            below = path + b"/" if path else b""
            pending += [below + name for name in os.listdir(os.path.join(top, path))]
        elif status.st_nlink > 1:
            inodes.setdefault((status.st_dev, status.st_ino), set()).add(path)
    for path, status in sorted(statuses.items()):
        names = inodes.get((status.st_dev, status.st_ino), set()) if not stat.S_ISDIR(status.st_mode) else set()
        tree[path] = _read_node(os.path.join(top, path) if path else top, status, names)
    return tree


def _read_node(path: bytes, status: os.stat_result, names: set[bytes]) -> Node:
    kind = _KINDS[stat.S_IFMT(status.st_mode)]
    content = b""
    if kind == "file":
        with open(path, "rb") as file:
            content = shown(file.read())
    is_device = kind in ("character device", "block device")
    return Node(
        kind=kind,
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        mtime_ns=status.st_mtime_ns,
        content=content,
        target=os.readlink(path) if kind == "symbolic link" else b"",
        device=(os.major(status.st_rdev), os.minor(status.st_rdev)) if is_device else (0, 0),
        xattrs=read_xattrs(path),
        names=frozenset(names) if len(names) > 1 else frozenset(),
    )


def shown(content: bytes) -> bytes:
    """Content as a `Node` has it."""
    if len(content) <= _SHOWN:
        return content
    return b"%d bytes, sha256 %b" % (len(content), hashlib.sha256(content).hexdigest().encode())


def expected_tree(items: Iterable[Item]) -> Tree:
    """What a base layer of these items shows: each item as it says, later ones in the place of earlier.

    Only for items whose directories are named before what is in them, and without whiteouts. The root is left
    out unless an item names it.
    """
    tree: Tree = {}
    links: dict[bytes, set[bytes]] = {}
    for item in items:
        entry = item.entry
        name = entry.name.strip(b"/")
        name = b"" if name == b"." else name
        if entry.type is EntryType.HARDLINK:
            group = links.setdefault(entry.linkname, {entry.linkname})
            group.add(name)
            links[name] = group
            tree[name] = tree[entry.linkname]
            continue
        is_device = entry.type in (EntryType.CHAR, EntryType.BLOCK)
        tree[name] = Node(
            kind=_OF_ENTRIES[entry.type],
            mode=entry.mode,
            uid=entry.uid,
            gid=entry.gid,
            mtime_ns=entry.mtime_ns,
            content=shown(item.content),
            target=entry.linkname,
            device=(entry.devmajor, entry.devminor) if is_device else (0, 0),
            xattrs=dict(entry.xattrs),
        )
    for name, group in links.items():
        tree[name] = replace(tree[name], names=frozenset(group))
    return tree


def readable(tree: Tree) -> Tree:
    """The same tree, but that its owner may read all of it: a driver without root's rights gives itself that right."""
    return {path: replace(node, mode=node.mode | _RIGHTS_TO_READ.get(node.kind, 0)) for path, node in tree.items()}


def differences(found: Tree, wanted: Tree, *, root: bool = True) -> list[str]:
    """How `found` differs from `wanted`, a line each; nothing where they are the same.

    Args:
        found: what there is.
        wanted: what there should be.
        root: whether the root's own metadata count.
    """
    lines = []
    for path in sorted(found.keys() | wanted.keys()):
        if path == b"" and not (root and b"" in wanted):
            continue
        name = repr(os.fsdecode(b"/" + path))
        if path not in found:
            lines.append(f"{name} is missing (a {wanted[path].kind})")
        elif path not in wanted:
            lines.append(f"{name} should not be there (a {found[path].kind})")
        else:
            lines += [
                f"{name}: {one.name} is {_show(one.name, found[path])}, not {_show(one.name, wanted[path])}"
                for one in fields(Node)
                if getattr(found[path], one.name) != getattr(wanted[path], one.name)
            ]
    return lines


def _show(name: str, node: Node) -> str:
    value = getattr(node, name)
    if name == "mode":
        return f"{value:#o}"
    return repr(sorted(value)) if name == "names" else repr(value)


def must_be(found: Tree, wanted: Tree, what: str, *, root: bool = True) -> None:
    """Fail with all differences, unless there are none.

    Args:
        found: what there is.
        wanted: what there should be.
        what: of what the tree is, for the message.
        root: whether the root's own metadata count.
    """
    lines = differences(found, wanted, root=root)
    assert not lines, f"{what}:\n  " + "\n  ".join(lines[:20]) + (f"\n  and {len(lines) - 20} more" * (len(lines) > 20))


def expected_changes(after: Tree, before: Tree) -> list[Change]:
    """What `changes` has to say of two trees, by the rules of its docstring in the contract."""
    found: dict[bytes, ChangeKind] = {}
    for path, node in after.items():
        if path not in before:
            found[path] = ChangeKind.ADD
        elif _differ(node, before[path]):
            found[path] = ChangeKind.MODIFY
    for path in before:
        if path not in after:
            parent = path.rpartition(b"/")[0]
            # A directory that is deleted, or is no directory any more, stands for all that was in it.
            if parent == b"" or (parent in after and after[parent].kind == "directory"):
                found[path] = ChangeKind.DELETE
    for path in list(found):
        parent = path.rpartition(b"/")[0]
        while parent:
            found.setdefault(parent, ChangeKind.MODIFY)
            parent = parent.rpartition(b"/")[0]
    return [Change(b"/" + path, kind) for path, kind in sorted(found.items())]


def _differ(one: Node, other: Node) -> bool:
    ignored = {"mtime_ns"} if one.kind == other.kind == "directory" else set()
    return any(getattr(one, f.name) != getattr(other, f.name) for f in fields(Node) if f.name not in ignored)


def names_of(tree: Tree) -> set[bytes]:
    """The paths of a tree, without its root."""
    return tree.keys() - {b""}
