"""What can be set for the driver: a module of its own, since pydantic takes long to load, and is seldom needed."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class VfsOptions(BaseModel):
    """vfs has no options; the model is there so that a mistaken one is named."""

    model_config = ConfigDict(extra="forbid")
