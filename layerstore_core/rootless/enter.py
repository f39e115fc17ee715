"""Move this process into a user namespace with mounts of its own."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from typing import Final

from layerstore_core.base.descriptors import Descriptor
from layerstore_core.base.threads import rest
from layerstore_core.errors import UserNamespaceError
from layerstore_core.log import logger
from layerstore_core.rootless import syscalls
from layerstore_core.rootless.rights import Missing, missing_to_mount

#: How often threads are looked for that Python has seen end, and the pause in between, in seconds.
_LOOKS: Final = 200
_PAUSE: Final = 0.005


def enter() -> bool:
    """Move this process into a namespace in which it may mount, if it may not mount where it is.

    An ordinary user's process becomes root of a user namespace. It is the namespace of the user's other processes that
    have called this, as long as one of them lives; otherwise a new one. Root of a user namespace without mounts of its
    own gets those. Environment, current directory, open files and locks stay as they are.

    Returns:
        Whether the process was moved.

    Raises:
        UserNamespaceError: the kernel refuses, or the process has several threads. The process is where it was.
    """
    missing = missing_to_mount()
    if missing is Missing.NOTHING:
        return False
    if missing is Missing.MOUNTS:
        try:
            syscalls.leave_to_new(syscalls.NEW_MOUNTS)
        except OSError as error:
            raise UserNamespaceError(f"this user namespace can get no mounts of its own: {error.strerror}") from error
        logger.debug("entered a mount namespace")
        return True
    _require_single_thread()
    from layerstore_core.rootless.create import new_namespace, open_namespaces
    from layerstore_core.rootless.members import locked_members

    with locked_members(os.geteuid()) as members:
        for pid in members.living():
            with suppress(OSError):
                _move(*open_namespaces(pid))
                logger.debug("entered the user namespace of process {}", pid)
                break
        else:
            with new_namespace() as pid:
                try:
                    _move(*open_namespaces(pid))
                except OSError as error:
                    raise UserNamespaceError(f"a new user namespace cannot be entered: {error.strerror}") from error
                logger.debug("entered a new user namespace")
        members.add_this()
    return True


def _move(users: Descriptor, mounts: Descriptor) -> None:
    """Enter namespaces that were opened before.

    Raises:
        OSError: the kernel refuses the user namespace; the process is where it was.
    """
    with users as user, mounts as mount:
        try:
            here = os.getcwd()
        except FileNotFoundError:  # it was deleted
            here = None
        with Descriptor(os.open, ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) as current:
            syscalls.move_to(user, syscalls.NEW_USER)
            try:
                syscalls.move_to(mount, syscalls.NEW_MOUNTS)
            except OSError:  # there is no way back out of the user namespace
                syscalls.leave_to_new(syscalls.NEW_MOUNTS)
            # The kernel has moved the process to `/`. By its path, the directory shows the mounts of the namespace.
            try:
                if here is None:
                    os.fchdir(current)
                else:
                    os.chdir(here)
            except OSError:  # a directory above it is closed to this user
                os.fchdir(current)


def _require_single_thread() -> None:
    """Refuse a process with several threads, which the kernel lets enter no user namespace.

    Raises:
        UserNamespaceError: there are several.
    """
    rest()
    with suppress(FileNotFoundError):
        threads = len(os.listdir("/proc/self/task"))
        for _ in range(_LOOKS):
            if threads == 1 or threading.active_count() > 1:
                break
            time.sleep(_PAUSE)  # a thread that was joined may not have left the kernel yet
            threads = len(os.listdir("/proc/self/task"))
        if threads > 1:
            raise UserNamespaceError(
                f"this process has {threads} threads, and only one with a single thread can enter a user namespace: "
                "enter it before any thread is started"
            )
