"""The Unix socket that the server listens on, if it is not one of systemd."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from layerstore_core import LayerStoreError
from layerstore_core.errors import while_doing

_BACKLOG: Final = 128
#: The longest path of a Unix socket, in bytes: sockaddr_un of unix(7) has 108, with a zero at the end.
_LONGEST: Final = 107
_CONNECT_SECONDS: Final = 5


@contextmanager
def listening(address: Path, mode: int) -> Iterator[socket.socket]:
    """Listen on a path for the length of a `with` block. A socket that a dead server has left there is replaced.

    Args:
        address: the path.
        mode: the mode of the socket: who may connect.

    Raises:
        LayerStoreError: another server listens there, or something else is there, or the path is too long.
        OSError: the socket cannot be made.
    """
    if len(os.fsencode(address)) > _LONGEST:
        raise LayerStoreError(f"the path of the socket, {address}, is longer than {_LONGEST} bytes; name a shorter one")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with listener:
        with while_doing(f"making the socket {address}"):
            address.parent.mkdir(parents=True, exist_ok=True)
            with _locked(address.parent):
                _remove_stale(address)
                before = os.umask(0o777 & ~mode)
                try:
                    listener.bind(str(address))
                except OSError as error:
                    error.filename = str(address)
                    raise
                finally:
                    os.umask(before)
                made = _identity(address)
            listener.listen(_BACKLOG)
        try:
            yield listener
        finally:
            with suppress(FileNotFoundError):
                if _identity(address) == made:  # otherwise it is another server's
                    address.unlink()


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Lock a directory, so that two servers do not both replace a stale socket."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _remove_stale(address: Path) -> None:
    try:
        mode = os.lstat(address).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise LayerStoreError(f"{address} is no socket; remove it, or name another address")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_CONNECT_SECONDS)
        try:
            probe.connect(str(address))
        except (ConnectionRefusedError, FileNotFoundError):
            with suppress(FileNotFoundError):
                address.unlink()
            return
        except (TimeoutError, BlockingIOError):
            pass  # it listens, and is busy
    raise LayerStoreError(f"another server listens on {address}; stop it first, or name another address")


def _identity(path: Path) -> tuple[int, int]:
    status = os.lstat(path)
    return status.st_dev, status.st_ino
