"""Comparing two trees, with a second process if they are large."""

from __future__ import annotations

import os
from typing import Any, Final

from layerstore_core.diff import compare_worker
from layerstore_core.diff.change import Change, TouchedPaths
from layerstore_core.diff.compare import Comparison
from layerstore_core.diff.stamps import Stamps
from layerstore_core.diff.tasks import Answer, Task, pack_tasks
from layerstore_core.workers.share import share

#: So many entries one process compares before it is worth starting a second one.
_ENTRIES_BEFORE_WORKER: Final = 4000


def compare_trees(
    upper: str | os.PathLike[str],
    lower: str | os.PathLike[str] | None,
    *,
    since_ns: int | None = None,
    touched: TouchedPaths | None = None,
    stamps: Stamps | None = None,
    root_owner: tuple[int, int] | None = None,
) -> list[Change]:
    """The changes that make `lower` into `upper`, sorted by path.

    A directory that is added comes with all that is in it; one that is deleted stands for all that was in
    it. The root itself is named only where its own mode, owner or attributes differ; against an empty tree, from those of
    a new base layer: mode 0755, no attributes, `root_owner`.

    Where nothing is known and the trees are large, a second process compares a part of them: see `diff.compare_worker`.

    Args:
        upper: the changed tree. What vanishes from it meanwhile counts as deleted.
        lower: the tree it began as; `None` for an empty one: then everything is added.
        since_ns: no longer used, since a clock that is set back tells no order; `stamps` has taken its place.
        touched: what of `upper`, a snapshot of `lower` on a file system that keeps inode numbers in
            snapshots, may differ from `lower`. Nothing else is looked at. `None`: nothing is known.
        stamps: those of `upper`, from when it was equal to `lower`, which has not changed since. What still has its stamp
            is passed over unread. `None`: nothing is known, and files of equal status are compared by their content, unless
            they are one file.
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
    """Compare directories together with a second process, if one can be had; what that could not do is left."""
    roots = comparison.root_fds()
    process = compare_worker.start(*roots) if roots else None
    if process is None:
        return

    def take(message: Any) -> list[Task]:
        answer = Answer.of(message)
        comparison.merge(answer)
        return answer.left

    with process:
        # Should it fail, it is done here, and an error that it has met comes up again.
        waiting += share(waiting, process, lambda: comparison.compare(waiting, up_to=1), pack=pack_tasks, take=take)
