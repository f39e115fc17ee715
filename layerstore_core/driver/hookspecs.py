"""The contract between the store and a graph driver: one pluggy hook per operation.

A driver is a class whose constructor takes a `DriverContext`, and whose methods are marked with
`@hookimpl`. It is found through an entry point in the group `layerstore.drivers`. The store makes
one instance, and registers it in a plugin manager of that one store. The constructor makes what the
driver needs below `context.home`, and raises `DriverNotSupported` where it cannot work.

A driver must implement six hooks: `create`, `create_read_write`, `remove`, `get`, `put`, `exists`.
What else it leaves out is answered by a fallback: no capabilities, no status, and the diff family
(`apply_diff`, `diff`, `changes`, `diff_size`, `diff_getter`) on top of `get` and `put` alone.

Five class attributes are looked at, if they are there:

- `driver_name`: the name on disk, in place of the entry point's (an alias keeps one name on disk): 1 to 63 letters,
  digits, dots, hyphens and underscores, the first a letter;
- `Options`: a pydantic model of the driver's options; without it a driver has none. An option that the model does not
  know is an error, unless the model says otherwise (`extra`). It may be named instead, as
  `"package.module:Class"`: then it is imported, and pydantic with it, only where there are options, and a driver that
  was given none gets an empty mapping: all options need defaults then;
- `probe(context)`, a class method: raises `DriverNotSupported` where the driver cannot work. It may
  use a temporary directory in `context.nearest_directory()`, and leaves nothing behind. Its context has the same
  validated options as the constructor's;
- `priority`, a whole number: how much the driver wants to be chosen for a new store, where nobody names one. The one
  with the highest number that works is taken; overlay2 has 100, btrfs 90, vfs -100. Without it the driver has to be named;
- `last_resort`, `True` or `False` (the default): whether the driver is one that Docker takes only where no other works.
  In a root that a Docker daemon has made, its state does not keep another driver from being chosen.

The life of a layer, as the driver sees it::

    create("c1", "", {})                  # a base layer, empty
    apply_diff("c1", "", stream)          # fill it; returns its size
    create("c2", "c1", {})                # a child shows all of its parent's files
    apply_diff("c2", "c1", stream)
    create_read_write("m-init", "c2", …)  # a writable layer and the layer its init step writes in
    create_read_write("m", "m-init", …)
    path = get("m", "")                   # mount; path shows the merged tree
    put("m")
    changes("m", "m-init"), diff("m", "m-init")
    remove("m"); remove("m-init"); remove("c2"); remove("c1")

IDs are chosen by the store: 1 to 128 characters of `[a-z0-9-]` (64 hex digits, some with `-init`); core lets
no other through. `""` as a parent means none. A driver writes only below its home. Every hook may raise
`OSError`. All hooks are `firstresult`. Hooks of one driver are called from several threads and by several
processes at once, but `create`, `get`, `put` and `remove` of one ID never at the same time: core sees to
that, across processes too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, Final, Protocol

import pluggy

if TYPE_CHECKING:
    from collections.abc import Iterable

    from layerstore_core.diff.change import Change
    from layerstore_core.driver.capabilities import Capabilities
    from layerstore_core.driver.context import StorageOpt
    from layerstore_core.tar.layer_stream import LayerStream
    from layerstore_core.verify.expected import Brought
    from layerstore_core.verify.verify import Difference

PROJECT: Final = "layerstore"

hookspec: Final = pluggy.HookspecMarker(PROJECT)
hookimpl: Final = pluggy.HookimplMarker(PROJECT)

#: The hooks that every driver implements itself.
REQUIRED_HOOKS: Final = ("create", "create_read_write", "remove", "get", "put", "exists")


class FileGetter(Protocol):
    """Access to the files of one layer, for as long as it is open."""

    def open(self, name: bytes) -> BinaryIO:
        """Open the regular file `name` (relative to the layer's root) for reading.

        Symbolic links on the way are followed inside the layer's root and never out of it.

        Raises:
            OSError: there is no such regular file.
        """

    def close(self) -> None:
        """Release what holding the layer open took. A second call does nothing."""


@hookspec(firstresult=True)
def create(layer_id: str, parent_id: str, storage_opt: StorageOpt) -> None:
    """Make the read-only layer `layer_id` with its parent's content, ready for `apply_diff`.

    A base layer is an empty directory of mode 0755, whatever the umask, and belongs to the layer's root user. The root of a
    child, a writable one too, begins with mode, owner, time and attributes of its parent's: an untouched child has no
    changes. An entry for `/` in the layer's tar gives it others. With `Capabilities.parallel_apply` the parent may get them
    later than its child is made: the child has them by the time of its first `get`.
    A `create` that raises leaves nothing behind.

    Args:
        layer_id: a new ID.
        parent_id: the ID of the parent, `""` for none.
        storage_opt: options of this layer; a driver refuses those it does not know with `ConfigError`.

    Raises:
        FileExistsError: the ID is in use.
        FileNotFoundError: there is no such parent.
    """


@hookspec(firstresult=True)
def create_read_write(layer_id: str, parent_id: str, mount_label: str, storage_opt: StorageOpt) -> None:
    """Make the writable layer `layer_id` on top of `parent_id`; otherwise as `create`.

    Args:
        mount_label: an SELinux label for the layer's files, `""` for none.
    """


@hookspec(firstresult=True)
def remove(layer_id: str) -> None:
    """Delete the layer, its mount included. An ID that is not there, or only in part, is no error.

    The store removes children before their parents.
    """


@hookspec(firstresult=True)
def get(layer_id: str, mount_label: str) -> str:
    """Mount the layer and return the absolute path of its tree.

    Core counts, across threads and processes: a driver sees one `get` before the first use of a layer
    and one `put` after the last. A layer that is found mounted (by a process that has died, or before
    `layerstore rw mount` has ended) is not mounted again: its path is returned.

    Raises:
        FileNotFoundError: there is no such layer.
    """


@hookspec(firstresult=True)
def put(layer_id: str) -> None:
    """Unmount the layer, whichever process has mounted it.

    A layer that is not mounted, or an unknown ID, is no error. No mount and no open file of the layer is left.
    """


@hookspec(firstresult=True)
def exists(layer_id: str) -> bool:
    """Whether the driver holds this layer."""


@hookspec(firstresult=True)
def layer_ids() -> list[str]:
    """The IDs of all layers that the driver holds, whole or in part, for finding what no record names.

    Left out by a driver that cannot tell; then it is not looked for.
    """


@hookspec(firstresult=True)
def check_layer(layer_id: str, parent_id: str) -> list[str]:
    """What is wrong with how the driver keeps a layer, each in a sentence; its content is looked at elsewhere.

    Left out by a driver for which a layer is there or not, and nothing in between.

    Args:
        layer_id: one that the driver holds, in part at least.
        parent_id: what it was made on, `""` for nothing.
    """


@hookspec(firstresult=True)
def check_tree(layer_id: str, parent_id: str, entries: Iterable[Brought]) -> list[Difference]:
    """How the files that a user of the layer sees differ from what its tar makes of its parent's; changes nothing.

    Left out by most drivers: the trees of both layers are compared then, as `get` shows them. A driver that keeps each
    layer's own files apart compares these alone, with all the marks among them.

    Args:
        layer_id: a layer that `apply_diff` has filled.
        parent_id: what it was made on, `""` for nothing; its tree is looked at before.
        entries: the layer's tar, verified.
    """


@hookspec(firstresult=True)
def parent_of(layer_id: str, parent_id: str) -> str | None:
    """What the driver itself knows a layer to have been made on; the store holds it against its records.

    Called each time a writable layer is used: it should cost a few system calls where the answer is `parent_id`.

    Args:
        layer_id: a layer that the driver holds.
        parent_id: what a record names as its parent, `""` for nothing.

    Returns:
        The parent's ID, `""` for none; `None` where the driver has not written it down, or can read it no more. That
        something is missing is no answer, unless nothing else than `""` can have that effect.
    """


@hookspec(firstresult=True)
def repair_layer(layer_id: str, parent_id: str, proved: bool) -> list[str]:
    """Mend what `check_layer` finds, as far as nothing is lost by it; returns what was done, each in a sentence.

    Args:
        layer_id: the layer.
        parent_id: what it stands on, `""` for nothing: perhaps another layer of the same content than it was made on.
        proved: the contents of the layer and of all below it have shown that `parent_id` is right. Otherwise only what
            does not depend on the parent is to be mended.
    """


@hookspec(firstresult=True)
def status() -> list[tuple[str, str]]:
    """Diagnostic fields, in the order in which a person wants to read them."""


@hookspec(firstresult=True)
def metadata(layer_id: str) -> dict[str, str]:
    """Where and how the layer is kept, for a person.

    Raises:
        FileNotFoundError: there is no such layer.
    """


@hookspec(firstresult=True)
def cleanup() -> None:
    """Release what no layer owns. Other processes may be using the driver's home meanwhile."""


@hookspec(firstresult=True)
def capabilities() -> Capabilities:
    """What the driver can do; the same answer for as long as the instance lives."""


@hookspec(firstresult=True)
def apply_diff(layer_id: str, parent_id: str, diff: LayerStream) -> int:
    """Unpack a layer's uncompressed tar into `layer_id`, which `create` has just made.

    `diff` can be read like any binary file, or iterated as parsed entries (`diff.entries()`), which
    is faster. What the driver leaves unread, the store reads. With `Capabilities.parallel_apply`, the parents may be
    on their way at the same time: `diff.await_parents()` waits for them.

    Directories that an entry needs and the tar does not mention are made, with mode 0755 unless a layer below has them. On the
    path of an entry, a whiteout's as well, a symbolic link that leads to a directory is followed, inside the root. Whatever
    else a parent has there gives way to a directory: a file of any type, or a link that leads to none. Where the layer
    itself has it, or a link leads to it, the tar is refused. So it is with every driver. An entry that names the root and
    is no directory makes nothing. A character device 0:0 deletes its name, as a whiteout does: it is one to overlayfs, and so
    to Docker's overlay2. (Docker's vfs makes a device.)

    A hard-link entry makes a further name for a file, and gives the file its mode, owner and time, as with Docker: the
    last entry counts. (GNU tar and umoci keep those of the first.) Of extended attributes it sets those that it has; others
    stay, file capabilities included, since GNU tar tells them with the first name alone. A symbolic link keeps its metadata.

    A file has the access lists that its entry says, and none from the directory that it is made in.

    The parent stays as it is. A driver whose child has its parent's inodes (made as by `cp -al`) must not let an entry
    change them: no file is written in place, but a hard-link entry changes the metadata of what it links to, which may be
    the parent's. `unpack_layer(..., break_links=True)` makes a private copy first. A driver that leaves this hook out
    declares `Capabilities.shares_inodes` instead. Its writable layers need files of their own from the first.

    Returns:
        The layer's own size in bytes: the lengths of the regular files and of the symbolic links'
        targets that it brings, each inode once.

    Raises:
        InvalidLayer: the tar is damaged, or leaves the layer's root. What `diff` raises while it is read passes through
            `apply_diff`. The store then removes the layer.
    """


@hookspec(firstresult=True)
def diff(layer_id: str, parent_id: str) -> BinaryIO:
    """A tar of what `layer_id` changes against `parent_id`: uncompressed, readable, to be closed.

    Applied to a child of `parent_id` it makes the tree of `layer_id`. Deletions are `.wh.` entries. Without a change it
    has no entry.
    """


@hookspec(firstresult=True)
def changes(layer_id: str, parent_id: str) -> list[Change]:
    """What `layer_id` changes against `parent_id` (any layer, or `""` for nothing), sorted by path.

    As `layerstore_core.compare_trees` has it: of directories, size and time do not count; the directories above a
    change are changed themselves, but for the root; a deleted directory stands for all that was in it. The root is
    named where its mode, owner or attributes differ, against nothing from those of a new base layer.

    What no tar can hold (a socket) is named as it is in the tree; in `diff` it is left out, with a warning, and what it has
    replaced is deleted.
    """


@hookspec(firstresult=True)
def diff_size(layer_id: str, parent_id: str) -> int:
    """How many bytes `layer_id` takes beyond `parent_id`.

    That is the lengths of the regular files that `changes` names as added or changed, each inode once.
    """


@hookspec(firstresult=True)
def diff_getter(layer_id: str) -> FileGetter:
    """Open the files that `apply_diff` put into the layer, for reassembly of its tar."""
