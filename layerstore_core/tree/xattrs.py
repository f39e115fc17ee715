"""Extended attributes of files, as far as they belong to a layer."""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

#: Attributes that overlayfs keeps for itself, and the label that the host's security policy sets on each file.
_HOSTS_OWN: Final = ("trusted.overlay.", "user.overlay.", "security.selinux")


def read_xattrs(target: int | str | bytes) -> dict[bytes, bytes]:
    """Return the extended attributes of a file by their full names, sorted, without those that belong to the host.

    The host's are those of overlayfs (`trusted.overlay.*`, `user.overlay.*`) and the SELinux label.

    Args:
        target: a descriptor or a path. A symbolic link at the end of a path is not followed.
    """
    return _values(target, list_xattrs(target))


def same_xattrs(one: int | str | bytes, other: int | str | bytes) -> bool:
    """Return whether `read_xattrs` returns the same for two files."""
    first, second = list_xattrs(one), list_xattrs(other)
    return not (first or second) or _values(one, first) == _values(other, second)


def list_xattrs(target: int | str | bytes) -> list[str]:
    """Return the names of a file's extended attributes; none if the file system does not support them."""
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
    """Set an extended attribute, even if the file's owner may not write to it and this process is that owner.

    Args:
        target: a descriptor or a path.
        name: the attribute's full name.
        value: the value to set.
        follow_symlinks: whether a symbolic link at the end of a path is followed.

    Raises:
        OSError: the attribute cannot be set.
    """
    try:
        os.setxattr(target, name, value, follow_symlinks=follow_symlinks)
    except PermissionError:
        mode = stat.S_IMODE(os.stat(target, follow_symlinks=follow_symlinks).st_mode)
        if mode & stat.S_IWUSR:
            raise
        # The kernel requires an ordinary owner to have the right to write. The owner can grant it to himself.
        os.chmod(target, mode | stat.S_IWUSR)
        try:
            os.setxattr(target, name, value, follow_symlinks=follow_symlinks)
        finally:
            os.chmod(target, mode)
