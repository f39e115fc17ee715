"""The contract between the store and a graph driver: one pluggy hook per operation.

A driver is a class. Its constructor takes a `DriverContext`. Its methods are marked with `@hookimpl`. The store finds
it through an entry point in the group `layerstore.drivers`, creates one instance, and registers that instance in a
plugin manager of that one store. The constructor creates what the driver needs under `context.home`. It raises
`DriverNotSupported` if the driver cannot work there.

A driver must implement six hooks: `create`, `create_read_write`, `remove`, `get`, `put`, `exists`. A fallback answers
the others: no capabilities, no status, and the diff family (`apply_diff`, `diff`, `changes`, `diff_size`, `usage`,
`diff_getter`) and `mounts` by means of `get` and `put` alone. `layerstore_core.sdk.DirectoryDriver` is a base class
with the six hooks, for drivers whose layers are plain directories.

The store reads seven class attributes. All are optional:

- `contract`: the version of this contract that the driver was written for: `1`. Without it, 1 is meant. Write the
  number, and not `CONTRACT`, which is the version that the installed core has. A driver for a version that the core
  does not know is refused, with a message that says what to install. docs/reference/contract-versions.md says what can
  change under one number.
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
  that works: of two with the same number, the first by name. overlay2 has 100, btrfs 90, vfs -100. The setting
  `driver_priority` is a list of names that takes the place of these numbers. A driver without a number is never taken
  for a new store unless it is named, there or as the driver. An existing store keeps its driver.
- `user_namespace`: `True` or `False` (the default). `True` says that an ordinary user can use the driver in a user
  namespace with mounts of its own, as its root, and not otherwise. The command line then enters one by itself
  (`layerstore_core.enter_user_namespace`). What the driver can do without a mount it does outside of one, too.
- `last_resort`: `True` or `False` (the default). `True` marks a driver that Docker takes only where no other works: its
  vfs. In a root that a Docker daemon has created, the state of such a driver does not prevent the choice of another,
  unless a store was made with it there. It has no influence on `priority`.

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
- Below the path that `get` returns, it writes into a layer of `create` only by the fallback's `apply_diff`, that is if
  the driver has no such hook, and only before the layer is complete. From then on everyone only reads there, so the
  tree may be shown read-only. Into a layer of `create_read_write`, users write whenever they have it by `get` or
  `mounts`, until it is sealed or has a child.

What a driver may ask for, while a hook runs: `context.mounted(layer_id)`, a counted mount of another layer, and
`context.lock(name)`, a lock between threads and processes (`layerstore_core.DriverContext`).

What a driver promises:

- It writes only under its home, and with `context.read_only` nothing at all. Layers can be read then, too.
- Layers that come and go leave nothing: after `cleanup` no file that stays or grows, after the last use no process.
- Instances on two roots share nothing. Files have the owners of `context.id_mapping`: the host's on disk, the layer's
  in tars. A new base layer belongs to `id_mapping.root_pair()`.
- It raises the errors that each hook names. Every hook may also raise `OSError`, as on a full disk; then `remove`
  removes all that is left of the layer. It needs no room.
- A process may die inside any hook. Then the layer can be used or removed. While a part of it is left, `layer_ids`
  names it, or `cleanup` releases the part.
- With `durability = "full"` the store flushes the file systems of its root and of the home before it commits a layer.
  What a driver writes later in a committed layer, it flushes by itself.

All hooks are `firstresult`. All sizes are in bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from layerstore_core.driver.hookspecs.diffs import FileGetter, apply_diff, changes, diff, diff_getter, diff_size, usage
from layerstore_core.driver.hookspecs.markers import PROJECT, hookimpl, hookspec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from layerstore_core.driver.capabilities import Capabilities
    from layerstore_core.driver.context import StorageOpt
    from layerstore_core.driver.mount_spec import MountSpec
    from layerstore_core.verify.difference import Difference
    from layerstore_core.verify.expected import LayerEntry

__all__ = [
    "CONTRACT",
    "OLDEST_CONTRACT",
    "PROJECT",
    "REQUIRED_HOOKS",
    "FileGetter",
    "apply_diff",
    "capabilities",
    "changes",
    "check_home",
    "check_layer",
    "check_tree",
    "cleanup",
    "create",
    "create_read_write",
    "diff",
    "diff_getter",
    "diff_size",
    "exists",
    "get",
    "hookimpl",
    "hookspec",
    "layer_ids",
    "metadata",
    "mounts",
    "parent_of",
    "put",
    "remove",
    "repair_home",
    "repair_layer",
    "seal",
    "status",
    "usage",
]

#: The version of this contract. It is raised by a change that a driver can notice without asking for it.
CONTRACT: Final = 1
#: The oldest version of which drivers are accepted.
OLDEST_CONTRACT: Final = 1

#: The hooks that every driver must implement.
REQUIRED_HOOKS: Final = ("create", "create_read_write", "remove", "get", "put", "exists")


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
        layer_id, parent_id, storage_opt: as for `create`.
        mount_label: an SELinux label for the layer's files, `""` for none. It is set here or by `get`, or refused.

    Raises:
        FileExistsError, FileNotFoundError: as for `create`.
        ConfigError: the driver does not know an option in `storage_opt`, or cannot set the label.
    """


