"""Copying a whole tree, with a second process if it is large."""

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

#: So many entries one process copies before it is worth starting a second one.
_ENTRIES_BEFORE_WORKER: Final = 3000


def copy_tree(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Copy everything in the directory `source`, and its own metadata, into the empty directory `target`.

    Content is shared (reflinked) where the file system can, else copied by the kernel. Without the rights of
    root, owners, devices and privileged attributes are left out, and one warning says so. Of a large tree, a second
    process copies a part: see `tree.copy_worker`.

    Raises:
        OSError: something cannot be read or made; the target is then incomplete, and the caller's to remove.
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
            "{}: left out of the copy of {}, for want of rights: {} ({} times)",
            os.fsdecode(there.root),
            os.fsdecode(here.root),
            what,
            count,
        )


def _copy_with_worker(copier: Copier, waiting: list[bytes], source: TreeWalk, target: TreeWalk) -> None:
    """Copy directories together with a second process, if one can be had.

    Raises:
        OSError: something cannot be read or made, in either process, or the other one has died.
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
            # Whatever it has made of that is in the way of doing it here.
            raise ChildProcessError(
                errno.ECHILD,
                "the process that copies a part of a tree has died; try again",
                os.fsdecode(target.root),
            )


def _learn_defaults(fd: int) -> Defaults:
    """Find out which mode and owner a new file gets by itself in the target, an empty directory; it inherits nothing."""
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
