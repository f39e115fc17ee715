"""The driver.

On disk, as Docker's: `dir/<id>/` is the layer's tree. Beside it, where Docker does not look, `copied/<id>` of a writable
layer holds a line with the moment at which the parent's tree had been copied, and the parent's ID; then the stamps of
the copy: what has not been touched since need not be read to be compared with the parent.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, BinaryIO, ClassVar, Final, cast

# What is not imported by name is loaded when it is first used, as the package does it: most commands need little of it.
import layerstore_core
from layerstore_core import BadRecord, ConfigError, hookimpl
from layerstore_core.base import inside
from layerstore_core.base.atomic import make_directory
from layerstore_core.tree.remove import remove_tree

if TYPE_CHECKING:
    from pathlib import Path

    from layerstore_core import Change, DriverContext, Stamps
    from layerstore_core.verify.difference import Difference
    from layerstore_core.verify.expected import LayerEntry

_HOME_MODE: Final = 0o710
_TREE_MODE: Final = 0o755
#: More bytes than the first line of a note has.
_LONGEST_HEAD: Final = 256
#: Some twenty bytes for each file, of which there may be millions.
_LONGEST_NOTE: Final = 1 << 30


class VfsDriver:
    """A driver that copies.

    Args:
        context: the surroundings of this instance.

    Raises:
        OSError: its home cannot be made.
    """

    Options: ClassVar = "layerstore_vfs.options:VfsOptions"
    #: The one to fall back on: its state under a root does not mean that somebody chose it.
    priority: ClassVar[int] = -100
    last_resort: ClassVar[bool] = True

    def __init__(self, context: DriverContext) -> None:
        self._context = context
        self._trees = context.home / "dir"
        self._copied = context.home / "copied"

    # Layers

    @hookimpl
    def create(self, layer_id: str, parent_id: str, storage_opt: Mapping[str, str]) -> None:
        self._create(layer_id, parent_id, storage_opt, writable=False)

    def _create(self, layer_id: str, parent_id: str, storage_opt: Mapping[str, str], *, writable: bool) -> None:
        _refuse_options(storage_opt)
        self._make_home()
        tree = self._tree(layer_id)
        inside.mkdir(tree, _TREE_MODE, None if os.geteuid() else self._context.id_mapping.root_pair())
        try:
            self._fill(tree, parent_id)
            if parent_id and writable:
                self._write_stamps(layer_id, parent_id)
        except BaseException:
            self.remove(layer_id)
            raise

    @hookimpl
    def create_read_write(
        self, layer_id: str, parent_id: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        if mount_label:
            raise ConfigError("the vfs driver does not mount, and cannot label files for SELinux; leave the label out")
        self._create(layer_id, parent_id, storage_opt, writable=True)

    @hookimpl
    def remove(self, layer_id: str) -> None:
        layerstore_core.remove_tree(os.fsencode(self._tree(layer_id)))
        inside.unlink(self._copied / layer_id, missing_ok=True)

    @hookimpl
    def exists(self, layer_id: str) -> bool:
        return inside.is_directory(self._tree(layer_id))

    @hookimpl
    def layer_ids(self) -> list[str]:
        return inside.names(self._trees)

    @hookimpl
    def parent_of(self, layer_id: str) -> str | None:
        """What `copied` says; only writable layers have something there, and Docker's have not."""
        try:
            with open(self._copied / layer_id, "rb", opener=inside.opener) as file:
                head = file.readline(_LONGEST_HEAD)
        except (OSError, BadRecord):
            return None
        moment, _, parent = head.rstrip(b"\n").decode("ascii", "replace").partition(" ")
        return parent if moment.isdigit() and parent else None

    @hookimpl
    def check_layer(self, layer_id: str) -> list[str]:
        problem = self._note_problem(layer_id)
        return [problem] if problem else []

    @hookimpl
    def check_tree(self, layer_id: str, parent_id: str, entries: Iterable[LayerEntry]) -> list[Difference]:
        from layerstore_core.verify.check_tree import check_tree
        from layerstore_core.verify.unpack_rights import UnpackRights

        home = self._context.home
        return check_tree(
            self.get(layer_id),
            self.get(parent_id) if parent_id else None,
            entries,
            # Docker's root, as opposed to ours: the database of its volumes.
            rights=UnpackRights(home, lossy_copies=(home.parent / "volumes" / "metadata.db").exists()),
            id_mapping=self._context.id_mapping,
        )

    @hookimpl
    def repair_layer(self, layer_id: str, parent_id: str, proved: bool) -> list[str]:
        note = self._copied / layer_id
        if self._note_problem(layer_id):
            remove_tree(os.fsencode(note))
            return [f"{note}, which could not be read, removed: all files will be compared"]
        if not proved or self.parent_of(layer_id) in (None, parent_id):
            return []
        inside.unlink(note)
        return [f"{note}, which names another parent, removed"]

    # Trees

    @hookimpl
    def get(self, layer_id: str) -> str:
        tree = self._tree(layer_id)
        inside.open_directory(tree).close()
        return str(tree)

    @hookimpl
    def put(self, layer_id: str) -> None:
        """Nothing is mounted."""

    @hookimpl
    def metadata(self, layer_id: str) -> dict[str, str]:
        return {"Directory": self.get(layer_id)}

    # Differences

    @hookimpl
    def changes(self, layer_id: str, parent_id: str) -> list[Change]:
        return layerstore_core.compare_trees(
            self.get(layer_id),
            self.get(parent_id) if parent_id else None,
            stamps=self._read_stamps(layer_id, parent_id),
            root_owner=self._context.id_mapping.root_pair() if os.geteuid() == 0 else None,
        )

    @hookimpl
    def diff(self, layer_id: str, parent_id: str) -> BinaryIO:
        with ExitStack() as stack:
            chunks = layerstore_core.pack_changes(
                self.get(layer_id), self.changes(layer_id, parent_id), id_mapping=self._context.id_mapping
            )
            stack.callback(getattr(chunks, "close", lambda: None))
            stream = cast("BinaryIO", io.BufferedReader(layerstore_core.IterStream(chunks)))
            stack.pop_all()
            return stream

    # Inside

    def _tree(self, layer_id: str) -> Path:
        return self._trees / layer_id

    def _make_home(self) -> None:
        for directory in (self._trees, self._copied):
            make_directory(directory, _HOME_MODE)

    def _fill(self, tree: Path, parent_id: str) -> None:
        if parent_id:
            layerstore_core.copy_tree(self.get(parent_id), tree)

    def _write_stamps(self, layer_id: str, parent_id: str) -> None:
        """Keep what the layer's files are like now that they are those of its parent."""
        moment = layerstore_core.change_clock(self._copied)
        stamps = layerstore_core.take_stamps(self._tree(layer_id), moment)
        inside.write(self._copied / layer_id, f"{moment} {parent_id}\n".encode() + stamps, 0o644)

    def _note_problem(self, layer_id: str) -> str:
        """Why the stamps of a layer's files cannot be read; empty where they can, or there are none."""
        try:
            inside.open_file(self._copied / layer_id).close()
        except FileNotFoundError:
            return ""
        except (OSError, BadRecord) as error:
            return str(error)
        return ""

    def _read_stamps(self, layer_id: str, parent_id: str) -> Stamps | None:
        """The stamps of the layer's files from when they were those of `parent_id`; `None` where there are none."""
        try:
            note = inside.read(self._copied / layer_id, _LONGEST_NOTE)
        except FileNotFoundError:
            return None
        head, end, stamps = note.partition(b"\n")
        known = end and head.split(b" ")[1:] == [parent_id.encode()]
        return layerstore_core.Stamps(stamps) if known else None


def _refuse_options(storage_opt: Mapping[str, str]) -> None:
    if "size" in storage_opt:
        raise ConfigError(
            "the vfs driver cannot limit a layer's size: plain directories have no quota; "
            "use overlay2 on a file system with project quota, or btrfs"
        )
    if storage_opt:
        raise ConfigError(f"the vfs driver knows no storage option {', '.join(map(repr, sorted(storage_opt)))}")
