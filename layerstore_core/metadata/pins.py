"""Pins: references that outlive the process, one empty file per pinned layer."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from layerstore_core.digests import ChainID
from layerstore_core.metadata.atomic import flush, make_directory

_HEX = re.compile(r"[0-9a-f]{64}", re.ASCII)


class Pins:
    """The pins of one store.

    Args:
        directory: `<root>/layerstore/pins`, which Docker does not know; it is made with the first pin.
        durable: whether a pin is on disk when `add` returns.
    """

    def __init__(self, directory: Path, *, durable: bool = True) -> None:
        self._directory = directory
        self._durable = durable

    def add(self, chain: ChainID) -> None:
        """Pin a layer. A second pin does nothing."""
        if not self._directory.is_dir():
            make_directory(self._directory, 0o700, durable=self._durable)
            if self._durable:  # the lock file may have made the one above, and promises nothing
                flush(self._directory.parent.parent)
        pin = self._directory / chain.hex
        new = not pin.exists()
        pin.touch(0o644)
        try:
            self._flush()
        except BaseException:
            if new:
                pin.unlink(missing_ok=True)
            raise

    def remove(self, chain: ChainID) -> None:
        """Take a pin away. One that is not there is no error."""
        try:
            (self._directory / chain.hex).unlink()
        except FileNotFoundError:
            return
        self._flush()

    def holding(self, chain: ChainID) -> list[str]:
        """What of this holds the layer, in words."""
        return ["its pin"] if chain in self else []

    def __contains__(self, chain: ChainID) -> bool:
        return (self._directory / chain.hex).exists()

    def __iter__(self) -> Iterator[ChainID]:
        try:
            names = sorted(os.listdir(self._directory))
        except FileNotFoundError:
            return
        for name in names:
            if _HEX.fullmatch(name):
                yield ChainID.trusted(f"sha256:{name}")

    def _flush(self) -> None:
        if self._durable:
            flush(self._directory)
