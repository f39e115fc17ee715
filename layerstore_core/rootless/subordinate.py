"""The user and group IDs that an ordinary user may map into a user namespace: subuid(5), subgid(5)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

_MAX_ID: Final = (1 << 32) - 1
#: The kernel takes this many lines in a mapping, the one of the own ID among them (user_namespaces(7)).
_MAX_RANGES: Final = 340 - 1
USERS: Final = "/etc/subuid"
GROUPS: Final = "/etc/subgid"


@dataclass(frozen=True, slots=True)
class SubordinateIDs:
    """The subordinate IDs of one user, as pairs of a first ID and a count."""

    users: tuple[tuple[int, int], ...]
    groups: tuple[tuple[int, int], ...]

    def __bool__(self) -> bool:
        return bool(self.users and self.groups)


def subordinate_ids(uid: int) -> SubordinateIDs:
    """Return the subordinate IDs of a user; none if the files cannot be read."""
    keys = {str(uid)}
    if name := _name_of(uid):
        keys.add(name)
    return SubordinateIDs(_ranges(USERS, keys), _ranges(GROUPS, keys))


def mapping(own: int, ranges: tuple[tuple[int, int], ...]) -> list[tuple[int, int, int]]:
    """Return the lines of a mapping: the own ID as 0, and the ranges one after another from 1 on.

    Returns:
        For each line the first ID inside, the first ID outside, and the count.
    """
    lines = [(0, own, 1)]
    inside = 1
    for start, count in ranges:
        lines.append((inside, start, count))
        inside += count
    return lines


def _name_of(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


def _ranges(path: str, keys: set[str]) -> tuple[tuple[int, int], ...]:
    """Return the ranges of a user in one file. As in shadow, a line that is malformed is passed over."""
    found = []
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                name, *numbers = line.strip().split(":")
                if name in keys and len(numbers) == 2 and all(n.isascii() and n.isdigit() for n in numbers):
                    start, count = map(int, numbers)
                    if count and start + count <= _MAX_ID:
                        found.append((start, count))
    except OSError:
        return ()
    return tuple(found[:_MAX_RANGES])


def program(name: str) -> str | None:
    """Return the path of `newuidmap` or `newgidmap`; `None` if it is not installed."""
    import shutil

    # An ordinary user's PATH may lack the directories of the system.
    return shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/bin", "/bin", "/usr/sbin")))
