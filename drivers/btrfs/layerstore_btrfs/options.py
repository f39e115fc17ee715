"""The model of the driver's options: a module of its own, since pydantic takes long to load and is seldom needed."""

from __future__ import annotations

from typing import Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, field_validator

from layerstore_core import parse_size


class Options(BaseModel):
    """The driver's options."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_space: int = Field(
        default=0,
        ge=0,
        validation_alias=AliasChoices("min_space", "btrfs.min_space"),
        description="The smallest allowed value of a layer's storage option size; 0: any size is allowed. A text may "
        "have a unit (10G).",
        json_schema_extra={"unit": "bytes"},
    )

    @field_validator("min_space", mode="before")
    @classmethod
    def _read_size(cls, value: Any) -> Any:
        return parse_size(value) if isinstance(value, str) else value
