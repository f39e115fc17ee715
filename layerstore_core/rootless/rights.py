"""What this process may do: mount, and act for root."""

from __future__ import annotations

import os
from enum import Enum
from typing import Final

from layerstore_core.rootless import syscalls

_SYS_ADMIN: Final = 1 << 21
#: The mapping of the first user namespace, in /proc/self/uid_map.
_EVERY_ID: Final = ["0", "0", str((1 << 32) - 1)]


class Missing(Enum):
    """What a process lacks in order to mount."""

    NOTHING = "nothing"
    #: The process is root of a user namespace, but its mounts belong to the namespace around it (`unshare -r`).
    MOUNTS = "mounts of its own"
    #: The process is an ordinary user's.
    USER = "a user namespace"


def missing_to_mount() -> Missing:
    """Return what this process lacks in order to mount. Root of a machine or of a container lacks nothing here.

    Root may still be refused, as in a container without privileges: a namespace would not help there.
    """
    if not _may_administrate():
        return Missing.USER if os.geteuid() else Missing.NOTHING
    try:
        owner = syscalls.owner_of_mounts()
        own = os.stat("/proc/self/ns/user").st_ino
    except OSError:  # no /proc, or a kernel before 4.9
        return Missing.NOTHING
    return Missing.NOTHING if owner == own else Missing.MOUNTS


def acts_for_root() -> bool:
    """Return whether this process acts for the root user of a machine or of a container.

    The root of `layerstore unshare`, `podman unshare` or `unshare -r` is an ordinary user, whose files are where that
    user's files are. There `/` belongs to a user without an ID.
    """
    if os.geteuid():
        return False
    try:
        with open("/proc/self/uid_map", encoding="ascii") as file:
            if file.readline().split() == _EVERY_ID:
                return True
        return os.stat("/").st_uid == 0
    except OSError:
        return True


def user_outside() -> int:
    """Return the ID of this process's user; for an ordinary user's own namespace, the ID outside of it."""
    uid = os.geteuid()
    if uid == 0 and acts_for_root():
        return uid
    try:
        with open("/proc/self/uid_map", encoding="ascii") as file:
            for inside, outside, length in (map(int, line.split()) for line in file):
                if inside <= uid < inside + length:
                    return outside + uid - inside
    except (OSError, ValueError):
        pass
    return uid


def has_one_user() -> bool:
    """Return whether this process is in a user namespace with a single user ID."""
    try:
        with open("/proc/self/uid_map", encoding="ascii") as file:
            lines = file.read().splitlines()
    except OSError:
        return False
    return len(lines) == 1 and lines[0].split()[2] == "1"


def _may_administrate() -> bool:
    try:
        with open("/proc/self/status", "rb") as file:
            effective = next(int(line.split()[1], 16) for line in file if line.startswith(b"CapEff:"))
    except (OSError, ValueError, StopIteration):
        return os.geteuid() == 0
    return bool(effective & _SYS_ADMIN)
