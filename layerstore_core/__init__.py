"""layerstore: content-addressed filesystem layers, with pluggable graph drivers and Docker's formats on disk.

Everything public is importable from here. Names are loaded when they are first used, so that
`import layerstore_core` costs next to nothing.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import sys

# The command is not ready to clean up while it is being loaded, nor has it anything to clean up: until
# `cli.signals.install`, Ctrl-C ends it without a traceback. Programs that use the package are left alone.
_program = getattr(sys, "argv", None) or [""]
if (
    _program[0].endswith("/layerstore") or (_program[0] == "-m" and "layerstore_core" in sys.orig_argv)
) and _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
del _program

import importlib  # noqa: E402
from typing import TYPE_CHECKING, Any  # noqa: E402

from layerstore_core._version import __version__  # noqa: E402

if TYPE_CHECKING:
    from layerstore_core.archive.changes import Change, ChangeKind, Stamps, change_clock, compare_trees, take_stamps
    from layerstore_core.archive.copy import copy_metadata, copy_tree
    from layerstore_core.archive.entry import EntryType, TarEntry
    from layerstore_core.archive.getter import TreeFiles
    from layerstore_core.archive.idmap import IDMapping, IDRange
    from layerstore_core.archive.iterstream import IterStream
    from layerstore_core.archive.pack import pack_changes, pack_tree
    from layerstore_core.archive.remove import remove_tree
    from layerstore_core.archive.stream import LayerStream
    from layerstore_core.archive.unpack import unpack_layer
    from layerstore_core.catalog import Problem
    from layerstore_core.chains import LayerInput
    from layerstore_core.config import StoreConfig, load_config
    from layerstore_core.digests import ChainID, DiffID, ImageID, chain_id
    from layerstore_core.driver.capabilities import Capabilities
    from layerstore_core.driver.context import DriverContext
    from layerstore_core.driver.hookspecs import FileGetter, hookimpl, hookspec
    from layerstore_core.driver.sizes import parse_size
    from layerstore_core.errors import (
        AmbiguousDriver,
        BadRecord,
        ConfigError,
        DriverContractError,
        DriverNotFound,
        DriverNotSupported,
        ImageDoesNotExist,
        ImageInUse,
        IntegrityError,
        InvalidImage,
        InvalidLayer,
        InvalidMountName,
        InvalidReference,
        LayerDoesNotExist,
        LayerNotRetained,
        LayerStoreError,
        MaxDepthExceeded,
        MountDoesNotExist,
        MountNameConflict,
        ReadOnlyStore,
        RootInUse,
        StoreDoesNotExist,
    )
    from layerstore_core.images.found import Skipped
    from layerstore_core.images.image import HistoryEntry, Image
    from layerstore_core.images.images import Images, LoadedImages, Removal
    from layerstore_core.images.platforms import Platform
    from layerstore_core.images.reference import Reference
    from layerstore_core.layers import Layer, RemovedLayer, RWLayer
    from layerstore_core.metadata.locks import LocksUnavailable
    from layerstore_core.sources import Settings
    from layerstore_core.store import LayerStore

#: Each public name, and the module that it comes from.
_HOMES = {
    "AmbiguousDriver": "errors",
    "BadRecord": "errors",
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
    "HistoryEntry": "images.image",
    "Image": "images.image",
    "ImageDoesNotExist": "errors",
    "ImageID": "digests",
    "ImageInUse": "errors",
    "Images": "images.images",
    "IntegrityError": "errors",
    "InvalidImage": "errors",
    "InvalidLayer": "errors",
    "InvalidMountName": "errors",
    "InvalidReference": "errors",
    "IterStream": "archive.iterstream",
    "Layer": "layers",
    "LayerDoesNotExist": "errors",
    "LayerInput": "chains",
    "LayerNotRetained": "errors",
    "LayerStore": "store",
    "LayerStoreError": "errors",
    "LayerStream": "archive.stream",
    "LoadedImages": "images.images",
    "LocksUnavailable": "metadata.locks",
    "MaxDepthExceeded": "errors",
    "MountDoesNotExist": "errors",
    "MountNameConflict": "errors",
    "Platform": "images.platforms",
    "Problem": "catalog",
    "RWLayer": "layers",
    "ReadOnlyStore": "errors",
    "Reference": "images.reference",
    "Removal": "images.images",
    "RemovedLayer": "layers",
    "RootInUse": "errors",
    "Stamps": "archive.changes",
    "Skipped": "images.found",
    "Settings": "sources",
    "StoreConfig": "config",
    "StoreDoesNotExist": "errors",
    "TarEntry": "archive.entry",
    "TreeFiles": "archive.getter",
    "chain_id": "digests",
    "change_clock": "archive.changes",
    "compare_trees": "archive.changes",
    "copy_metadata": "archive.copy",
    "copy_tree": "archive.copy",
    "hookimpl": "driver.hookspecs",
    "hookspec": "driver.hookspecs",
    "load_config": "config",
    "pack_changes": "archive.pack",
    "pack_tree": "archive.pack",
    "parse_size": "driver.sizes",
    "remove_tree": "archive.remove",
    "take_stamps": "archive.changes",
    "unpack_layer": "archive.unpack",
}

__all__ = [
    "AmbiguousDriver",
    "BadRecord",
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
    "HistoryEntry",
    "IDMapping",
    "IDRange",
    "Image",
    "ImageDoesNotExist",
    "ImageID",
    "ImageInUse",
    "Images",
    "IntegrityError",
    "InvalidImage",
    "InvalidLayer",
    "InvalidMountName",
    "InvalidReference",
    "IterStream",
    "Layer",
    "LayerDoesNotExist",
    "LayerInput",
    "LayerNotRetained",
    "LayerStore",
    "LayerStoreError",
    "LayerStream",
    "LoadedImages",
    "LocksUnavailable",
    "MaxDepthExceeded",
    "MountDoesNotExist",
    "MountNameConflict",
    "Platform",
    "Problem",
    "RWLayer",
    "ReadOnlyStore",
    "Reference",
    "Removal",
    "RemovedLayer",
    "RootInUse",
    "Settings",
    "Skipped",
    "Stamps",
    "StoreConfig",
    "StoreDoesNotExist",
    "TarEntry",
    "TreeFiles",
    "__version__",
    "chain_id",
    "change_clock",
    "compare_trees",
    "copy_metadata",
    "copy_tree",
    "hookimpl",
    "hookspec",
    "load_config",
    "pack_changes",
    "pack_tree",
    "parse_size",
    "remove_tree",
    "take_stamps",
    "unpack_layer",
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
