"""What is mounted here."""

from __future__ import annotations

import os


def is_mount_point(path: str) -> bool:
    """Return whether a file system is mounted at a path, by the kernel's list: proc_pid_mountinfo(5)."""
    wanted = os.fsencode(os.path.realpath(path))
    with open("/proc/self/mountinfo", "rb") as lines:
        return any(_unescaped(line.split(b" ")[4]) == wanted for line in lines)


def _unescaped(field: bytes) -> bytes:
    for character in b" \t\n\\":
        field = field.replace(b"\\%03o" % character, bytes((character,)))
    return field
