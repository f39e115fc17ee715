"""An own mount namespace for a process, whose mounts end with the process, however it ends."""

from __future__ import annotations

import ctypes
import os
import signal
from typing import Final

_NEW_MOUNTS: Final = 0x00020000
_RECURSIVE, _PRIVATE = 1 << 14, 1 << 18
_DEATH_SIGNAL: Final = 1
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    """Let the kernel kill this process when its parent process dies."""
    _libc.prctl(_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)


def enter_own_mounts() -> None:
    """Enter a copy of the mount namespace. Its mounts do not show in the original.

    Raises:
        OSError: the process has not the rights of root, which this needs.
    """
    die_with_parent()
    _check(_libc.unshare(_NEW_MOUNTS))
    _check(_libc.mount(None, b"/", None, _RECURSIVE | _PRIVATE, None))


def _check(result: int) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
