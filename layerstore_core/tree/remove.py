"""Removal of a tree of any depth and content."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import ExitStack
from typing import Final

from layerstore_core.base import inside
from layerstore_core.base.descriptors import Descriptor

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(name: bytes | str, *, dir_fd: int | None = None, called: str = "") -> None:
    """Delete a file, or a directory with everything in it. Do nothing if the name does not exist.

    No symbolic link is followed. Directories without the needed permissions are given them, if the user may do that.
    A tree may be deeper than Python's recursion limit, than a path may be long, and than files may be open.

    What is mounted in the tree is not part of it: nothing of that is deleted. A file system that a process has mounted
    in a container's tree may also be mounted in the layer, if the mounts are shared.

    Args:
        name: the file or directory to delete.
        dir_fd: the directory that `name` is relative to; `None`: it is a path, see `layerstore_core.base.inside`.
        called: what errors call it; `""` for its path.

    Raises:
        BadRecord: something on the way to it, below a store's root, is no directory.
        OSError: something could not be deleted, or something is mounted in the tree (EBUSY); the rest of the tree still
            exists.
    """
    with ExitStack() as stack:
        above, base = dir_fd, os.fsdecode(name)
        if above is None:
            try:
                above, base = stack.enter_context(inside.parent(name))
            except FileNotFoundError:
                return
        try:
            _remove(os.fsencode(base), above)
        except OSError as error:
            shown = called or os.fsdecode(name)
            if error.filename == os.fsencode(base):
                error.filename = shown
            elif error.errno == errno.EBUSY and isinstance(error.filename, bytes):  # from `_busy`
                error.filename = shown + os.fsdecode(error.filename).removeprefix(base)
            else:
                error.add_note(f"while removing {called or os.fsdecode(name)}")
            raise


def _remove(top: bytes, dir_fd: int) -> None:
    try:
        if not stat.S_ISDIR(os.stat(top, dir_fd=dir_fd, follow_symlinks=False).st_mode):
            os.unlink(top, dir_fd=dir_fd)
            return
    except FileNotFoundError:
        return
    if not _is_removed(top, dir_fd, []):
        _empty(top, dir_fd)
        os.rmdir(top, dir_fd=dir_fd)


def _is_removed(name: bytes, dir_fd: int, above: list[bytes]) -> bool:
    """Remove a directory if it is empty, and return whether that was done.

    Before Linux looks into a directory, it refuses to remove one on which something is mounted. (Device numbers show
    only some mounts: a bind mount of the same file system has the same number.)
    """
    try:
        os.rmdir(name, dir_fd=dir_fd)
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise _busy(above, name) from None
        return False
    return True


def _busy(above: list[bytes], name: bytes) -> OSError:
    path = b"/".join([*above, name])
    return OSError(errno.EBUSY, "something is mounted there, and is not removed; unmount it", path)


def _empty(top: bytes, dir_fd: int) -> None:
    """Delete everything in a directory.

    Only the current directory is open. The way back up is `..`, and it must be the directory that the way down came
    from: if a directory is moved meanwhile, that must not lead out of the tree.
    """
    here = _open_directory(top, dir_fd)
    try:
        path = [top]
        pending = [(os.fstat(here.number), _unlink_files(here.number, path))]
        while True:
            left = here
            _, directories = pending[-1]
            if directories:
                if _is_removed(directories[-1], left.number, path):
                    directories.pop()
                    continue
                here = _open_directory(directories[-1], left.number)
                os.close(left.detach())
                path.append(directories[-1])
                pending.append((os.fstat(here.number), _unlink_files(here.number, path)))
            else:
                pending.pop()
                if not pending:
                    return
                path.pop()
                above, names = pending[-1]
                here = Descriptor(os.open, b"..", _DIRECTORY, dir_fd=left.number)
                os.close(left.detach())
                if not os.path.samestat(os.fstat(here.number), above):
                    raise OSError(errno.ESTALE, "a directory was moved while its tree was removed", names[-1])
                os.rmdir(names.pop(), dir_fd=here.number)
    finally:
        here.close()


def _unlink_files(fd: int, path: list[bytes]) -> list[bytes]:
    """Delete everything but directories, and return the names of the directories."""
    with os.scandir(fd) as entries:
        # A scan by descriptor returns names as str. All are read before any is deleted.
        found = [(os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in entries]
    directories = []
    for name, is_directory in found:
        if is_directory:
            directories.append(name)
        else:
            try:
                os.unlink(name, dir_fd=fd)
            except OSError as error:
                if error.errno == errno.EBUSY:
                    raise _busy(path, name) from None
                raise
    return directories


def _open_directory(name: bytes, dir_fd: int) -> Descriptor:
    """Open a directory that is about to be emptied, and set the permissions that this needs."""
    try:
        opened = Descriptor(os.open, name, _DIRECTORY, dir_fd=dir_fd)
    except PermissionError as error:
        try:
            os.chmod(name, stat.S_IRWXU, dir_fd=dir_fd, follow_symlinks=False)
        except (NotImplementedError, FileNotFoundError):  # an old C library, or one that needs /proc for it
            raise error from None
        opened = Descriptor(os.open, name, _DIRECTORY, dir_fd=dir_fd)
    try:
        if os.geteuid() and os.fstat(opened.number).st_mode & stat.S_IRWXU != stat.S_IRWXU:
            os.fchmod(opened.number, stat.S_IRWXU)
    except BaseException:
        opened.close()
        raise
    return opened
