"""CHANGEME: where layers are kept, and how.

Each method says what it has to do, and fails until it does. The contract in full is `layerstore_core.driver.hookspecs`;
`docs/tutorial.md` of layerstore writes such a driver step by step.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

from pydantic import BaseModel, ConfigDict

from layerstore_core import DriverContext, hookimpl


class Options(BaseModel):
    """The driver's options: `--driver-opt KEY=VALUE`. An unknown one is an error that names it."""

    model_config = ConfigDict(extra="forbid")


class ChangemeDriver:
    """CHANGEME."""

    Options = Options

    def __init__(self, context: DriverContext) -> None:
        self.context = context

    @classmethod
    def probe(cls, context: DriverContext) -> None:
        """Raise `DriverNotSupported`, with the reason and the remedy, where the driver cannot work. Leave nothing behind."""

    @hookimpl
    def create(self, layer_id: str, parent_id: str, storage_opt: Mapping[str, str]) -> None:
        _todo(
            "create",
            "make the layer below self.context.home, with the parent's content; FileExistsError for a known ID, "
            "FileNotFoundError for an unknown parent, ConfigError for any storage option; leave nothing where it raises",
        )

    @hookimpl
    def create_read_write(
        self, layer_id: str, parent_id: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        _todo("create_read_write", "as create, but for a layer that will be written to")

    @hookimpl
    def remove(self, layer_id: str) -> None:
        _todo("remove", "delete the layer and its mount; what is not there is no error")

    @hookimpl
    def get(self, layer_id: str, mount_label: str) -> str:
        _todo("get", "mount the layer, unless it is mounted, and return the absolute path of its tree")

    @hookimpl
    def put(self, layer_id: str) -> None:
        _todo("put", "unmount the layer, whichever process has mounted it; what is not mounted is no error")

    @hookimpl
    def exists(self, layer_id: str) -> bool:
        _todo("exists", "say whether the layer is there, as it is on disk")

    # What a driver for daily work has besides: layer_ids, status, metadata, cleanup, capabilities; and, where it can do
    # better than to compare mounted trees, changes and diff.


def _todo(hook: str, what: str) -> NoReturn:
    raise NotImplementedError(f"the hook {hook} is still to be written: {what}")
