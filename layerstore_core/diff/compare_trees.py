"""Comparison of two trees, with a worker process if they are large."""

from __future__ import annotations

import os
from typing import Any, Final

from layerstore_core.diff import compare_worker
from layerstore_core.diff.change import Change, TouchedPaths
from layerstore_core.diff.compare import Comparison
from layerstore_core.diff.stamps import Stamps
from layerstore_core.diff.tasks import Answer, Task, pack_tasks
from layerstore_core.workers.share import share

#: One process compares this many entries before it is worth starting a worker.
_ENTRIES_BEFORE_WORKER: Final = 4000


def compare_trees(
    upper: str | os.PathLike[str],
    lower: str | os.PathLike[str] | None,
    *,
    touched: TouchedPaths | None = None,
    stamps: Stamps | None = None,
    root_owner: tuple[int, int] | None = None,
) -> list[Change]:
    """Return the changes that make `lower` into `upper`, sorted by path.

    An added directory is reported with everything in it. A deleted directory is reported alone. The root is reported
    only if its own mode, owner or attributes differ. Against an empty tree it is compared with the root of a new base
    layer: mode 0755, no attributes, `root_owner`.

    If neither `touched` nor `stamps` is given and the trees are large, a worker process compares a part of them: see
    `diff.compare_worker`.

    Args:
        upper: the changed tree. A file that vanishes from it meanwhile counts as deleted.
        lower: the tree that `upper` was made from; `None` for an empty one: then everything is added.
        touched: the paths of `upper` that may differ from `lower`. `upper` is a snapshot of `lower` then, on a file
            system that keeps inode numbers in snapshots. Nothing else is looked at. `None`: unknown.
        stamps: the stamps of `upper`, from a time when it was equal to `lower`, which has not changed since. Files that
            still have their stamps are not read. `None`: unknown; files of equal status are then compared by content,
            unless they are the same inode.
        root_owner: user and group of an empty tree's root on this host; `None`: the caller's.

    Raises:
        OSError: something cannot be read; the error names the path.
    """
    with Comparison(upper, lower, touched, stamps, root_owner) as comparison:
        waiting = comparison.start()
        comparison.compare(waiting, up_to=_ENTRIES_BEFORE_WORKER)
        if len(waiting) > 1 and stamps is None and touched is None:
            _compare_with_worker(comparison, waiting)
        comparison.compare(waiting)
        return comparison.finish()


def _compare_with_worker(comparison: Comparison, waiting: list[Task]) -> None:
    """Compare directories together with a worker, if one can be started; leave the rest in `waiting`."""
    roots = comparison.root_fds()
    process = compare_worker.start(*roots) if roots else None
    if process is None:
        return

    def take(message: Any) -> list[Task]:
        answer = Answer.of(message)
        comparison.merge(answer)
        return answer.left

    with process:
        # If the worker fails, its part is compared here, and an error that it has met occurs again.
        waiting += share(waiting, process, lambda: comparison.compare(waiting, up_to=1), pack=pack_tasks, take=take)