@hookspec(firstresult=True)
def remove(layer_id: str) -> None:
    """Delete a layer, and its mount if it has one.

    It is no error if the layer does not exist, or exists only in part. The store removes children before their parents.

    Another file system, such as a volume, may be mounted in the layer's tree. Nothing of that is deleted. A driver
    unmounts it, or raises an error, as `remove_tree` does.

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

    `get` and `put` change nothing in the layer. Programs can lock all of its files, so the driver locks none. They can
    name files that they have made without a name (`O_TMPFILE`), unless the file system has no such files.

    Args:
        layer_id: the ID of the layer.
        mount_label: an SELinux label for the layer's files, `""` for none. It is set or refused, and never ignored. A
            driver that sets none here leaves this argument out: then the store refuses a label that the layer was not
            created with.

    Returns:
        The absolute path of the directory that shows the layer's files.

    Raises:
        FileNotFoundError: there is no such layer.
        ConfigError: the driver cannot set the label.
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

    Raises:
        SourceChanged: of an entry only the source is known, and the layer's file is another one. The hook is called
            again, with the digests of all payloads.
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
def check_home(full: bool) -> list[str]:
    """Return what is wrong with state that belongs to no single layer, such as a pool of files or an index.

    `layerstore check` calls it once. Change nothing. Other threads and processes may use the driver at the same time:
    what they are in the middle of is not wrong. A driver without such state leaves this hook out.

    Args:
        full: read all content, too, as `layerstore check --full` does. If `False`, look only at what takes no longer
            with larger files: a plain check of a store is quick.

    Returns:
        One sentence for each problem, with the path or the name that it is about. Of more than 100 problems, report
        some, and say how many there are: the store passes on no more than 100 sentences of 1,000 characters.
    """


@hookspec(firstresult=True)
def repair_home() -> list[str]:
    """Repair what `check_home` finds, as far as nothing is lost by it.

    `layerstore check --repair` calls it if `check_home` has found something, before it repairs layers, and once more
    after that if `check_home` still finds something: a layer that was rebuilt may have what was missing. A driver that
    is interrupted leaves everything as it was, or repaired: the next call goes on. Afterwards `check_home` is called
    again, with `full`, and what it still finds is reported.

    Returns:
        What was done, one sentence for each repair. Limited as for `check_home`.
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
    """Release what no layer owns. A second call does nothing.

    It is called when someone tidies up: by `layerstore gc` and `collect_garbage`, by a repair that finds unfinished
    work, by `LayerStore.cleanup` and `Snapshots.cleanup`, and when an engine asks for it (containerd's `Cleanup`,
    Docker's `GraphDriver.Cleanup`). It is not called when a store is opened or closed. No lock keeps other hooks out:
    in this process and in others layers may be created, filled, mounted and removed at the same time, and another
    `cleanup` may run.
    """


@hookspec(firstresult=True)
def capabilities() -> Capabilities:
    """Return what the driver can do. The answer must stay the same while the instance lives."""
