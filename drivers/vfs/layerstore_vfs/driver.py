"""The vfs driver: a layer is a plain directory, and a child begins as a whole copy of its parent.

On disk it is as Docker's: `dir/<id>/` is the layer's tree. Next to it is a file that Docker does not read,
`copied/<id>` of a writable layer. Its first line has the moment at which the parent's tree had been copied, and the
parent's ID. After that line come the stamps of the copied files. A file that was not touched since then need not be
read to be compared with the parent's.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, BinaryIO, ClassVar, Final, cast

# Names that few commands need are used as `layerstore_core.<name>`: the package loads them at their first use.
import layerstore_core
from layerstore_core import hookimpl
from layerstore_core.errors import BadRecord, ConfigError
from layerstore_core.sdk import DirectoryDriver, inside, make_directory

if TYPE_CHECKING:
    from layerstore_core import Change, DriverContext, MountSpec, Stamps
    from layerstore_core.sdk import Difference, LayerEntry

_HOME_MODE: Final = 0o710
#: The first line of a note is shorter than this, in bytes.
_LONGEST_HEAD: Final = 256
#: The longest note that is read, in bytes. It has some twenty bytes for each file, and there may be millions of files.
_LONGEST_NOTE: Final = 1 << 30


class VfsDriver(DirectoryDriver):
    """A driver that copies.

    Args:
        context: the surroundings of this instance.
    """

    contract: ClassVar[int] = 1
    Options: ClassVar = "layerstore_vfs.options:VfsOptions"
    #: The lowest: chosen only if no other driver works. Files of this driver below a root do not show that a user chose
    #: it.
    priority: ClassVar[int] = -100
    last_resort: ClassVar[bool] = True

    def __init__(self, context: DriverContext) -> None:
        super().__init__(context)
        self.layers = context.home / "dir"
        self._copied = context.home / "copied"

    # Layers

    def make_home(self) -> None:
        super().make_home()
        make_directory(self._copied, _HOME_MODE)

    def check_storage_opt(self, storage_opt: Mapping[str, str]) -> None:
        if "size" in storage_opt:
            raise ConfigError(
                "the vfs driver cannot limit a layer's size: plain directories have no quota; "
                "use overlay2 on a file system with project quota, or btrfs"
            )
        super().check_storage_opt(storage_opt)

    def fill(self, layer_id: str, parent_id: str, *, writable: bool) -> None:
        super().fill(layer_id, parent_id, writable=writable)
        if parent_id and writable:
            self._write_stamps(layer_id, parent_id)

    @hookimpl
    def remove(self, layer_id: str) -> None:
        super().remove(layer_id)
        inside.unlink(self._copied / layer_id, missing_ok=True)

    @hookimpl
    def mounts(self, layer_id: str, read_only: bool) -> list[MountSpec]:
        return [layerstore_core.MountSpec.bind(self.get(layer_id), read_only=read_only)]

    @hookimpl
    def seal(self, layer_id: str) -> bool:
        """Do nothing but look: a writable layer is a directory like the others. Its note stays true and of use."""
        self._existing_tree(layer_id)
        return True

    @hookimpl
    def parent_of(self, layer_id: str) -> str | None:
        """Return the parent's ID from the layer's note. Only writable layers have a note, and Docker's have none."""
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
        from layerstore_core.sdk import UnpackRights, check_tree

        home = self.context.home
        return check_tree(
            self.get(layer_id),
            self.get(parent_id) if parent_id else None,
            entries,
            # The database of Docker's volumes shows that Docker uses this root, too.
            rights=UnpackRights(home, lossy_copies=(home.parent / "volumes" / "metadata.db").exists()),
            id_mapping=self.context.id_mapping,
        )

    @hookimpl
    def repair_layer(self, layer_id: str, parent_id: str, proved: bool) -> list[str]:
        note = self._copied / layer_id
        if self._note_problem(layer_id):
            layerstore_core.remove_tree(os.fsencode(note))
            return [f"removed {note}, which could not be read: all files will be compared"]
        if not proved or self.parent_of(layer_id) in (None, parent_id):
            return []
        inside.unlink(note)
        return [f"removed {note}, which names another parent"]

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
            root_owner=self.context.id_mapping.root_pair() if os.geteuid() == 0 else None,
        )

    @hookimpl
    def diff(self, layer_id: str, parent_id: str) -> BinaryIO:
        with ExitStack() as stack:
            chunks = layerstore_core.pack_changes(
                self.get(layer_id), self.changes(layer_id, parent_id), id_mapping=self.context.id_mapping
            )
            stack.callback(getattr(chunks, "close", lambda: None))
            stream = cast("BinaryIO", io.BufferedReader(layerstore_core.IterStream(chunks)))
            stack.pop_all()
            return stream

    # Notes

    def _write_stamps(self, layer_id: str, parent_id: str) -> None:
        """Write a layer's note, now that its files are those of its parent."""
        moment = layerstore_core.change_clock(self._copied)
        stamps = layerstore_core.take_stamps(self.tree(layer_id), moment)
        inside.write(self._copied / layer_id, f"{moment} {parent_id}\n".encode() + stamps, 0o644)

    def _note_problem(self, layer_id: str) -> str:
        """Return why a layer's note cannot be read; empty if it can be read, or if there is none."""
        try:
            inside.open_file(self._copied / layer_id).close()
        except FileNotFoundError:
            return ""
        except (OSError, BadRecord) as error:
            return str(error)
        return ""

    def _read_stamps(self, layer_id: str, parent_id: str) -> Stamps | None:
        """Return the stamps of the files that were copied from `parent_id`; `None` if the layer has no such note."""
        try:
            note = inside.read(self._copied / layer_id, _LONGEST_NOTE)
        except FileNotFoundError:
            return None
        head, end, stamps = note.partition(b"\n")
        known = end and head.split(b" ")[1:] == [parent_id.encode()]
        return layerstore_core.Stamps(stamps) if known else None
