"""The model of the driver's options: a module of its own, since pydantic takes long to load and is seldom needed."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class VfsOptions(BaseModel):
    """No options: vfs has none. With this model, an option that is given by mistake is an error that names it."""

    model_config = ConfigDict(extra="forbid")
