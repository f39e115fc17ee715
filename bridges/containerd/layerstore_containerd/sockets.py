"""The socket at which clients find the server: how it gets its name, and when another one may be replaced.

gRPC listens at another name than the one that clients know, and removes a socket that has this other name. The socket
then gets its real name. So no client meets one that is not ready, and a server that ends never removes the socket of
another.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from layerstore_core.errors import ConfigError, LayerStoreError
from layerstore_core.sdk import open_fd

#: `sun_path` of unix(7) has 108 bytes, one of them for the null character.
_LONGEST: Final = 107
#: Seconds to wait for another server that is starting at this address, and for an answer of the one that listens there.
_PATIENCE: Final = 5
#: Only root, or the user who runs the server, may use it: a client can have any layer, and fill the disk.
_MODE: Final = 0o600


class AddressInUse(LayerStoreError):
    """Something listens at the address already, or what is there is no socket."""


def parse_address(word: str) -> Path:
    """Return the path of a socket: `/PATH`, or `unix:///PATH` as containerd's clients write it.

    Raises:
        ConfigError: it is no path, or too long for a socket.
    """
    path = word
    if word.startswith("unix:"):
        path = word.removeprefix("unix:")
        path = path.removeprefix("//") if path.startswith("///") else path
    elif "://" in word:
        raise ConfigError(
            f"the address {word!r} is no unix socket; give a path, such as /run/layerstore/snapshotter.sock"
        )
    if not path or path.endswith("/") or "\0" in path:
        raise ConfigError(
            f"the address {word!r} names no socket; give a path, such as /run/layerstore/snapshotter.sock"
        )
    found = Path(os.path.abspath(path))
    if len(os.fsencode(listening_path(found))) > _LONGEST:
        longest = _LONGEST - len(os.fsencode(listening_path(found))) + len(os.fsencode(found))
        raise ConfigError(
            f"the address {str(found)!r} is too long for a socket: {longest} bytes at most; give a shorter path"
        )
    return found


def listening_path(path: Path) -> Path:
    """Return the name at which gRPC listens, in the directory of the one that clients know."""
    return path.with_name(f".{path.name}.new")


@contextmanager
def starting_at(path: Path, *, is_named: bool = False) -> Iterator[None]:
    """Keep other servers from starting at an address in a block, and check before that none is there.

    Args:
        path: the address. Its directory is made, for its owner only, if it does not exist.
        is_named: the address is that of a socket that this process has got, and only gRPC's own has to be free.

    Raises:
        AddressInUse: another server listens there, or starts there; or something else has this name.
        OSError: the socket cannot be made there.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path.parent)) from None
    directory = open_fd(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _lock(directory, path)
        for place in (listening_path(path),) if is_named else (path, listening_path(path)):
            _check_free(place)
        _try_to_listen(listening_path(path))
        yield
    finally:
        os.close(directory)  # this also unlocks it


@contextmanager
def private_files() -> Iterator[None]:
    """Make files and sockets in a block that only this user can use. It counts for all threads."""
    former = os.umask(0o777 & ~_MODE)
    try:
        yield
    finally:
        os.umask(former)


def publish(path: Path) -> tuple[int, int]:
    """Give the socket at which gRPC listens its real name.

    Returns:
        What `withdraw` needs: the device and the number of the inode.
    """
    listening = listening_path(path)
    status = listening.stat()
    listening.replace(path)
    return status.st_dev, status.st_ino


def withdraw(path: Path, identity: tuple[int, int]) -> None:
    """Remove the name of a socket, if it is still the one that `publish` has put there."""
    try:
        status = path.lstat()
        if (status.st_dev, status.st_ino) == identity:
            path.unlink()
    except FileNotFoundError:
        pass


def _lock(directory: int, path: Path) -> None:
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise AddressInUse(
                    f"another process has locked {path.parent} for {_PATIENCE} seconds; give an address in a directory "
                    "of your own, with --address"
                ) from None
            time.sleep(0.02)
        else:
            return


def _check_free(path: Path) -> None:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise AddressInUse(f"{path} exists, and is no socket; remove it, or give another address, with --address")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as client:
        client.settimeout(_PATIENCE)
        try:
            client.connect(str(path))
        except ConnectionRefusedError:
            return  # no process listens: a server that was killed has left it
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ETIMEDOUT) and not isinstance(error, TimeoutError):
                raise OSError(error.errno, error.strerror, str(path)) from None
    raise AddressInUse(
        f"another server listens at {path}; stop it, or give another address, with --address (its process: "
        f"'ss -xlp src {path}')"
    )


def _try_to_listen(path: Path) -> None:
    """Make a socket and remove it. What gRPC says if it cannot make one is not for people."""
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as trial:
        try:
            trial.bind(str(path))
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path.parent)) from None
    path.unlink()
