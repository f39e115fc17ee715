"""SELinux labels on a layer's files.

They are set file by file: a subvolume is not mounted, so no mount option sets them.
"""

from __future__ import annotations

import errno
import os
from typing import Final

from layerstore_core.errors import DriverNotSupported

_ATTRIBUTE: Final = "security.selinux"


def relabel(root: int, path: str, label: str) -> None:
    """Set the label of a directory and of every file in its tree.

    Args:
        root: a descriptor of the directory.
        path: its path, for messages.
        label: the label.

    Raises:
        DriverNotSupported: the file system or the user cannot set labels.
    """
    # The kernel stores a label with a NUL byte at its end.
    value = label.encode() + b"\0"
    try:
        os.setxattr(root, _ATTRIBUTE, value)
        for _, directories, files, fd in os.fwalk(".", dir_fd=root):
            for name in directories + files:
                # Linux before 6.13 has no setxattrat(2), so the path goes through the descriptor. No link is followed.
                os.setxattr(f"/proc/self/fd/{fd}/{name}", _ATTRIBUTE, value, follow_symlinks=False)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EPERM, errno.EACCES, errno.EINVAL):
            raise DriverNotSupported(
                f"the SELinux label {label!r} cannot be set on {path} ({error.strerror}); "
                "check that SELinux is enabled and knows the label, or leave the mount label out"
            ) from error
        raise
