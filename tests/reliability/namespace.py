"""A mount namespace of one's own: what is mounted in it goes with the process, however that ends."""

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
    """Let the kernel kill this process when the one that started it dies."""
    _libc.prctl(_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)


def enter_own_mounts() -> None:
    """Leave the mount namespace for a copy of it, from which nothing gets out.

    Raises:
        OSError: this needs the rights of root.
    """
    die_with_parent()
    _check(_libc.unshare(_NEW_MOUNTS))
    _check(_libc.mount(None, b"/", None, _RECURSIVE | _PRIVATE, None))


def _check(result: int) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
