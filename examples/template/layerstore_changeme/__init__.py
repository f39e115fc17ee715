"""CHANGEME: where layers are kept, and how.

Each method raises an error that says what the method must do. The full contract is `layerstore_core.driver.hookspecs`.
`docs/tutorial.md` of layerstore builds a driver step by step. If a layer is a plain directory, derive the class from
`layerstore_core.sdk.DirectoryDriver`, and delete the methods that it has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

from pydantic import BaseModel, ConfigDict

from layerstore_core import DriverContext, hookimpl


class Options(BaseModel):
    """The driver's options: `--driver-opt KEY=VALUE`. An unknown option is an error that names it."""

    model_config = ConfigDict(extra="forbid")


class ChangemeDriver:
    """CHANGEME."""

    contract = 1
    Options = Options

    def __init__(self, context: DriverContext) -> None:
        self.context = context

    @classmethod
    def probe(cls, context: DriverContext) -> None:
        """Raise `DriverNotSupported`, with reason and remedy, if the driver cannot work. Leave nothing behind."""

    @hookimpl
    def create(self, layer_id: str, parent_id: str, storage_opt: Mapping[str, str]) -> None:
        _todo(
            "create",
            "make the layer in self.context.home, with the parent's content; raise FileExistsError for a known ID, "
            "FileNotFoundError for an unknown parent, ConfigError for any storage option; leave nothing after an error",
        )

    @hookimpl
    def create_read_write(
        self, layer_id: str, parent_id: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        _todo("create_read_write", "do the same as create, for a layer that will be written to")

    @hookimpl
    def remove(self, layer_id: str) -> None:
        _todo("remove", "unmount and delete the layer; a missing layer is no error")

    @hookimpl
    def get(self, layer_id: str, mount_label: str) -> str:
        _todo("get", "mount the layer, unless it is mounted, and return the absolute path of its tree")

    @hookimpl
    def put(self, layer_id: str) -> None:
        _todo("put", "unmount the layer, even if another process has mounted it; if it is not mounted, do nothing")

    @hookimpl
    def exists(self, layer_id: str) -> bool:
        _todo("exists", "return whether the layer exists on disk")

    # A driver for daily work also has layer_ids, status, metadata, cleanup and capabilities. It has changes and diff if
    # it can do better than comparing mounted trees, and mounts and seal if engines such as containerd use it.


def _todo(hook: str, what: str) -> NoReturn:
    raise NotImplementedError(f"the hook {hook} is not written yet: {what}")
