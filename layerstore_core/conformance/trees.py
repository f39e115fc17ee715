"""The files of a mounted tree, the files that a layer's entries should make, and the differences of both."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final

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
#: The mode bits that an owner needs to read a file again, by its kind.
_RIGHTS_TO_READ: Final = {"file": 0o400, "directory": 0o700, "fifo": 0o400}
#: Content of more bytes than this is represented by its length and digest.
_SHOWN: Final = 64
#: The number of differences that a message has.
_FIRST: Final = 6


@dataclass(frozen=True, slots=True)
class Node:
    """One file with all that the contract demands. Equal files are the same for every user of a layer.

    Attributes:
        content: the content of a regular file, or its length and sha256 if it is long.
        names: the paths of a hard-linked file in this tree. Empty for a file with one path.
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
    """Read all files of a tree."""
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
            prefix = path + b"/" if path else b""
            pending += [prefix + name for name in os.listdir(os.path.join(top, path))]
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
    """Return content in the form that a `Node` has it."""
    if len(content) <= _SHOWN:
        return content
    return b"%d bytes, sha256 %b" % (len(content), hashlib.sha256(content).hexdigest().encode())


def expected_tree(items: Iterable[Item]) -> Tree:
    """Return the tree that a base layer of some items has to show. Later items replace earlier ones of the same name.

    Every directory must come before the files in it, and there must be no whiteouts. The result has the root only if an
    item names it.
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
    """Return the same tree, with the modes that let the owner read all of it.

    A driver without root's rights sets these modes.
    """
    return {path: replace(node, mode=node.mode | _RIGHTS_TO_READ.get(node.kind, 0)) for path, node in tree.items()}


def differences(found: Tree, wanted: Tree, *, root: bool = True) -> list[str]:
    """Return the differences of two trees, one line each.

    Args:
        found: the actual tree.
        wanted: the expected tree.
        root: whether to compare the root's own metadata.
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
            lines += _of_nodes(name, found[path], wanted[path])
    return lines


def _of_nodes(name: str, found: Node, wanted: Node) -> list[str]:
    return [
        f"{name}: {one.name} is {_show(one.name, found)}, not {_show(one.name, wanted)}"
        for one in fields(Node)
        if getattr(found, one.name) != getattr(wanted, one.name)
    ]


def _show(name: str, node: Node) -> str:
    value = getattr(node, name)
    if name == "mode":
        return f"{value:#o}"
    return repr(sorted(value)) if name == "names" else repr(value)


def must_be(found: Tree, wanted: Tree, what: str, *, root: bool = True) -> None:
    """Fail if two trees differ. The message has the first differences.

    Args:
        found: the actual tree.
        wanted: the expected tree.
        what: a description of the tree, for the message.
        root: whether to compare the root's own metadata.
    """
    lines = differences(found, wanted, root=root)
    assert not lines, "\n  ".join([f"{what}:", *first_of(lines)])


def first_of(lines: list[str]) -> list[str]:
    """Return the first differences, and how many more there are."""
    return [*lines[:_FIRST], f"and {len(lines) - _FIRST} more"] if len(lines) > _FIRST + 1 else lines


def summary_of_differences(found: Any, wanted: Any) -> list[str]:
    """Return what differs in two trees, or two nodes, as pytest shows it after a comparison."""
    if isinstance(found, Node):
        return [f"{found.kind} == {wanted.kind}, where", *first_of(_of_nodes("it", found, wanted))]
    return ["both trees are the same, where", *first_of(differences(found, wanted))]


def expected_changes(after: Tree, before: Tree) -> list[Change]:
    """Return the expected result of `changes` for two trees, by the rules in the contract."""
    found: dict[bytes, ChangeKind] = {}
    for path, node in after.items():
        if path not in before:
            found[path] = ChangeKind.ADD
        elif _differ(node, before[path]):
            found[path] = ChangeKind.MODIFY
    for path in before:
        if path not in after:
            parent = path.rpartition(b"/")[0]
            # A directory that is deleted, or replaced by a file, stands for all that was in it.
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
    """Return the paths of a tree, without its root."""
    return tree.keys() - {b""}
