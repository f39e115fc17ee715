"""The model of the driver's options: a module of its own, since pydantic takes long to load and is seldom needed."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Options(BaseModel):
    """The driver's options."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sharing: Literal["auto", "links", "reflinks"] = Field(
        default="auto",
        description="How layers share files. links: by hard links; content and metadata must be the same. reflinks: "
        "by shared extents, whatever the metadata (btrfs, XFS). auto: links.",
    )
