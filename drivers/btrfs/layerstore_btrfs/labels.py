"""SELinux labels on a layer's files: no mount option can give them, since a subvolume is not mounted."""

from __future__ import annotations

import errno
import os
from typing import Final

from layerstore_core.errors import DriverNotSupported

_ATTRIBUTE: Final = "security.selinux"


def relabel(root: int, path: str, label: str) -> None:
    """Give every file below an open directory, and that itself, a label.

    Args:
        root: a descriptor of it.
        path: where it is, for messages.
        label: the label.

    Raises:
        DriverNotSupported: the file system or the user cannot set labels.
    """
    # As the kernel keeps it, with the zero byte at its end.
    value = label.encode() + b"\0"
    try:
        os.setxattr(root, _ATTRIBUTE, value)
        for _, directories, files, fd in os.fwalk(".", dir_fd=root):
            for name in directories + files:
                # There is no setxattrat before Linux 6.13: by the descriptor's path, and no link is followed.
                os.setxattr(f"/proc/self/fd/{fd}/{name}", _ATTRIBUTE, value, follow_symlinks=False)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EPERM, errno.EACCES, errno.EINVAL):
            raise DriverNotSupported(
                f"the SELinux label {label!r} cannot be set on {path} ({error.strerror}); "
                "see whether SELinux is enabled and knows the label, or leave the mount label out"
            ) from error
        raise
