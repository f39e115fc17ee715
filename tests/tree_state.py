"""Trees of files as values that tests can compare."""

from __future__ import annotations

import os
import stat
from pathlib import Path

_LETTERS = {
    stat.S_IFREG: "f",
    stat.S_IFDIR: "d",
    stat.S_IFLNK: "l",
    stat.S_IFCHR: "c",
    stat.S_IFBLK: "b",
    stat.S_IFIFO: "p",
    stat.S_IFSOCK: "s",
}


def paths(root: Path) -> list[bytes]:
    """Return every path below `root`, sorted; no link is followed."""
    top = os.fsencode(root)
    return sorted(
        os.path.relpath(os.path.join(where, name), top)
        for where, directories, files in os.walk(top)
        for name in directories + files
    )


def letter(mode: int) -> str:
    """Return the letter of a file's type, as `find -printf %y` prints it."""
    return _LETTERS[stat.S_IFMT(mode)]


def contents(root: Path) -> dict[str, str | bytes]:
    """Return the content of each path: a file's bytes, `-> target` for a link, else the type's letter."""
    found: dict[str, str | bytes] = {}
    for path in paths(root):
        full = os.path.join(os.fsencode(root), path)
        status = os.lstat(full)
        kind = letter(status.st_mode)
        if kind == "f":
            with open(full, "rb") as file:
                value: str | bytes = file.read()
        else:
            value = f"-> {os.fsdecode(os.readlink(full))}" if kind == "l" else kind
        found[os.fsdecode(path)] = value
    return found


def everything(root: Path) -> dict[bytes, tuple[object, ...]]:
    """Return everything that can be read of a tree, with the times that a change would set."""
    found: dict[bytes, tuple[object, ...]] = {}
    for path in [b".", *paths(root)]:
        full = os.path.join(os.fsencode(root), path)
        status = os.lstat(full)
        content = b""
        if stat.S_ISREG(status.st_mode):
            with open(full, "rb") as file:
                content = file.read()
        found[path] = (
            *(status.st_ino, status.st_mode, status.st_uid, status.st_gid, status.st_size, status.st_nlink),
            *(status.st_mtime_ns, status.st_ctime_ns, content),
            tuple(sorted((name, os.getxattr(full, name, follow_symlinks=False)) for name in _xattrs(full))),
        )
    return found


def _xattrs(path: bytes) -> list[str]:
    return os.listxattr(path, follow_symlinks=False)
