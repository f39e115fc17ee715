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
    """The driver's options.

    Attributes:
        address: the server's socket: an absolute path, also as `unix:///PATH`. A name without a slash is that of a
            Docker plugin, `/run/docker/plugins/NAME.sock`.
        home: the directory at the server that `GraphDriver.Init` names. Servers with a root of their own, such as
            `layerstore-graphdriver`, ignore it. `None`: `server` in the driver's own home, or `layers` in
            `server_path`.
        server_path: a directory as the server names it. Where a path of the server's begins with it, `local_path` takes
            its place. `None`: the same as `local_path`.
        local_path: the same directory as it is named here. With this option the trees of all layers must be in it.
        connect_timeout: how many seconds to wait for a server that does not listen (yet).
        timeout: how many seconds the server may take for an answer; in a stream, how long it may send and take nothing.
        diffs: who makes and compares tars. "server": the server does all of it. "store": the store does, in the trees
            that the server mounts. "auto": the server, but a server with Docker's methods alone is not asked for
            changes and sizes, since its rules may be others.
        reproduces_exact_diffs: whether `diff` returns the exact tar of `apply_diff`. `None`: as the server says.
        max_depth: how many layers a chain may have. `None`: as the server says.
        quota: whether the server enforces the storage option `size`. `None`: as the server says.
        adopt: whether to use a home at the server that has the layers of another store, or of this one before its note
            of the home was lost. To be given once.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: Annotated[str, AfterValidator(_socket)]
    home: Directory | None = None
    server_path: Directory | None = None
    local_path: Directory | None = None
    connect_timeout: float = Field(default=10.0, ge=0, le=3600)
    timeout: float = Field(default=600.0, gt=0, le=86400)
    diffs: Literal["auto", "server", "store"] = "auto"
    reproduces_exact_diffs: bool | None = None
    max_depth: int | None = Field(default=None, ge=1, le=100_000)
    quota: bool | None = None
    adopt: bool = False

    @model_validator(mode="after")
    def _needs_both(self) -> RemoteOptions:
        if self.server_path is not None and self.local_path is None:
            raise ValueError("server_path needs local_path, too: the same directory as it is named here")
        return self
