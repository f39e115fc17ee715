"""Pins: references that outlive the process, one empty file per pinned layer."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from layerstore_core.digests import ChainID
from layerstore_core.metadata.atomic import flush, make_directory
from layerstore_core.metadata.layerdb import LayerDB
from layerstore_core.metadata.ours import recorded_drivers, state_directory
from layerstore_core.metadata.records import BadRecord

_HEX = re.compile(r"[0-9a-f]{64}", re.ASCII)


class Pins:
    """The pins of one driver's layers: `<root>/layerstore/pins/<driver>/<chain hex>`.

    A pin of an earlier version, `<root>/layerstore/pins/<chain hex>`, keeps the layer in each driver that has it.

    Args:
        root: the store's directory; Docker knows nothing of the pins, whose directory is made with the first.
        driver: the driver's name on disk.
        durable: whether a pin is on disk when `add` returns.
    """

    def __init__(self, root: Path, driver: str, *, durable: bool = True) -> None:
        self._root = root
        self._driver = driver
        self._directory = state_directory(root, "pins", driver)
        self._durable = durable

    def add(self, chain: ChainID) -> None:
        """Pin a layer. A second pin does nothing."""
        if not self._directory.is_dir():
            make_directory(self._directory, 0o700, durable=self._durable)
            if self._durable:  # the lock file may have made the one above, and promises nothing
                flush(self._root)
        pin = self._directory / chain.hex
        new = not pin.exists()
        pin.touch(0o644)
        try:
            self._flush(self._directory)
        except BaseException:
            if new:
                pin.unlink(missing_ok=True)
            raise

    def remove(self, chain: ChainID) -> None:
        """Take a pin away. One that is not there is no error. Other drivers' layers of this name stay pinned."""
        shared = self._shared(chain)
        if shared.exists():
            for driver in self._drivers_with(chain):
                if driver != self._driver:
                    Pins(self._root, driver, durable=self._durable).add(chain)
        for pin in (self._directory / chain.hex, shared):
            try:
                pin.unlink()
            except FileNotFoundError:
                continue
            self._flush(pin.parent)

    def holding(self, chain: ChainID) -> list[str]:
        """What of this holds the layer, in words."""
        try:
            return ["its pin"] if chain in self else []
        except OSError as error:
            return [f"perhaps a pin, at which nobody can look: {error.strerror}"]

    def unreadable(self) -> list[BadRecord]:
        """What of this cannot be read, and may refer to any layer."""
        for directory in (self._directory, self._directory.parent):
            try:
                os.stat(
                    os.path.join(directory, ".")
                )  # as for a look at a pin, it has to be a directory that can be searched
            except OSError as error:
                # A missing one is well: no pin was ever made.
                if not isinstance(error, FileNotFoundError) or os.path.lexists(directory):
                    return [BadRecord(directory, f"the pins cannot be read: {error.strerror}")]
        return []

    def __contains__(self, chain: ChainID) -> bool:
        return _is_there(self._directory / chain.hex) or (_is_there(self._shared(chain)) and self._is_ours(chain))

    def __iter__(self) -> Iterator[ChainID]:
        own = set(_chains(self._directory))
        yield from sorted(own | {chain for chain in _chains(self._directory.parent) if self._is_ours(chain)})

    def _shared(self, chain: ChainID) -> Path:
        return self._directory.parent / chain.hex

    def _is_ours(self, chain: ChainID) -> bool:
        """Whether a pin of no driver speaks of this one's layer: a pin without any layer is for all to see."""
        drivers = self._drivers_with(chain)
        return not drivers or self._driver in drivers

    def _drivers_with(self, chain: ChainID) -> list[str]:
        """The drivers that have a layer of this name, sound or not."""
        drivers = recorded_drivers(self._root)
        return [driver for driver in drivers if LayerDB(self._root / "image" / driver / "layerdb").has_layer(chain)]

    def _flush(self, directory: Path) -> None:
        if self._durable:
            flush(directory)


def _chains(directory: Path) -> Iterator[ChainID]:
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return
    for name in names:
        if _HEX.fullmatch(name):
            yield ChainID.trusted(f"sha256:{name}")


def _is_there(path: Path) -> bool:
    """Whether there is a file.

    Raises:
        OSError: nobody can tell.
    """
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    return True
