"""What can be set for the driver: a module of its own, since pydantic takes long to load, and is seldom needed."""

from __future__ import annotations

from typing import Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, field_validator

from layerstore_core import parse_size


class Options(BaseModel):
    """The driver's options.

    Attributes:
        min_space: the least that a layer's storage option `size` may be, in bytes; 0 for no such bound.
            Written as a size with a unit (`10G`), under this name or Docker's, `btrfs.min_space`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_space: int = Field(default=0, ge=0, validation_alias=AliasChoices("min_space", "btrfs.min_space"))

    @field_validator("min_space", mode="before")
    @classmethod
    def _read_size(cls, value: Any) -> Any:
        return parse_size(value) if isinstance(value, str) else value
