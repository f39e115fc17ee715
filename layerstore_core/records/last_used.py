"""When layers were last used: the modification time of the empty file `<root>/layerstore/used/<driver>/<chain hex>`.

The kernel sets such a time whole or not at all, so that no kill, full disk or reader at the same moment loses it.

A use is a mount, a new writable layer, or an image that is loaded, saved, named, made or built upon. Reading does not
count: it has to be quick, and may happen in a root that cannot be written. The times serve people and `prune` only, so
they are not flushed, and a time that cannot be written is no error. Docker does not know of them.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from layerstore_core.base import inside
from layerstore_core.base.atomic import make_directory
from layerstore_core.base.digests import ChainID
from layerstore_core.errors import BadRecord
from layerstore_core.log import logger
from layerstore_core.records.own_state import state_directory

_HEX: Final = r"[0-9a-f]{64}"
#: In seconds. A time that is further ahead than clocks differ is damaged: it would keep an image for ever.
_AHEAD: Final = 86_400


class LastUsed:
    """The times of one driver's layers.

    Args:
        root: the store's directory.
        driver: the driver's name on disk.

    Attributes:
        directory: the directory of the times; it is created with the first.
    """

    def __init__(self, root: Path, driver: str) -> None:
        self.directory = state_directory(root, "used", driver)

    def note(self, chains: Iterable[ChainID], when: float | None = None) -> None:
        """Record that layers were used.

        Args:
            chains: the layers.
            when: the time, in seconds since 1970; `None` for now.
        """
        times = None if when is None else (when, when)
        for chain in chains:
            path = self.directory / chain.hex
            try:
                make_directory(self.directory, 0o700)
                with inside.open_file(path, os.O_WRONLY | os.O_CREAT, 0o644) as file:
                    os.utime(file, times)
            except (BadRecord, OSError) as error:
                logger.debug("{}: the time of the last use is not recorded: {}", path, error)

    def of(self, chain: ChainID) -> float | None:
        """Return when a layer was last used, in seconds since 1970; `None` if that is not known."""
        try:
            return _seconds(inside.status(self.directory / chain.hex))
        except (BadRecord, OSError):
            return None

    def all(self) -> dict[ChainID, float]:
        """Return the times of all layers for which they are known."""
        found: dict[ChainID, float] = {}
        try:
            with inside.Directory(self.directory) as directory:
                for name in filter(re.compile(_HEX).fullmatch, directory.names()):
                    with suppress(BadRecord, OSError):
                        if (when := _seconds(directory.status(name))) is not None:
                            found[ChainID.from_hex(name)] = when
        except (BadRecord, OSError) as error:
            logger.debug("{}: times of last use are not known: {}", self.directory, error)
        return found

    def forget(self, chain: ChainID) -> None:
        """Remove the time of a layer that is gone."""
        try:
            inside.unlink(self.directory / chain.hex, missing_ok=True)
        except (BadRecord, OSError) as error:
            logger.debug("{}: the time of a layer that is gone remains: {}", self.directory / chain.hex, error)

    def keep_only(self, chains: Collection[ChainID]) -> None:
        """Remove the times of all other layers."""
        try:
            for name in inside.names(self.directory):
                if re.fullmatch(_HEX, name) and ChainID.from_hex(name) not in chains:
                    inside.unlink(self.directory / name, missing_ok=True)
        except (BadRecord, OSError) as error:
            logger.debug("{}: times of layers that are gone remain: {}", self.directory, error)


def _seconds(status: os.stat_result) -> float | None:
    """Return the time of a file; `None` for one that cannot be right."""
    usable = stat.S_ISREG(status.st_mode) and 0 <= status.st_mtime <= time.time() + _AHEAD
    return status.st_mtime if usable else None
