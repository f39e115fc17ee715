"""Copy of a whole tree, with a worker process if the tree is large."""

from __future__ import annotations

import errno
import os
from typing import Any, Final

from layerstore_core.base.descriptors import open_fd
from layerstore_core.log import logger
from layerstore_core.tree import copy_worker
from layerstore_core.tree.access_lists import remove_access_lists
from layerstore_core.tree.copy import NEW_FILE, Copier
from layerstore_core.tree.copy_tasks import Answer, Defaults
from layerstore_core.tree.walk import TreeWalk
from layerstore_core.workers.share import share

#: One process copies this many entries before it is worth starting a worker.
_ENTRIES_BEFORE_WORKER: Final = 3000


def copy_tree(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Copy everything in the directory `source`, and its own metadata, into the empty directory `target`.

    Content is shared (reflinked) if the file system can do that, else copied by the kernel. Without the rights of root,
    owners, devices and privileged attributes are left out, and one warning says so. A worker process copies a part of a
    large tree: see `tree.copy_worker`.

    Raises:
        OSError: something cannot be read or made. The target is then incomplete, and the caller has to remove it.
    """
    with TreeWalk(source) as here, TreeWalk(target) as there:
        copier = Copier(here, there, _learn_defaults(there.fd))
        waiting = [b""]
        copier.copy(waiting, up_to=_ENTRIES_BEFORE_WORKER)
        if len(waiting) > 1:
            _copy_with_worker(copier, waiting, here, there)
        copier.copy(waiting)
        copier.finish()
    for what, count in copier.left_out.items():
        logger.warning(
            "{}: left out of the copy of {}, because this process lacks the rights: {} ({} times)",
            os.fsdecode(there.root),
            os.fsdecode(here.root),
            what,
            count,
        )


def _copy_with_worker(copier: Copier, waiting: list[bytes], source: TreeWalk, target: TreeWalk) -> None:
    """Copy directories together with a worker, if one can be started.

    Raises:
        OSError: something cannot be read or made, in either process, or the worker has died.
    """
    process = copy_worker.start(source, target, copier.defaults)
    if process is None:
        return

    def take(message: Any) -> list[bytes]:
        answer = Answer.of(message)
        copier.apply_answer(answer)
        return answer.left

    with process:
        if share(waiting, process, lambda: copier.copy(waiting, up_to=1), pack=list, take=take):
            # What the worker has made of its part is in the way of making it here.
            raise ChildProcessError(
                errno.ECHILD,
                "the process that copies a part of a tree has died; try again",
                os.fsdecode(target.root),
            )


def _learn_defaults(fd: int) -> Defaults:
    """Find out which mode and owner a new file gets in the target, an empty directory. Make it inherit nothing."""
    remove_access_lists(fd)
    os.fchmod(fd, 0o700)
    name = b".layerstore-copy"
    probe = open_fd(name, NEW_FILE, 0o777, dir_fd=fd)
    try:
        status = os.fstat(probe)
    finally:
        os.close(probe)
        os.unlink(name, dir_fd=fd)
    return Defaults(0o7000 | (0o777 & ~status.st_mode), (status.st_uid, status.st_gid))
