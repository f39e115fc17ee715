"""The model of the driver's options: a module of its own, since pydantic takes long to load."""

from __future__ import annotations

import os
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

_PLUGINS = "/run/docker/plugins"


def _socket(value: str) -> str:
    path = value.removeprefix("unix://")
    if "/" not in path and path == value and path not in ("", ".", ".."):
        path = f"{_PLUGINS}/{path}.sock"
    return _absolute(path)


def _absolute(value: str) -> str:
    if not os.path.isabs(value) or "\0" in value or ".." in value.split("/"):
        raise ValueError(f"{value!r} is not an absolute path without '..'")
    return os.path.normpath(value).replace("//", "/")


Directory = Annotated[str, AfterValidator(_absolute)]


class RemoteOptions(BaseModel):
    """The driver's options."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: Annotated[str, AfterValidator(_socket)] = Field(
        description="The server's socket: an absolute path, also as unix:///PATH. A name without a slash is that of a "
        f"Docker plugin, {_PLUGINS}/NAME.sock.",
    )
    home: Directory | None = Field(
        default=None,
        description="The directory at the server that GraphDriver.Init names. Servers with a root of their own, such "
        "as layerstore-graphdriver, ignore it. None: server in the driver's own home, or layers in server_path.",
    )
    server_path: Directory | None = Field(
        default=None,
        description="A directory as the server names it. Where a path of the server's begins with it, local_path takes "
        "its place. None: the same as local_path.",
    )
    local_path: Directory | None = Field(
        default=None,
        description="The same directory as it is named here. With this option the trees of all layers must be in it.",
    )
    connect_timeout: float = Field(
        default=10.0,
        ge=0,
        le=3600,
        description="How long to wait for a server that does not listen (yet).",
        json_schema_extra={"unit": "seconds"},
    )
    timeout: float = Field(
        default=600.0,
        gt=0,
        le=86400,
        description="How long the server may take for an answer; in a stream, how long it may send and take nothing.",
        json_schema_extra={"unit": "seconds"},
    )
    diffs: Literal["auto", "server", "store"] = Field(
        default="auto",
        description="Who makes and compares tars. server: the server does all of it. store: the store does, in the "
        "trees that the server mounts. auto: the server, but a server with Docker's methods alone is not asked for "
        "changes and sizes, since its rules may be others.",
    )
    reproduces_exact_diffs: bool | None = Field(
        default=None,
        description="Whether diff returns the exact tar of apply_diff. None: as the server says.",
    )
    max_depth: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        description="How many layers a chain may have. None: as the server says.",
        json_schema_extra={"unit": "layers"},
    )
    quota: bool | None = Field(
        default=None, description="Whether the server enforces the storage option size. None: as the server says."
    )
    adopt: bool = Field(
        default=False,
        description="Whether to use a home at the server that has the layers of another store, or of this one before "
        "its note of the home was lost. To be given once.",
    )

    @model_validator(mode="after")
    def _needs_both(self) -> RemoteOptions:
        if self.server_path is not None and self.local_path is None:
            raise ValueError("server_path needs local_path, too: the same directory as it is named here")
        return self
