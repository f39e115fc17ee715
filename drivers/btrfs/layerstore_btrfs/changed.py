"""What a snapshot has changed, from btrfs's own records, at a cost that follows the change.

A snapshot shares its tree with its parent, and copies only the blocks on the way to what is changed, in
it or in the parent. Every block carries the transaction that wrote it. So a search for what is newer
than the snapshot skips, whole branches at a time, what the two still share. What it finds is more than
has changed, since items share blocks, but each inode says which transaction touched it last.

What was touched may still be as it was (its time of access counts as a touch), so its items in both trees
are compared. What is left is compared as files by core, which so decides what a change is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Final

from layerstore_btrfs import ioctl, search, subvolumes
from layerstore_btrfs.inodes import Tree
from layerstore_core import Change, TouchedPaths, compare_trees

#: Inodes that are fetched at a time.
_RUN: Final = 1024
#: Fetching a few inodes in between costs less than another call.
_GAP: Final = 16
#: The clock of ctimes ticks at least this often, in nanoseconds, and with room to spare.
_TICK: Final = 100_000_000


def changes_since_snapshot(upper: Path, lower: Path) -> list[Change] | None:
    """The changes that make the subvolume `lower` into its snapshot `upper`, as `compare_trees` has them.

    Returns:
        The changes, or `None` where btrfs cannot tell: `upper` is no snapshot of `lower`, other subvolumes
        lie inside one of the two, or the user may not search trees.
    """
    touched = touched_since_snapshot(upper, lower)
    return None if touched is None else compare_trees(upper, lower, touched=TouchedPaths(touched))


def touched_since_snapshot(upper: Path, lower: Path) -> set[bytes] | None:
    """The paths in `upper` that may differ from `lower`, as `TouchedPaths` wants them; `None` as above."""
    with subvolumes.opened(upper) as new, subvolumes.opened(lower) as old:
        try:
            info, below = ioctl.subvol_info(new), ioctl.subvol_info(old)
            if not any(below.uuid) or info.parent_uuid != below.uuid:
                return None
            if any(subvolumes.nested(new, one.tree_id) for one in (info, below)):
                return None
        except PermissionError:
            return None
        except OSError as error:
            if error.errno in ioctl.UNKNOWN_IOCTL:
                return None
            raise
        # The kernel keeps changes of inodes aside, and file data in memory, until it commits.
        ioctl.sync(new)
        return _touched_paths(Tree(new), Tree(old), info.created, info.created_ns)


def _touched_paths(upper: Tree, lower: Tree, created: int, created_ns: int) -> set[bytes]:
    paths: set[bytes] = set()
    moved: list[int] = []
    for run in _runs(sorted(_changed_inodes(upper, lower, created, created_ns))):
        before = lower.inodes(run, last_type=search.INODE_EXTREF)
        for number, inode in upper.inodes(run, last_type=search.INODE_EXTREF).items():
            paths.update(upper.paths(inode.names))
            if inode.is_directory and number in before and before[number].names != inode.names:
                moved.append(number)
    for names in _linked_below(upper, moved):
        paths.update(upper.paths(names))
    return paths


def _changed_inodes(upper: Tree, lower: Tree, created: int, created_ns: int) -> Iterator[int]:
    """The inodes of the upper tree that are not, in all but their time of access, as they are in the lower one."""
    # Either tree may have been touched since: a parent, too, when its files are read.
    new, old = upper.touched_since(created + 1), lower.touched_since(created + 1)
    for tree, known, others in ((upper, new, old), (lower, old, new)):
        for run in _runs(sorted(others.keys() - known.keys())):
            known.update(tree.states(run))
    doubtful = []
    for number, state in new.items():
        if state != old.get(number):
            yield number
        elif state.ctime_ns > created_ns - _TICK:
            # The same ctime may be that of two changes, one before the snapshot and one after it.
            doubtful.append(number)
    for run in _runs(sorted(doubtful)):
        before = lower.inodes(run)
        yield from (number for number, inode in upper.inodes(run).items() if inode != before.get(number))


def _linked_below(tree: Tree, directories: Iterable[int]) -> Iterator[Collection[tuple[int, bytes]]]:
    """The names of all files with several that are in some directories, or below them."""
    seen: set[int] = set()
    pending = list(directories)
    while pending:
        directory = pending.pop()
        if directory in seen:
            continue
        seen.add(directory)
        inside, others = tree.entries(directory)
        pending += inside
        for run in _runs(sorted(others - seen)):
            for number, inode in tree.inodes(run, last_type=search.INODE_EXTREF).items():
                if inode.state.links > 1:
                    seen.add(number)
                    yield inode.names


def _runs(inodes: list[int]) -> Iterator[list[int]]:
    """Cut sorted inode numbers into pieces that are fetched at a time."""
    run: list[int] = []
    for inode in inodes:
        if run and (inode - run[-1] > _GAP or len(run) == _RUN):
            yield run
            run = []
        run.append(inode)
    if run:
        yield run
