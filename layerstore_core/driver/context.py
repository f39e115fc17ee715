"""The context that a driver is created with."""

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
    """The directory, options and settings of one driver instance.

    Attributes:
        home: the driver's own directory, `<root>/<driver name>`. The driver creates it.
        options: the driver's options. For a driver class with an `Options` model (a pydantic `BaseModel`) this is a
            validated instance of the model. It is an empty mapping if the class only names its model and no options
            were given.
        id_mapping: how user and group IDs in layers correspond to IDs on disk.
        logger: loguru's logger, bound with `driver=<name>`.
        read_only: the store was opened for reading, or its root cannot be written. The driver must write nothing.
    """

    home: Path
    logger: Logger
    options: Any = field(default_factory=dict)
    id_mapping: IDMapping = field(default_factory=IDMapping)
    read_only: bool = False

    def __post_init__(self) -> None:
        inside.guard(self.home.parent)

    def nearest_directory(self) -> Path:
        """Return `home` or its nearest existing ancestor, where a probe can make its trials."""
        directory = self.home
        while not inside.is_directory(directory) and directory != self.home.parent:
            directory = directory.parent
        while not directory.is_dir():
            directory = directory.parent
        return directory


StorageOpt = Mapping[str, str]
"""The options of one layer, by name."""
