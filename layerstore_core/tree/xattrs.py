"""Extended attributes of files, as far as they belong to a layer."""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

#: What a mounted overlay keeps for itself, and the host's security policy says of each file.
_HOSTS_OWN: Final = ("trusted.overlay.", "user.overlay.", "security.selinux")


def read_xattrs(target: int | str | bytes) -> dict[bytes, bytes]:
    """The extended attributes of a file by their full names, sorted; without those that are the host's own.

    Left out are overlayfs's (`trusted.overlay.*`, `user.overlay.*`) and the SELinux label.

    Args:
        target: a descriptor, or a path, of which a symbolic link at the end is not followed.
    """
    return _values(target, list_xattrs(target))


def same_xattrs(one: int | str | bytes, other: int | str | bytes) -> bool:
    """Whether `read_xattrs` of two files gives the same."""
    first, second = list_xattrs(one), list_xattrs(other)
    return not (first or second) or _values(one, first) == _values(other, second)


def list_xattrs(target: int | str | bytes) -> list[str]:
    """The names of a file's extended attributes; none where the file system knows no such thing."""
    try:
        return os.listxattr(target, follow_symlinks=isinstance(target, int))
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return []
        raise


def _values(target: int | str | bytes, names: list[str]) -> dict[bytes, bytes]:
    follow = isinstance(target, int)
    return {
        os.fsencode(name): os.getxattr(target, name, follow_symlinks=follow)
        for name in sorted(names)
        if not name.startswith(_HOSTS_OWN)
    }


def set_xattr(target: int | str | bytes, name: bytes | str, value: bytes, *, follow_symlinks: bool = True) -> None:
    """Set an extended attribute, also of a file that its owner may not write, and who is its owner.

    Args:
        target: a descriptor or a path.
        name: the attribute's full name.
        value: what it is to hold.
        follow_symlinks: for a path: whether a link's target is meant.

    Raises:
        OSError: the attribute cannot be set.
    """
    try:
        os.setxattr(target, name, value, follow_symlinks=follow_symlinks)
    except PermissionError:
        mode = stat.S_IMODE(os.stat(target, follow_symlinks=follow_symlinks).st_mode)
        if mode & stat.S_IWUSR:
            raise
        # The kernel asks an ordinary owner for the right to write, which he can give himself.
        os.chmod(target, mode | stat.S_IWUSR)
        try:
            os.setxattr(target, name, value, follow_symlinks=follow_symlinks)
        finally:
            os.chmod(target, mode)
