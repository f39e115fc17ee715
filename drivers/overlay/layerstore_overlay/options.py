"""The model of the driver's options: a module of its own, since pydantic takes long to load and is seldom needed."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field

from layerstore_core import parse_size


def _size(value: Any) -> Any:
    return parse_size(value) if isinstance(value, str) else value


class Options(BaseModel):
    """The driver's options."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    size: Annotated[int, BeforeValidator(_size), Field(gt=0)] | None = Field(
        default=None,
        validation_alias=AliasChoices("size", "overlay2.size"),
        description="The size limit of writable layers that have no storage option size of their own; none: no limit. "
        "A text may have a unit (10G).",
        json_schema_extra={"unit": "bytes"},
    )
