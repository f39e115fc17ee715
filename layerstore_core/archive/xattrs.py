"""Extended attributes of files, as far as they belong to a layer."""

from __future__ import annotations

import errno
import os
from typing import Final

#: What a mounted overlay keeps for itself, and the host's security policy says of each file.
_HOSTS_OWN: Final = ("trusted.overlay.", "user.overlay.", "security.selinux")


def read_xattrs(target: int | str | bytes) -> dict[bytes, bytes]:
    """The extended attributes of a file by their full names, sorted; without those that are the host's own.

    Left out are overlayfs's (`trusted.overlay.*`, `user.overlay.*`) and the SELinux label.

    Args:
        target: a descriptor, or a path, of which a symbolic link at the end is not followed.
    """
    by_path = not isinstance(target, int)
    try:
        names = os.listxattr(target, follow_symlinks=not by_path)
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return {}
        raise
    return {
        os.fsencode(name): os.getxattr(target, name, follow_symlinks=not by_path)
        for name in sorted(names)
        if not name.startswith(_HOSTS_OWN)
    }
