"""Making, copying and deleting subvolumes, by their names in an open directory."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from typing import Final

from layerstore_btrfs import ioctl, search
from layerstore_core import remove_tree
from layerstore_core.sdk import Descriptor, inside, open_fd

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextlib.contextmanager
def opened(path: str | bytes | os.PathLike[str], *, dir_fd: int | None = None) -> Iterator[int]:
    """Open a directory for the length of a `with` block; yields its descriptor.

    A symbolic link at `path` is not followed, and no link below a store's root is.
    """
    if dir_fd is None:
        with inside.open_directory(path, os.O_NOFOLLOW) as fd:
            yield fd
        return
    with Descriptor(os.open, path, _DIRECTORY, dir_fd=dir_fd) as fd:
        yield fd


def is_subvolume(fd: int) -> bool:
    """Return whether an open directory is the root of a subvolume. Its file system must be btrfs."""
    return os.fstat(fd).st_ino == search.FIRST_FREE


def snapshot(source: str | bytes, directory: int, name: bytes) -> None:
    """Make a writable snapshot of a subvolume.

    Args:
        source: the path of the subvolume.
        directory: a descriptor of the directory for the snapshot.
        name: the name of the snapshot.

    Raises:
        FileNotFoundError: there is no such source.
        FileExistsError: the name is taken.
        NotADirectoryError: the source is no directory.
    """
    with opened(source) as fd:
        if not is_subvolume(fd):
            raise OSError(errno.EINVAL, "it is a plain directory, and no btrfs subvolume", os.fsdecode(source))
        ioctl.snap_create(directory, name, fd)


def nested(directory: int, subvolume_id: int) -> list[int]:
    """Return the IDs of the subvolumes inside of one, in the order in which they must be deleted: the innermost first.

    Args:
        directory: a descriptor on the file system.
        subvolume_id: the ID of the outer subvolume.

    Raises:
        PermissionError: the caller lacks CAP_SYS_ADMIN.
    """
    order: list[int] = []
    pending = [subvolume_id]
    while pending:
        current = pending.pop()
        children = [
            item.offset
            for item in search.of_object(directory, search.ROOT_TREE, current, types=(search.ROOT_REF, search.ROOT_REF))
        ]
        order += children
        pending += children
    order.reverse()
    return order


def delete(directory: int, name: bytes) -> int | None:
    """Delete a subvolume with all subvolumes in it, or the plain file or tree at its name.

    A missing name is no error. If the process may not delete subvolumes, the files are deleted one by one, and then the
    empty subvolumes as directories.

    Returns:
        The ID of the deleted subvolume; `None` if there was none.
    """
    try:
        fd = open_fd(name, _DIRECTORY, dir_fd=directory)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP):
            raise
        os.unlink(name, dir_fd=directory)
        return None
    try:
        if not is_subvolume(fd):
            subvolume_id = None
        else:
            subvolume_id = ioctl.subvol_info(fd).tree_id
            if _destroy(directory, name, fd, subvolume_id):
                return subvolume_id
            if ioctl.is_read_only(fd):
                ioctl.set_read_only(fd, False)
    finally:
        os.close(fd)
    remove_tree(name, dir_fd=directory)
    return subvolume_id


def _destroy(directory: int, name: bytes, subvolume: int, subvolume_id: int) -> bool:
    """Delete a subvolume by the ioctls of btrfs; return `False` if the user may not do that."""
    inside: list[int] | None
    try:
        inside = nested(directory, subvolume_id)
    except PermissionError:
        inside = None  # with the mount option user_subvol_rm_allowed, one without subvolumes inside can be deleted
    try:
        if inside and ioctl.is_read_only(subvolume):
            ioctl.set_read_only(subvolume, False)  # a name in a read-only directory cannot be removed
        for inner in inside or ():
            with contextlib.suppress(FileNotFoundError):
                ioctl.snap_destroy_by_id(directory, inner)
        ioctl.snap_destroy(directory, name)
    except FileNotFoundError:
        pass  # another process has deleted it
    except PermissionError:
        return False
    except OSError as error:
        if inside is None and error.errno in (errno.ENOTEMPTY, errno.EROFS):
            return False
        raise
    return True
