"""Pins: references that outlive the process, one empty file per pinned layer."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

from layerstore_core.base import inside
from layerstore_core.base.atomic import make_directory
from layerstore_core.base.digests import ChainID
from layerstore_core.base.inside import flush
from layerstore_core.errors import BadRecord
from layerstore_core.records.layerdb import LayerDB
from layerstore_core.records.own_state import lost_directory, recorded_drivers, state_directory

_HEX: Final = r"[0-9a-f]{64}"


class Pins:
    """The pins of one driver's layers: `<root>/layerstore/pins/<driver>/<chain hex>`.

    A pin of an earlier version, `<root>/layerstore/pins/<chain hex>`, keeps the layer in each driver that has it.

    Args:
        root: the store's directory. Docker knows nothing of pins; their directory is created with the note of the
            driver (see `driver.prior`), or with the first pin.
        driver: the driver's name on disk.
        durable: whether a pin is on disk when `add` returns.
    """

    def __init__(self, root: Path, driver: str, *, durable: bool = True) -> None:
        self._root = root
        self._driver = driver
        self._directory = state_directory(root, "pins", driver)
        self._durable = durable

    def add(self, chain: ChainID) -> None:
        """Pin a layer. A second pin does nothing.

        Raises:
            BadRecord: the other pins are lost: a new directory would look as if there had been none.
            OSError: the pin cannot be written.
        """
        if lost := self._lost():
            raise lost
        if not inside.is_directory(self._directory):
            make_directory(self._directory, 0o700, durable=self._durable)
            if self._durable:  # the lock file may have created the parent directory, without flushing it
                flush(self._root)
        pin = self._directory / chain.hex
        new = not inside.exists(pin)
        try:
            inside.write(pin, b"", 0o644)
            self._flush(self._directory)
        except BaseException:
            if new:
                inside.unlink(pin, missing_ok=True)
            raise

    def remove(self, chain: ChainID) -> None:
        """Remove a pin. A missing pin is no error. Other drivers' layers of this name stay pinned."""
        shared = self._shared(chain)
        if inside.exists(shared):
            for driver in self._drivers_with(chain):
                if driver != self._driver:
                    Pins(self._root, driver, durable=self._durable).add(chain)
        for pin in (self._directory / chain.hex, shared):
            try:
                inside.unlink(pin)
            except FileNotFoundError:
                continue
            self._flush(pin.parent)

    def references_to(self, chain: ChainID) -> list[str]:
        """Return whether a pin refers to the layer, in words."""
        try:
            return ["its pin"] if chain in self else []
        except (BadRecord, OSError) as error:
            return [f"perhaps a pin, which cannot be read: {error}"]

    def all_references(self) -> Collection[ChainID]:
        """Return all pinned layers; see `ReferenceSource`."""
        return set(self)

    def unreadable(self) -> list[BadRecord]:
        """Return the directory of pins if it cannot be read, or is missing: it may refer to any layer."""
        for directory in (self._directory, self._directory.parent):
            try:
                # The same as looking for one pin: this has to be a directory that can be searched.
                inside.exists(directory / "any")
            except BadRecord as error:
                return [error]
            except OSError as error:
                return [BadRecord(directory, f"the pins cannot be read: {error.strerror}")]
        lost = self._lost()
        return [lost] if lost else []

    def _lost(self) -> BadRecord | None:
        return lost_directory(self._root, self._driver, self._directory, "pins")

    def path_of(self, chain: ChainID) -> Path:
        """Return the path of a layer's pin, whether it exists or not."""
        shared = self._shared(chain)
        return shared if inside.exists(shared) else self._directory / chain.hex

    def __contains__(self, chain: ChainID) -> bool:
        return inside.exists(self._directory / chain.hex) or (
            inside.exists(self._shared(chain)) and self._is_ours(chain)
        )

    def __iter__(self) -> Iterator[ChainID]:
        own = set(_chains(self._directory))
        yield from sorted(own | {chain for chain in _chains(self._directory.parent) if self._is_ours(chain)})

    def _shared(self, chain: ChainID) -> Path:
        return self._directory.parent / chain.hex

    def _is_ours(self, chain: ChainID) -> bool:
        """Return whether a pin without a driver is of this driver's layer. A pin without a layer is every driver's."""
        drivers = self._drivers_with(chain)
        return not drivers or self._driver in drivers

    def _drivers_with(self, chain: ChainID) -> list[str]:
        """Return the drivers that have a layer of this name, sound or not, or may have it."""
        return [driver for driver in recorded_drivers(self._root) if self._may_have(driver, chain)]

    def _may_have(self, driver: str, chain: ChainID) -> bool:
        try:
            return LayerDB(self._root / "image" / driver / "layerdb").has_layer(chain)
        except OSError:
            return True  # it is not known

    def _flush(self, directory: Path) -> None:
        if self._durable:
            flush(directory)


def _chains(directory: Path) -> Iterator[ChainID]:
    for name in inside.names(directory):
        if re.fullmatch(_HEX, name):
            yield ChainID.trusted(f"sha256:{name}")
