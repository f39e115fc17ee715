"""Size of changes, as Docker counts it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable

from layerstore_core.diff.change import Change, ChangeKind
from layerstore_core.tree.walk import TreeWalk


def changed_usage(root: str, changes: Iterable[Change]) -> tuple[int, int]:
    """Return the bytes of added and changed regular files, and how many files of any type were added or changed.

    Each inode counts once.

    Args:
        root: the tree that was changed.
        changes: as `compare_trees` returns them.
    """
    size = files = 0
    seen: set[tuple[int, int]] = set()
    with TreeWalk(root) as tree:
        for change in changes:
            if change.kind is ChangeKind.DELETE:
                continue
            parent, _, base = change.path.strip(b"/").rpartition(b"/")
            status = os.stat(base or b".", dir_fd=tree.enter(parent), follow_symlinks=False)
            if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
                if (status.st_dev, status.st_ino) in seen:
                    continue
                seen.add((status.st_dev, status.st_ino))
            files += 1
            if stat.S_ISREG(status.st_mode):
                size += status.st_size
    return size, files
