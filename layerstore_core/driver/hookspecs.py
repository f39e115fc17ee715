"""The contract between the store and a graph driver: one pluggy hook per operation.

A driver is a class. Its constructor takes a `DriverContext`. Its methods are marked with `@hookimpl`. The store finds
it through an entry point in the group `layerstore.drivers`, creates one instance, and registers that instance in a
plugin manager of that one store. The constructor creates what the driver needs under `context.home`. It raises
`DriverNotSupported` if the driver cannot work there.

A driver must implement six hooks: `create`, `create_read_write`, `remove`, `get`, `put`, `exists`. A fallback answers
the others: no capabilities, no status, and the diff family (`apply_diff`, `diff`, `changes`, `diff_size`, `usage`,
`diff_getter`) and `mounts` by means of `get` and `put` alone. `layerstore_core.sdk.DirectoryDriver` is a base class
with the six hooks, for drivers whose layers are plain directories.

The store reads six class attributes. All are optional:

- `driver_name`: the name on disk. Without it, the entry point's name is used. (With it, an alias keeps one name on
  disk.) It has 1 to 63 letters, digits, dots, hyphens and underscores. The first is a letter.
- `Options`: a pydantic model of the driver's options. A driver without it has no options. An option that the model does
  not know is an error, unless the model allows it (`extra`). The attribute may also be the text
  `"package.module:Class"`. Then the model, and pydantic with it, is imported only if options are given. Without options
  the driver gets an empty mapping, so all options need defaults.
- `probe(context)`: a class method that raises `DriverNotSupported` if the driver cannot work. It may use a temporary
  directory in `context.nearest_directory()`. It leaves nothing behind. Its context has the same validated options as
  the constructor's.
- `priority`: a whole number. For a new store without a named driver, the store takes the driver with the highest number
  that works. overlay2 has 100, btrfs 90, vfs -100. A driver without it is never taken for a new store unless it is
  named.
- `user_namespace`: `True` or `False` (the default). `True` says that an ordinary user can use the driver in a user
  namespace with mounts of its own, as its root, and not otherwise. The command line then enters one by itself
  (`layerstore_core.enter_user_namespace`). What the driver can do without a mount it does outside of one, too.
- `last_resort`: `True` or `False` (the default). `True` marks a driver that Docker takes only where no other works. In
  a root that a Docker daemon has created, the state of such a driver does not prevent the choice of another.

The life of a layer, as the driver sees it::

    create("c1", "", {})                  # a base layer, empty
    apply_diff("c1", "", stream)          # fill it; returns its size
    create("c2", "c1", {})                # a child shows all of its parent's files
    apply_diff("c2", "c1", stream)
    create_read_write("m-init", "c2", …)  # the layer that the init step of a writable layer writes in
    create_read_write("m", "m-init", …)   # the writable layer itself
    path = get("m", "")                   # mount; path shows the merged tree
    put("m")
    changes("m", "m-init"), diff("m", "m-init")
    remove("m"); remove("m-init"); remove("c2"); remove("c1")

An engine such as containerd uses layers in another way. It mounts them by itself, and does not give tars::

    create_read_write("s1", "", …)
    mounts("s1", False)                   # the engine mounts what this tells, unpacks a layer, and unmounts
    usage("s1", "")
    seal("s1")                            # from now on "s1" can be a parent
    create_read_write("s2", "s1", …)      # a container
    mounts("s2", False)                   # again after each restart of the engine
    mounts("s1", True)                    # a view

What the store promises:

- It chooses the IDs: 1 to 128 characters of `[a-z0-9-]` (64 hex digits, some with `-init`). `create`,
  `create_read_write`, `remove`, `exists` and `get` are called with no other text. `""` as a parent ID means no parent.
- It never calls two of `create`, `get`, `put`, `mounts`, `seal` and `remove` for one ID at the same time, not even from
  two processes. Otherwise several threads and several processes may call hooks of one driver at once.
- It calls `get` before anyone uses the path that `get` returns, and `put` after the last of them, across threads and
  processes. All other hooks may be called without `get`.
- It removes children before their parents.

What a driver promises:

- It writes only under its home.
- It raises the errors that each hook names. Every hook may also raise `OSError`.

All hooks are `firstresult`. All sizes are in bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, Final, Protocol

import pluggy

if TYPE_CHECKING:
    from collections.abc import Iterable

    from layerstore_core.diff.change import Change
    from layerstore_core.driver.capabilities import Capabilities
    from layerstore_core.driver.context import StorageOpt
    from layerstore_core.driver.mount_spec import MountSpec
    from layerstore_core.tar.layer_stream import LayerStream
    from layerstore_core.verify.difference import Difference
    from layerstore_core.verify.expected import LayerEntry

PROJECT: Final = "layerstore"

hookspec: Final = pluggy.HookspecMarker(PROJECT)
hookimpl: Final = pluggy.HookimplMarker(PROJECT)

#: The hooks that every driver must implement.
REQUIRED_HOOKS: Final = ("create", "create_read_write", "remove", "get", "put", "exists")


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
def create(layer_id: str, parent_id: str, storage_opt: StorageOpt) -> None:
    """Create a read-only layer with its parent's content, ready for `apply_diff`.

    A base layer is an empty directory of mode 0755, whatever the umask. It belongs to the layer's root user.

    The root of a child begins with the mode, owner, time and attributes of its parent's root. This holds for a writable
    child too. So an untouched child has no changes. An entry for `/` in the layer's tar gives the root other metadata.
    With `Capabilities.parallel_apply` the parent's root may get its metadata after the child is created. The child must
    then have it by the time of its first `get`.

    A `create` that raises must leave nothing behind.

    Args:
        layer_id: a new ID.
        parent_id: the ID of the parent, `""` for none.
        storage_opt: options of this layer, by name.

    Raises:
        FileExistsError: the ID is in use.
        FileNotFoundError: there is no such parent.
        ConfigError: the driver does not know an option in `storage_opt`.
    """


@hookspec(firstresult=True)
def create_read_write(layer_id: str, parent_id: str, mount_label: str, storage_opt: StorageOpt) -> None:
    """Create a writable layer with its parent's content. All that `create` demands holds here too.

    Args:
        layer_id: a new ID.
        parent_id: the ID of the parent, `""` for none.
        mount_label: an SELinux label for the layer's files, `""` for none.
        storage_opt: options of this layer, by name.

    Raises:
        FileExistsError: the ID is in use.
        FileNotFoundError: there is no such parent.
        ConfigError: the driver does not know an option in `storage_opt`.
    """


@hookspec(firstresult=True)
def remove(layer_id: str) -> None:
    """Delete a layer, and its mount if it has one.

    It is no error if the layer does not exist, or exists only in part. The store removes children before their parents.

    Another file system, such as a container's volume, may be mounted on a directory in the layer's tree.
    Nothing of that is deleted. A driver unmounts it, or raises an error, as `remove_tree` does.

    Args:
        layer_id: the ID of the layer.

    Raises:
        OSError: something is mounted in the layer's tree (EBUSY). The rest of the layer may be gone; it can be removed
            when that is unmounted.
    """


@hookspec(firstresult=True)
def get(layer_id: str, mount_label: str) -> str:
    """Mount a layer and return the path of its tree.

    The store counts users, across threads and processes. So a driver sees one `get` before the first use of a layer and
    one `put` after the last. The layer may be mounted already: by a process that has died, or by `layerstore rw
    mount`, which leaves it mounted. Then do not mount it again: return its path.

    Args:
        layer_id: the ID of the layer.
        mount_label: an SELinux label for the layer's files, `""` for none.

    Returns:
        The absolute path of the directory that shows the layer's files.

    Raises:
        FileNotFoundError: there is no such layer.
    """


@hookspec(firstresult=True)
def put(layer_id: str) -> None:
    """Unmount a layer, whichever process has mounted it.

    It is no error if the layer is not mounted, or the ID is unknown. Afterwards the driver has no mount and no open
    file of the layer.

    Args:
        layer_id: the ID of the layer.
    """


@hookspec(firstresult=True)
def mounts(layer_id: str, read_only: bool) -> list[MountSpec] | None:
    """Return how the caller can mount a layer by itself. Mount nothing.

    An engine such as containerd mounts layers by itself, in its own mount name space and at a place of its choice. It
    asks for each mount again, also after a restart: the answer is always the same until `seal` or `repair_layer`.
    What is mounted shows the tree that `get` shows.

    The store does not know of such mounts. It may call any hook that does not change the layer while it is mounted, and
    the driver must not disturb the mount. So after an answer with `read_only=False`, `get` may show it read-only.

    A driver without this hook is asked for the layer's path by `get`, and the caller gets a bind mount of it. The layer
    then stays mounted until it is removed.

    Args:
        layer_id: the ID of the layer.
        read_only: nothing will be written through the mount. Otherwise the layer is one that `create_read_write` has
            made, without children and not sealed.

    Returns:
        The mounts, in the order in which they are made, one above the other. Their paths are absolute. `None` if this
        layer can only be mounted by `get`. A driver that finds out late whether it has this hook at all, such as one
        that asks a server, says so by a method `gives_mounts()`, which returns a bool.

    Raises:
        FileNotFoundError: there is no such layer.
        OSError: the layer is to be writable, but the driver knows that it has children or is sealed (EROFS).
        MaxDepthExceeded: the mount's options would not fit into the page of memory that mount(2) takes.
    """


@hookspec(firstresult=True)
def seal(layer_id: str) -> bool:
    """Make a writable layer read-only, so that it can be a parent. Copy nothing.

    The layer is one that `create_read_write` has made, and that was written to through `get` or `mounts`. It is not
    mounted any more. From now on it is as if `create` and `apply_diff` had made it: it shows the same tree, it can
    have children, and nothing changes it. `check_layer` finds nothing wrong with it, and `parent_of` has the same
    answer as before.

    A second call does nothing. A driver that is interrupted leaves the layer sealed or as it was.

    A driver without this hook answers `False`. Then the caller makes a new layer, and copies into it by `diff` and
    `apply_diff`.

    Args:
        layer_id: the ID of the layer.

    Returns:
        Whether the layer is sealed. `False` if it must be copied.

    Raises:
        FileNotFoundError: there is no such layer.
    """


@hookspec(firstresult=True)
def exists(layer_id: str) -> bool:
    """Return whether the driver has this layer.

    Args:
        layer_id: the ID of the layer.
    """


@hookspec(firstresult=True)
def layer_ids() -> list[str] | None:
    """Return the IDs of all layers that the driver has, whole or in part.

    The store compares them with its records, to find layers without a record. A driver that cannot list its layers
    leaves this hook out, or answers `None`. Then the store does not look for such layers.
    """


@hookspec(firstresult=True)
def check_layer(layer_id: str, parent_id: str) -> list[str]:
    """Return what is wrong with how the driver keeps a layer, one sentence for each problem.

    The layer's content is checked elsewhere. A driver leaves this hook out if its layers can only exist or not exist,
    with no state in between.

    Args:
        layer_id: a layer that the driver has, at least in part.
        parent_id: the ID of the parent that it was created with, `""` for none.
    """


@hookspec(firstresult=True)
def check_tree(layer_id: str, parent_id: str, entries: Iterable[LayerEntry]) -> list[Difference]:
    """Compare a layer's files, as users see them, with its parent's files plus the layer's tar. Change nothing.

    Most drivers leave this hook out. Then the store compares the trees of both layers, as `get` shows them. A driver
    that keeps each layer's own files apart can compare these alone, with all the marks (such as whiteouts) among them.

    Args:
        layer_id: a layer that `apply_diff` has filled.
        parent_id: the ID of the parent that it was created with, `""` for none. Its tree has been checked before.
        entries: the layer's tar, verified.

    Returns:
        The differences. Empty if there is none.
    """


@hookspec(firstresult=True)
def parent_of(layer_id: str, parent_id: str) -> str | None:
    """Return the parent of a layer, as the driver itself has recorded it. The store compares it with its own records.

    The store calls this hook each time a writable layer is used. If the answer is `parent_id`, it should cost only a
    few system calls.

    Args:
        layer_id: a layer that the driver has.
        parent_id: the parent that a record names, `""` for none.

    Returns:
        The parent's ID, `""` for none. `None` if the driver has not recorded it, or can no longer read it. A missing
        file or attribute alone does not mean `""`, unless nothing else can be its cause.
    """


@hookspec(firstresult=True)
def repair_layer(layer_id: str, parent_id: str, proved: bool) -> list[str]:
    """Repair what `check_layer` finds, as far as nothing is lost by it.

    Args:
        layer_id: the ID of the layer.
        parent_id: the ID of its parent, `""` for none. It may be another layer, of the same content, than the one that
            the layer was created with.
        proved: `True` if the contents of the layer and of all its ancestors have shown that `parent_id` is right. If
            `False`, repair only what does not depend on the parent.

    Returns:
        What was done, one sentence for each repair.
    """


@hookspec(firstresult=True)
def status() -> list[tuple[str, str]]:
    """Return diagnostic fields as pairs of a name and a value, in the order in which a person wants to read them."""


@hookspec(firstresult=True)
def metadata(layer_id: str) -> dict[str, str]:
    """Return where and how the driver keeps a layer, for a person to read.

    Args:
        layer_id: the ID of the layer.

    Raises:
        FileNotFoundError: there is no such layer.
    """


@hookspec(firstresult=True)
def cleanup() -> None:
    """Release what no layer owns. Other processes may use the driver's home at the same time."""


@hookspec(firstresult=True)
def capabilities() -> Capabilities:
    """Return what the driver can do. The answer must stay the same while the instance lives."""


@hookspec(firstresult=True)
def apply_diff(layer_id: str, parent_id: str, diff: LayerStream) -> int:
    """Extract a layer's uncompressed tar into a layer.

    The layer is one that `create` has just created, or a writable layer, which may have files and be mounted.

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
        A file, open for reading. The caller closes it.
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
