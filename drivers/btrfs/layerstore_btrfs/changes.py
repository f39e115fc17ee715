"""The changes in a snapshot, found in btrfs's own records at a cost that depends on the changes alone.

A snapshot shares its tree with its parent. Where one of the two is changed, btrfs copies the blocks on the way to the
change. Every block has the number of the transaction that wrote it. So a search for blocks that are newer than the
snapshot skips whole branches that both still share. The search finds more inodes than have changed, because items share
blocks. But each inode has the number of the transaction that last touched it.

A touched file may be unchanged: a new time of access is a touch. So its items in both trees are compared. The files
that remain are compared by the core, which decides what a change is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Final

from layerstore_btrfs import ioctl, search, subvolumes
from layerstore_btrfs.inodes import Tree
from layerstore_core import Change, TouchedPaths, compare_trees

#: How many inodes are fetched by one call.
_BATCH: Final = 1024
#: Inodes in gaps up to this size are fetched as well: that costs less than another call.
_GAP: Final = 16
#: The clock of ctimes ticks at least once in this many nanoseconds, with a margin.
_TICK: Final = 100_000_000


def changes_since_snapshot(upper: Path, lower: Path) -> list[Change] | None:
    """Return the changes from the subvolume `lower` to its snapshot `upper`, as `compare_trees` returns them.

    Returns:
        The changes. `None` if btrfs's records do not show them: `upper` is no snapshot of `lower`, one of them has
        other subvolumes inside, or the user may not search trees.
    """
    touched = touched_since_snapshot(upper, lower)
    return None if touched is None else compare_trees(upper, lower, touched=TouchedPaths(touched))


def touched_since_snapshot(upper: Path, lower: Path) -> set[bytes] | None:
    """Return the paths in `upper` that may differ from `lower`, for `TouchedPaths`.

    Returns:
        The paths, or `None` in the cases in which `changes_since_snapshot` returns it.
    """
    with subvolumes.opened(upper) as new, subvolumes.opened(lower) as old:
        try:
            info, parent = ioctl.subvol_info(new), ioctl.subvol_info(old)
            if not any(parent.uuid) or info.parent_uuid != parent.uuid:
                return None
            if any(subvolumes.nested(new, one.tree_id) for one in (info, parent)):
                return None
        except PermissionError:
            return None
        except OSError as error:
            if error.errno in ioctl.UNKNOWN_IOCTL:
                return None
            raise
        # Until a commit, the kernel keeps changes of inodes and file data in memory only.
        ioctl.sync(new)
        return _touched_paths(Tree(new), Tree(old), info.created, info.created_ns)


def _touched_paths(upper: Tree, lower: Tree, created: int, created_ns: int) -> set[bytes]:
    paths: set[bytes] = set()
    moved: list[int] = []
    for batch in _batches(sorted(_changed_inodes(upper, lower, created, created_ns))):
        before = lower.inodes(batch, last_type=search.INODE_EXTREF)
        for number, inode in upper.inodes(batch, last_type=search.INODE_EXTREF).items():
            paths.update(upper.paths(inode.names))
            if inode.is_directory and number in before and before[number].names != inode.names:
                moved.append(number)
    for names in _hard_links_in(upper, moved):
        paths.update(upper.paths(names))
    return paths


def _changed_inodes(upper: Tree, lower: Tree, created: int, created_ns: int) -> Iterator[int]:
    """Yield the inodes of the upper tree that differ from those of the lower one in more than their time of access."""
    # Both trees may have been touched since: reading files of the parent touches it, too.
    new, old = upper.touched_since(created + 1), lower.touched_since(created + 1)
    for tree, known, others in ((upper, new, old), (lower, old, new)):
        for batch in _batches(sorted(others.keys() - known.keys())):
            known.update(tree.states(batch))
    doubtful = []
    for number, state in new.items():
        if state != old.get(number):
            yield number
        elif state.ctime_ns > created_ns - _TICK:
            # Two changes can have the same ctime, one before the snapshot and one after it.
            doubtful.append(number)
    for batch in _batches(sorted(doubtful)):
        before = lower.inodes(batch)
        yield from (number for number, inode in upper.inodes(batch).items() if inode != before.get(number))


def _hard_links_in(tree: Tree, directories: Iterable[int]) -> Iterator[Collection[tuple[int, bytes]]]:
    """Yield the names of all hard-linked files in the trees of some directories."""
    seen: set[int] = set()
    pending = list(directories)
    while pending:
        directory = pending.pop()
        if directory in seen:
            continue
        seen.add(directory)
        directories_inside, others = tree.entries(directory)
        pending += directories_inside
        for batch in _batches(sorted(others - seen)):
            for number, inode in tree.inodes(batch, last_type=search.INODE_EXTREF).items():
                if inode.state.links > 1:
                    seen.add(number)
                    yield inode.names


def _batches(inodes: list[int]) -> Iterator[list[int]]:
    """Divide sorted inode numbers into batches that are fetched by one call each."""
    batch: list[int] = []
    for inode in inodes:
        if batch and (inode - batch[-1] > _GAP or len(batch) == _BATCH):
            yield batch
            batch = []
        batch.append(inode)
    if batch:
        yield batch
