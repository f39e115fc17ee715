"""The images that writable layers were created from: `<root>/layerstore/rw-images/<driver>/<mount ID>`.

Docker's record of a writable layer names the parent layer only, and several images may have that layer on top. Each
file has an image's ID. It is written before the writable layer's own record has its name, and removed after that: so
each writable layer of an image has one, and a file without a writable layer is of no use.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Final

from layerstore_core.base import inside
from layerstore_core.base.atomic import FILE_MODE, make_directory
from layerstore_core.base.digests import ImageID
from layerstore_core.errors import BadRecord
from layerstore_core.log import logger
from layerstore_core.records.own_state import state_directory

_LONGEST: Final = 100
#: As the drivers' own layers are named: hex digits, or what another store has chosen.
_MOUNT_ID: Final = r"[0-9A-Za-z][0-9A-Za-z_.-]{0,199}"


class RWImages:
    """The images of one driver's writable layers.

    Args:
        root: the store's directory.
        driver: the driver's name on disk.
        durable: whether a change is on disk when the call returns.
    """

    def __init__(self, root: Path, driver: str, *, durable: bool = True) -> None:
        self._directory = state_directory(root, "rw-images", driver)
        self._durable = durable

    def get(self, mount_id: str) -> ImageID | None:
        """Return the image; `None` if it is not recorded, or the record cannot be used."""
        if not re.fullmatch(_MOUNT_ID, mount_id):
            return None
        path = self._directory / mount_id
        try:
            return ImageID(inside.read(path, _LONGEST).decode("ascii", "replace").strip())
        except FileNotFoundError:
            return None
        except (BadRecord, OSError, ValueError) as error:
            logger.warning("cannot read which image a writable layer was created from: {}: {}", path, error)
            return None

    def set(self, mount_id: str, image: ImageID) -> None:
        """Record the image of a writable layer whose own record is being written.

        Raises:
            OSError: it cannot be written.
        """
        if not re.fullmatch(_MOUNT_ID, mount_id):
            return  # a name that another program has chosen, and which cannot be a file's
        make_directory(self._directory, 0o700, durable=self._durable)
        try:
            inside.write(self._directory / mount_id, image.encode(), FILE_MODE, durable=self._durable)
            if self._durable:
                inside.flush(self._directory)
        except BaseException:
            self.remove(mount_id)
            raise

    def remove(self, mount_id: str) -> None:
        """Remove the record of a writable layer that is deleted; if that fails, a garbage collection does it."""
        if not re.fullmatch(_MOUNT_ID, mount_id):
            return
        try:
            inside.unlink(self._directory / mount_id, missing_ok=True)
        except (BadRecord, OSError) as error:
            logger.warning("the record {} remains: {}", self._directory / mount_id, error)

    def recorded(self) -> list[str]:
        """Return the mount IDs that have a record, sorted."""
        try:
            return [name for name in inside.names(self._directory) if re.fullmatch(_MOUNT_ID, name)]
        except (BadRecord, OSError):
            return []

    def path_of(self, mount_id: str) -> Path:
        """Return the path of a record."""
        return self._directory / mount_id

    def unused(self, recorded: Collection[str], mount_ids: Collection[str]) -> list[str]:
        """Return which records belong to no writable layer.

        Args:
            recorded: what `recorded` has returned.
            mount_ids: those of all writable layers, and of those that are being created, read afterwards.
        """
        return sorted(set(recorded) - set(mount_ids))
