"""layerstore: content-addressed filesystem layers, with pluggable graph drivers and Docker's formats on disk.

Everything public is importable from here. Names are loaded when they are first used, so that
`import layerstore_core` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from layerstore_core._version import __version__

if TYPE_CHECKING:
    from layerstore_core.archive.changes import Change, ChangeKind
    from layerstore_core.archive.entry import EntryType, TarEntry
    from layerstore_core.archive.idmap import IDMapping, IDRange
    from layerstore_core.archive.stream import LayerStream
    from layerstore_core.config import StoreConfig, load_config
    from layerstore_core.digests import ChainID, DiffID, chain_id
    from layerstore_core.driver.capabilities import Capabilities
    from layerstore_core.driver.context import DriverContext
    from layerstore_core.driver.hookspecs import FileGetter, hookimpl, hookspec
    from layerstore_core.errors import (
        AmbiguousDriver,
        ConfigError,
        DriverContractError,
        DriverNotFound,
        DriverNotSupported,
        IntegrityError,
        InvalidLayer,
        InvalidMountName,
        LayerDoesNotExist,
        LayerNotRetained,
        LayerStoreError,
        MaxDepthExceeded,
        MountDoesNotExist,
        MountNameConflict,
    )
    from layerstore_core.layers import Layer, RemovedLayer, RWLayer
    from layerstore_core.restoring import Problem
    from layerstore_core.store import LayerStore

#: Each public name, and the module that it comes from.
_HOMES = {
    "AmbiguousDriver": "errors",
    "Capabilities": "driver.capabilities",
    "ChainID": "digests",
    "Change": "archive.changes",
    "ChangeKind": "archive.changes",
    "ConfigError": "errors",
    "DiffID": "digests",
    "DriverContext": "driver.context",
    "DriverContractError": "errors",
    "DriverNotFound": "errors",
    "DriverNotSupported": "errors",
    "EntryType": "archive.entry",
    "FileGetter": "driver.hookspecs",
    "IDMapping": "archive.idmap",
    "IDRange": "archive.idmap",
    "IntegrityError": "errors",
    "InvalidLayer": "errors",
    "InvalidMountName": "errors",
    "Layer": "layers",
    "LayerDoesNotExist": "errors",
    "LayerNotRetained": "errors",
    "LayerStore": "store",
    "LayerStoreError": "errors",
    "LayerStream": "archive.stream",
    "MaxDepthExceeded": "errors",
    "MountDoesNotExist": "errors",
    "MountNameConflict": "errors",
    "Problem": "restoring",
    "RWLayer": "layers",
    "RemovedLayer": "layers",
    "StoreConfig": "config",
    "TarEntry": "archive.entry",
    "chain_id": "digests",
    "hookimpl": "driver.hookspecs",
    "hookspec": "driver.hookspecs",
    "load_config": "config",
}

__all__ = [
    "AmbiguousDriver",
    "Capabilities",
    "ChainID",
    "Change",
    "ChangeKind",
    "ConfigError",
    "DiffID",
    "DriverContext",
    "DriverContractError",
    "DriverNotFound",
    "DriverNotSupported",
    "EntryType",
    "FileGetter",
    "IDMapping",
    "IDRange",
    "IntegrityError",
    "InvalidLayer",
    "InvalidMountName",
    "Layer",
    "LayerDoesNotExist",
    "LayerNotRetained",
    "LayerStore",
    "LayerStoreError",
    "LayerStream",
    "MaxDepthExceeded",
    "MountDoesNotExist",
    "MountNameConflict",
    "Problem",
    "RWLayer",
    "RemovedLayer",
    "StoreConfig",
    "TarEntry",
    "__version__",
    "chain_id",
    "hookimpl",
    "hookspec",
    "load_config",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
