"""What a driver is given when the store makes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerstore_core.base import inside
from layerstore_core.tree.idmap import IDMapping

if TYPE_CHECKING:
    from loguru import Logger


@dataclass(frozen=True)
class DriverContext:
    """The surroundings of one driver instance.

    Attributes:
        home: the driver's own directory, `<root>/<driver name>`; the driver makes it.
        options: the driver's options. For a driver class with an `Options` model (a pydantic `BaseModel`) an instance of
            it, already validated; an empty mapping where the class only names its model and nothing was given.
        id_mapping: how IDs in layers correspond to IDs on disk.
        logger: loguru's, bound with `driver=<name>`.
        read_only: the store was opened for reading, or its root cannot be written: the driver writes nothing.
    """

    home: Path
    logger: Logger
    options: Any = field(default_factory=dict)
    id_mapping: IDMapping = field(default_factory=IDMapping)
    read_only: bool = False

    def __post_init__(self) -> None:
        inside.guard(self.home.parent)

    def nearest_directory(self) -> Path:
        """`home`, or the nearest directory above it that is there: where a probe can try things out."""
        directory = self.home
        while not inside.is_directory(directory) and directory != self.home.parent:
            directory = directory.parent
        while not directory.is_dir():
            directory = directory.parent
        return directory


StorageOpt = Mapping[str, str]
"""The options of one layer, by name."""
