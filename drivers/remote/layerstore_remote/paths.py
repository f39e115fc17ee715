"""Directories that a server names, as paths of this machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import layerstore_core
from layerstore_remote.errors import BadAnswer, ServerError, quoted

if TYPE_CHECKING:
    from layerstore_core import MountSpec

#: The types of mounts that drivers have.
_MOUNT_TYPES: Final = ("bind", "overlay")
#: Options of an overlay mount that are paths; several are separated by colons.
_OVERLAY_PATHS: Final = ("lowerdir", "upperdir", "workdir")


class ServerPaths:
    """Translates the paths of a server, and refuses those that it has no business to name.

    A server with fewer rights than this process could name any directory as the tree of a layer, and have this process
    write there. So an option says in which directory its trees are.

    Args:
        address: the server's socket.
        server_path: a directory as the server names it; `None`: as it is named here.
        local_path: the same directory as it is named here, which must have all trees; `None`: they may be anywhere.
    """

    def __init__(self, address: str, server_path: str | None, local_path: str | None) -> None:
        self._address = address
        self._local = local_path
        self._server = server_path if server_path is not None else local_path
        #: Whether the server's user may write everywhere that this process may.
        self.trusted = False

    def tree(self, path: str, seen: tuple[int, int] | None = None) -> str:
        """Return the directory that shows a layer's files.

        Args:
            path: the directory as the server names it.
            seen: its device and inode as the server sees them; `None` if it has not sent them.

        Raises:
            BadAnswer: it is no absolute path, or not in the directory where all trees are.
            ServerError: it is no directory here, or not the one that the server sees; or the server's user is not
                trusted to name it.
        """
        here = self.allowed(path)
        if not os.path.isdir(here) or (seen is not None and seen != _identity(here)):
            raise ServerError(
                f"the server at {self._address} has mounted a layer at {quoted(here)}, which is not to be seen here. "
                "If it runs in a container, or is a managed plugin, have its mounts propagated to this process, and "
                "name a directory as it is called there and here with the options server_path and local_path"
            )
        return here

    def allowed(self, path: str) -> str:
        """Return a path of the server's as it is named here, if the server may name it.

        Raises:
            BadAnswer: it is no absolute path, or not in the directory where all trees are.
            ServerError: the server's user is not trusted to name it.
        """
        here = self.translated(path)
        if self._local is None and not self.trusted:
            raise ServerError(
                f"the server at {self._address} belongs to a user who may write less than this process, and could have "
                "it write anywhere: name the directory in which the server keeps its layers with the option local_path"
            )
        if self._local is not None and not _is_in(os.path.realpath(here), os.path.realpath(self._local)):
            raise BadAnswer(
                f"the server at {self._address} names {quoted(here)}, outside of {self._local}, which the option "
                "local_path names: correct the option if the server is right"
            )
        return here

    def translated(self, path: str) -> str:
        """Return a path of the server's as it is named here. It need not exist.

        Raises:
            BadAnswer: it is no absolute path.
        """
        if not os.path.isabs(path) or "\0" in path or ".." in path.split("/"):
            raise BadAnswer(f"the server at {self._address} names {quoted(path)!r}, which is no absolute path")
        if self._server is not None and self._local is not None and _is_in(path, self._server):
            return os.path.normpath(self._local + path[len(self._server) :])
        return path

    def mount(self, kind: str, source: str, options: Sequence[str]) -> MountSpec:
        """Return how to mount a layer, with the paths in it as they are named here.

        Raises:
            BadAnswer, ServerError: as for `allowed`; or the type is none that drivers have.
        """
        if kind not in _MOUNT_TYPES:
            raise BadAnswer(
                f"the server at {self._address} wants a layer mounted as {quoted(kind)!r}; only "
                f"{' and '.join(_MOUNT_TYPES)} are accepted"
            )
        if kind == "bind":
            source = self.allowed(source)
        return layerstore_core.MountSpec(kind, source, tuple(map(self._option, options)))

    def _option(self, option: str) -> str:
        name, equals, value = option.partition("=")
        if not equals or name not in _OVERLAY_PATHS:
            return option
        return f"{name}={':'.join(map(self.allowed, value.split(':')))}"


def _identity(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _is_in(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")
