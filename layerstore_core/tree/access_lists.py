"""POSIX access lists (acl(5)). New files may inherit one from their directory, and an access list contains the mode."""

from __future__ import annotations

import errno
import itertools
import os
import struct
from collections.abc import Callable, Iterable
from typing import Final

from layerstore_core.tree.idmap import IDMapping, shifted

ACCESS: Final = b"system.posix_acl_access"
DEFAULT: Final = b"system.posix_acl_default"
_NOT_THERE: Final = (errno.ENODATA, errno.ENOTSUP)

# linux/posix_acl_xattr.h: a version, then tag, permissions and ID of each entry.
_HEADER: Final = struct.Struct("<I")
_ENTRY: Final = struct.Struct("<HHI")
_USER_OBJ, _GROUP_OBJ, _MASK, _OTHER = 1, 4, 16, 32
_USER, _GROUP = 2, 8
_NAMED: Final = (_USER, _GROUP)
_NO_ID: Final = (1 << 32) - 1


def remove_access_lists(target: int | str | bytes) -> None:
    """Remove the access lists of a file: those that it has inherited from the directory that it was made in.

    Args:
        target: a descriptor or a path. If the path ends in a symbolic link, the link is followed.

    Raises:
        OSError: they cannot be removed.
    """
    for name in ACCESS, DEFAULT:
        try:
            os.removexattr(target, name)
        except OSError as error:
            if error.errno not in _NOT_THERE:
                raise


def stored_form(value: bytes, mode: int | None = None) -> tuple[bytes | None, int]:
    """Return what the kernel stores of an access list, and the permission bits that a file has with it.

    Args:
        value: the attribute `ACCESS`, as a tar has it. The kernel has accepted it.
        mode: permission bits that the file was given afterwards.

    Returns:
        The attribute, `None` if the permission bits say the same; and the bits.
    """
    entries = {}
    for tag, bits, one in _ENTRY.iter_unpack(value[_HEADER.size :]):
        entries[tag, one if tag in _NAMED else _NO_ID] = bits
    group = (_MASK if (_MASK, _NO_ID) in entries else _GROUP_OBJ, _NO_ID)
    owner, other = (_USER_OBJ, _NO_ID), (_OTHER, _NO_ID)
    if mode is not None:
        entries.update({owner: mode >> 6 & 7, group: mode >> 3 & 7, other: mode & 7})
    shown = entries[owner] << 6 | entries[group] << 3 | entries[other]
    if len(entries) == 3:
        return None, shown
    return value[: _HEADER.size] + b"".join(_ENTRY.pack(tag, bits, one) for (tag, one), bits in entries.items()), shown


def named_ids(value: bytes) -> tuple[list[int], list[int]]:
    """Return the IDs of the users and of the groups that an access list names; none if it is malformed."""
    found: dict[int, list[int]] = {_USER: [], _GROUP: []}
    for tag, _, one in _entries(value):
        if tag in _NAMED and one != _NO_ID:
            found[tag].append(one)
    return found[_USER], found[_GROUP]


def shift_ids(value: bytes, mapping: IDMapping, *, to_host: bool) -> bytes:
    """Return an access list with the host's IDs in place of the layer's, or the other way round.

    Raises:
        ValueError: an ID is in no range of the mapping.
    """
    if not mapping:
        return value
    return _with_ids(
        value,
        lambda one: shifted(mapping.uids, one, "uid", to_host=to_host),
        lambda one: shifted(mapping.gids, one, "gid", to_host=to_host),
    )


def numbered(value: bytes) -> bytes:
    """Return an access list with numbers in place of the IDs, to compare lists of different user namespaces."""
    numbers = itertools.count()
    return _with_ids(value, lambda _: next(numbers), lambda _: next(numbers))


def _entries(value: bytes) -> Iterable[tuple[int, int, int]]:
    body = value[_HEADER.size :]
    return () if len(value) < _HEADER.size or len(body) % _ENTRY.size else _ENTRY.iter_unpack(body)


def _with_ids(value: bytes, user: Callable[[int], int], group: Callable[[int], int]) -> bytes:
    """Return an access list with other IDs of its named users and groups; as it is if it is malformed."""
    new = []
    for tag, bits, one in _entries(value):
        named = tag in _NAMED and one != _NO_ID
        new.append(_ENTRY.pack(tag, bits, (user if tag == _USER else group)(one) if named else one))
    return value[: _HEADER.size] + b"".join(new) if new else value
