"""What can be set for the driver: a module of its own, since pydantic takes long to load, and is seldom needed."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field

from layerstore_core import parse_size


def _size(value: Any) -> Any:
    return parse_size(value) if isinstance(value, str) else value


class Options(BaseModel):
    """The driver's options.

    Attributes:
        size: how many bytes a writable layer may take, where its own `size` does not say; with a unit if
            need be (`10G`). `None`: no limit. Docker's name for it, `overlay2.size`, is known too.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    size: Annotated[int, BeforeValidator(_size), Field(gt=0)] | None = Field(
        default=None, validation_alias=AliasChoices("size", "overlay2.size")
    )
