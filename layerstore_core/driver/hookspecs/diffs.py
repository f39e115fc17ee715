"""Hooks that take and give the content of layers: the diff family. All are optional."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, Protocol

from layerstore_core.driver.hookspecs.markers import hookspec

if TYPE_CHECKING:
    from layerstore_core.diff.change import Change
    from layerstore_core.tar.layer_stream import LayerStream


class FileGetter(Protocol):
    """Access to the files of one layer while it is open."""

    def open(self, name: bytes) -> BinaryIO:
        """Open a regular file for reading.

        Symbolic links in the path are followed inside the layer's root, and never out of it.

        Args:
            name: the file's path, relative to the layer's root.

        Raises:
            OSError: there is no such regular file.
        """

    def close(self) -> None:
        """Release what keeps the layer open. A second call does nothing."""


@hookspec(firstresult=True)
def apply_diff(layer_id: str, parent_id: str, diff: LayerStream) -> int:
    """Extract a layer's uncompressed tar into a layer.

    The layer is one that `create` has just created, or a writable layer, which may have files and be mounted.

    It may come again for the same layer, also after a failure. For a writable layer it comes as often as users want. If
    it fails for a layer of `create`, the store removes that layer, and a second try is made in a new one; but a program
    that uses the driver without a store, such as a Docker daemon, may try again in the same layer. A call that fails
    may leave a part of the tar's files in the layer. The next call works on what is there, and does not fail because of
    it: an entry replaces the file of its name.

    `diff` can be read like any binary file. It can also be iterated as parsed entries (`diff.entries()`), which is
    faster. The store reads what the driver leaves unread. With `Capabilities.parallel_apply`, other threads may still
    fill the parents at the same time: `diff.await_parents()` waits for them.

    Every driver must follow these rules. `unpack_layer` follows them all:

    - Create the directories that an entry needs and the tar does not mention. They have mode 0755, unless a parent
      layer has them.
    - Follow a symbolic link to a directory in the path of an entry, and of a whiteout, but only inside the root.
      Replace anything else that a parent has there by a directory: a file of any type, or a link that leads to no
      directory. If the layer itself has such a file there, or a link leads to one, refuse the tar.
    - Create nothing for an entry that names the root and is no directory.
    - Delete the name of a character device 0:0, as for a whiteout. It is one to overlayfs, and so to Docker's overlay2.
      (Docker's vfs creates a device.)
    - Create a further name for the file of a hard-link entry, and give the file the entry's mode, owner and time, as
      Docker does: the last entry counts. (GNU tar and umoci keep those of the first.) Set the extended attributes that
      the entry has. Keep the others, file capabilities included, since GNU tar stores them with the first name only. Do
      not change the metadata of a symbolic link.
    - Give a file the access lists of its entry, and none from the directory that it is created in.
    - Do not change the parent. If a child shares its parent's inodes (created as by `cp -al`), an entry must not change
      them. No file is written in place, but a hard-link entry changes the metadata of the file that it links to, which
      may be the parent's. `unpack_layer(..., break_links=True)` makes a private copy first. A driver that leaves this
      hook out declares `Capabilities.shares_inodes` instead. Writable layers of such a driver need their own files from
      the start.
    - Do not change any other layer either, nor another file of this one. A driver that keeps files of the same content
      once gives a file its own copy before a hard-link entry, or a user, changes it; and it begins another copy when
      the file system allows no further name (`EMLINK`).
    - No name is the driver's own. Whatever a file is called, it belongs to the layer.

    Args:
        layer_id: the ID of the layer.
        parent_id: the ID of its parent, `""` for none.
        diff: the layer's tar.

    Returns:
        The layer's own size in bytes: the lengths of the tar's regular files and of the targets of its symbolic links,
        each inode once.

    Raises:
        InvalidLayer: the tar is damaged, or leaves the layer's root.
        Exception: reading `diff` raised it. The driver lets it through. The store then removes the layer.
    """


@hookspec(firstresult=True)
def diff(layer_id: str, parent_id: str) -> BinaryIO:
    """Return an uncompressed tar of what a layer changes against another.

    Applied to a child of `parent_id`, the tar makes the tree of `layer_id`. Deletions are `.wh.` entries. Without a
    change the tar has no entry.

    Args:
        layer_id: the ID of the layer.
        parent_id: the ID of the layer to compare with, `""` for none.

    Returns:
        A file, open for reading. The caller closes it. A second `close` does nothing.
    """


@hookspec(firstresult=True)
def changes(layer_id: str, parent_id: str) -> list[Change]:
    """Return what a layer changes against another, sorted by path.

    The rules are those of `layerstore_core.compare_trees`:

    - The size and time of a directory do not count.
    - The directories above a change are changed themselves, except the root.
    - A deleted directory stands for all that was in it.
    - The root is named if its mode, owner or attributes differ. Without a parent they are compared with those of a new
      base layer.

    A file that no tar can hold (a socket) is named as it is in the tree. `diff` leaves it out, with a warning, and
    deletes what it has replaced.

    Args:
        layer_id: the ID of the layer.
        parent_id: the ID of the layer to compare with (any layer), `""` for none.
    """


@hookspec(firstresult=True)
def diff_size(layer_id: str, parent_id: str) -> int:
    """Return how many bytes a layer takes beyond another.

    Args:
        layer_id: the ID of the layer.
        parent_id: the ID of the layer to compare with (any layer), `""` for none.

    Returns:
        The lengths of the regular files that `changes` names as added or changed, in bytes, each inode once.
    """


@hookspec(firstresult=True)
def usage(layer_id: str, parent_id: str) -> tuple[int, int]:
    """Return what a layer takes beyond another, in bytes and in files.

    Engines ask for it every few seconds, while they have the layer mounted.

    Args:
        layer_id: the ID of the layer.
        parent_id: the ID of the layer to compare with (any layer), `""` for none.

    Returns:
        The same as from `diff_size`, and the number of files of any type that `changes` names as added or changed, each
        inode once.
    """


@hookspec(firstresult=True)
def diff_getter(layer_id: str) -> FileGetter:
    """Open the files that `apply_diff` has put into a layer, so that the store can assemble its tar again.

    Args:
        layer_id: the ID of the layer.

    Returns:
        Access to the files. The caller closes it.
    """
