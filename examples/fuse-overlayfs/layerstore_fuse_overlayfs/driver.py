"""The driver: the hooks of the contract."""

from __future__ import annotations

import fcntl
import io
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, ClassVar, cast

# Names that few commands need are used as `layerstore_core.<name>`: the package loads them at their first use.
import layerstore_core
from layerstore_core import Capabilities, hookimpl
from layerstore_core.sdk import DirectoryDriver, inside, write_file
from layerstore_fuse_overlayfs.overlay import mount, mount_of, require_mounts

if TYPE_CHECKING:
    from layerstore_core import Change, DriverContext, LayerStream
    from layerstore_core.sdk import ServedMount

#: The longest note that is read, in bytes: an ID has fewer.
_LONGEST_NOTE = 256
#: How the names of mounts for one comparison begin.
_LOOK = "look-"
#: The lock that is held while such a directory is made, or is looked at by others.
_LOOKS = "looks"
_ID = re.compile(rb"[0-9a-z][0-9a-z-]*")
#: Each lower directory of a mount keeps a descriptor of the program open: it has 1024 by default.
_MAX_DEPTH = 250


class FuseOverlayfsDriver(DirectoryDriver):
    """A driver that merges directories without the rights of root and without a user namespace."""

    contract: ClassVar = 1
    driver_name: ClassVar = "fuse-overlayfs"
    #: After overlay2, which is quicker, and before vfs, which copies.
    priority: ClassVar = 50

    def __init__(self, context: DriverContext) -> None:
        super().__init__(context)
        self.layers = context.home / "layers"
        if not inside.is_directory(self.layers):
            self.probe(context)

    @classmethod
    def probe(cls, context: DriverContext) -> None:
        """Raise `DriverNotSupported` if the program cannot mount here. A trial mount finds that out."""
        require_mounts(context.nearest_directory())

    @hookimpl
    def capabilities(self) -> Capabilities:
        return Capabilities(max_depth=_MAX_DEPTH)

    # Layers

    def tree(self, layer_id: str) -> Path:
        return self.layer_directory(layer_id) / "diff"

    def fill(self, layer_id: str, parent_id: str, *, writable: bool) -> None:
        if parent_id:
            layerstore_core.copy_metadata(str(self._existing_tree(parent_id)), str(self.tree(layer_id)))
        layer = self.layer_directory(layer_id)
        write_file(layer / "parent", parent_id.encode())
        inside.mkdir(layer / "work", 0o700)
        if writable:
            write_file(layer / "writable", b"")

    @hookimpl
    def remove(self, layer_id: str) -> None:
        self.put(layer_id)
        layer = self.layer_directory(layer_id)
        for name in inside.names(layer) if inside.is_directory(layer) else ():
            if name.startswith(_LOOK):  # of a process that was killed
                mount_of([], None, layer / name).unmount()
        super().remove(layer_id)

    @hookimpl
    def parent_of(self, layer_id: str) -> str | None:
        try:
            return self._parent(layer_id)
        except (OSError, layerstore_core.BadRecord):
            return None

    @hookimpl
    def status(self) -> list[tuple[str, str]]:
        return [("Home", str(self.context.home)), ("Merged by", "fuse-overlayfs, where a layer has a parent")]

    @hookimpl
    def metadata(self, layer_id: str) -> dict[str, str]:
        fields = {"UpperDir": str(self._existing_tree(layer_id))}
        if parents := self._parents(layer_id):
            fields["LowerDir"] = ":".join(str(self.tree(one)) for one in parents)
        return fields

    def _parent(self, layer_id: str) -> str:
        """Return the ID of a layer's parent, `""` for none.

        Raises:
            BadRecord: its note is damaged.
        """
        note = self.layer_directory(layer_id) / "parent"
        content = inside.read(note, _LONGEST_NOTE)
        if content and not _ID.fullmatch(content):
            raise layerstore_core.BadRecord(note, "it has no ID of a layer; remove the layer, and register it again")
        return content.decode("ascii")

    def _parents(self, layer_id: str) -> list[str]:
        """Return the IDs of a layer's ancestors, the parent first.

        Raises:
            BadRecord: a note is damaged.
        """
        found: list[str] = []
        while parent_id := self._parent(layer_id):
            found.append(parent_id)
            if len(found) > _MAX_DEPTH + 2:  # a writable layer and its init layer have parents, too
                raise layerstore_core.BadRecord(
                    self.layer_directory(layer_id) / "parent", "the chain of the layer's parents does not end"
                )
            layer_id = parent_id
        return found

    # Mounts

    @hookimpl
    def get(self, layer_id: str) -> str:
        own = self._existing_tree(layer_id)
        if not self._parent(layer_id):
            return str(own)
        merged = self._mount(layer_id)
        with suppress(FileExistsError):
            inside.mkdir(merged.target, 0o700)
        mount(merged)
        return str(merged.target)

    @hookimpl
    def put(self, layer_id: str) -> None:
        if not inside.is_directory(self.layer_directory(layer_id)):
            return
        try:
            merged = self._mount(layer_id)
        except (OSError, layerstore_core.BadRecord):  # a layer that was made in part, or whose note is damaged
            merged = mount_of([], None, self.layer_directory(layer_id))
        merged.unmount()
        with suppress(FileNotFoundError):
            inside.rmdir(merged.target)

    def _mount(self, layer_id: str) -> ServedMount:
        layer, own = self.layer_directory(layer_id), self.tree(layer_id)
        lower = [self.tree(one) for one in self._parents(layer_id)]
        if inside.is_directory(layer / "work"):
            return mount_of(lower, own, layer)
        return mount_of([own, *lower], None, layer)

    @hookimpl
    def cleanup(self) -> None:
        """End the mounts for comparisons of processes that were killed."""
        for layer_id in self.layer_ids():
            layer = self.layer_directory(layer_id)
            for name in inside.names(layer) if inside.is_directory(layer) else ():
                if name.startswith(_LOOK):
                    with self.context.lock(_LOOKS), suppress(FileNotFoundError):
                        _end_stale_look(layer / name)

    # Content

    @hookimpl
    def apply_diff(self, layer_id: str, diff: LayerStream) -> int:
        """Unpack a tar through a mount, so that deletions have the form in which the program reads them later."""
        layer = self.layer_directory(layer_id)
        with self.context.mounted(layer_id) as path:
            size = layerstore_core.unpack_layer(diff, path, id_mapping=self.context.id_mapping)
        if not inside.exists(layer / "writable"):
            self._make_read_only(layer)
        return size

    @hookimpl
    def changes(self, layer_id: str, parent_id: str) -> list[Change]:
        with self._trees(layer_id, parent_id) as (tree, parent):
            return layerstore_core.compare_trees(tree, parent, root_owner=self._root_owner())

    @hookimpl
    def diff(self, layer_id: str, parent_id: str) -> BinaryIO:
        with ExitStack() as mounts:
            tree, parent = mounts.enter_context(self._trees(layer_id, parent_id))
            changes = layerstore_core.compare_trees(tree, parent, root_owner=self._root_owner())
            chunks = layerstore_core.pack_changes(tree, changes, id_mapping=self.context.id_mapping)
            stream = layerstore_core.IterStream(chunks, mounts.pop_all().close)
            return cast("BinaryIO", io.BufferedReader(stream))

    @contextmanager
    def _trees(self, layer_id: str, parent_id: str) -> Iterator[tuple[str, str | None]]:
        """Mount a layer and another one for the length of a `with` block.

        The first mount is a new, read-only one: if a directory is deleted and made again, a mount in which that was
        done still finds the deleted files by their names.
        """
        with ExitStack() as mounts:
            parent = mounts.enter_context(self.context.mounted(parent_id)) if parent_id else None
            own, parents = self._existing_tree(layer_id), self._parents(layer_id)
            if not parents:
                yield str(own), parent
                return
            place = self.layer_directory(layer_id) / f"{_LOOK}{secrets.token_hex(8)}"
            look = mount_of([own, *map(self.tree, parents)], None, place)
            with self.context.lock(_LOOKS):
                inside.mkdir(place, 0o700)
                # The kernel releases it when the process dies: `cleanup` sees that nobody looks any more.
                fcntl.flock(mounts.enter_context(inside.open_directory(place)), fcntl.LOCK_SH)
            mounts.callback(layerstore_core.remove_tree, str(place))
            inside.mkdir(look.target, 0o700)
            mounts.callback(look.unmount)
            mount(look)
            yield str(look.target), parent

    def _root_owner(self) -> tuple[int, int] | None:
        return self.context.id_mapping.root_pair() if os.geteuid() == 0 else None

    @hookimpl
    def seal(self, layer_id: str) -> bool:
        self._existing_tree(layer_id)
        self._make_read_only(self.layer_directory(layer_id))
        return True

    @staticmethod
    def _make_read_only(layer: Path) -> None:
        """Have all later mounts of a layer be read-only, so that its children can rely on it."""
        inside.unlink(layer / "writable", missing_ok=True)
        layerstore_core.remove_tree(str(layer / "work"))


def _end_stale_look(place: Path) -> None:
    """Unmount and remove what was mounted for a comparison, unless its process still runs.

    Raises:
        FileNotFoundError: the comparison has just ended.
    """
    with inside.open_directory(place) as directory:
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        mount_of([], None, place).unmount()
        layerstore_core.remove_tree(str(place))
