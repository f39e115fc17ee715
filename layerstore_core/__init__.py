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
    from layerstore_core.archive.pack import SkipXattr, pack_changes, pack_tree
    from layerstore_core.archive.plainentries import PlainEntry
    from layerstore_core.archive.remove import remove_tree
    from layerstore_core.archive.stream import LayerStream
    from layerstore_core.archive.touched import TouchedPaths
    from layerstore_core.archive.unpack import unpack_layer
    from layerstore_core.archive.whiteoutstyle import WhiteoutStyle
    from layerstore_core.catalog import Problem
    from layerstore_core.chains import LayerInput
    from layerstore_core.check import check_store, repair
    from layerstore_core.checking.finding import Finding
    from layerstore_core.checking.offer import RepairSource
    from layerstore_core.checking.repairing import OnRepaired
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
    from layerstore_core.gc import Removed, collect_garbage
    from layerstore_core.images.arguments import ImageFormat
    from layerstore_core.images.documents import ImageConfig
    from layerstore_core.images.found import SkipKind, Skipped
    from layerstore_core.images.image import HistoryEntry, Image
    from layerstore_core.images.images import Images, LoadedImages
    from layerstore_core.images.load import LayerProgress
    from layerstore_core.images.output import BinaryWriter
    from layerstore_core.images.platforms import Platform
    from layerstore_core.images.reference import Reference
    from layerstore_core.images.remove import Removal
    from layerstore_core.layers import Layer, RemovedLayer, RWLayer
    from layerstore_core.limits import Limit, Limits
    from layerstore_core.metadata.locks import LocksUnavailable
    from layerstore_core.registering import Progress
    from layerstore_core.sources import Settings
    from layerstore_core.store import LayerStore

#: Each public name, and the module that it comes from.
_HOMES = {
    "AmbiguousDriver": "errors",
    "BadRecord": "errors",
    "BinaryWriter": "images.output",
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
    "Finding": "checking.finding",
    "HistoryEntry": "images.image",
    "IDMapping": "archive.idmap",
    "IDRange": "archive.idmap",
    "Image": "images.image",
    "ImageConfig": "images.documents",
    "ImageDoesNotExist": "errors",
    "ImageFormat": "images.arguments",
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
    "LayerProgress": "images.load",
    "LayerStore": "store",
    "LayerStoreError": "errors",
    "LayerStream": "archive.stream",
    "Limit": "limits",
    "Limits": "limits",
    "LoadedImages": "images.images",
    "LocksUnavailable": "metadata.locks",
    "MaxDepthExceeded": "errors",
    "MountDoesNotExist": "errors",
    "MountNameConflict": "errors",
    "OnRepaired": "checking.repairing",
    "PlainEntry": "archive.plainentries",
    "Platform": "images.platforms",
    "Problem": "catalog",
    "Progress": "registering",
    "RWLayer": "layers",
    "ReadOnlyStore": "errors",
    "Reference": "images.reference",
    "Removal": "images.remove",
    "Removed": "gc",
    "RemovedLayer": "layers",
    "RepairSource": "checking.offer",
    "RootInUse": "errors",
    "Settings": "sources",
    "SkipKind": "images.found",
    "SkipXattr": "archive.pack",
    "Skipped": "images.found",
    "Stamps": "archive.changes",
    "StoreConfig": "config",
    "StoreDoesNotExist": "errors",
    "TarEntry": "archive.entry",
    "TouchedPaths": "archive.touched",
    "TreeFiles": "archive.getter",
    "WhiteoutStyle": "archive.whiteoutstyle",
    "chain_id": "digests",
    "change_clock": "archive.changes",
    "check_store": "check",
    "collect_garbage": "gc",
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
    "repair": "check",
    "take_stamps": "archive.changes",
    "unpack_layer": "archive.unpack",
}

__all__ = [
    "AmbiguousDriver",
    "BadRecord",
    "BinaryWriter",
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
    "Finding",
    "HistoryEntry",
    "IDMapping",
    "IDRange",
    "Image",
    "ImageConfig",
    "ImageDoesNotExist",
    "ImageFormat",
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
    "LayerProgress",
    "LayerStore",
    "LayerStoreError",
    "LayerStream",
    "Limit",
    "Limits",
    "LoadedImages",
    "LocksUnavailable",
    "MaxDepthExceeded",
    "MountDoesNotExist",
    "MountNameConflict",
    "OnRepaired",
    "PlainEntry",
    "Platform",
    "Problem",
    "Progress",
    "RWLayer",
    "ReadOnlyStore",
    "Reference",
    "Removal",
    "Removed",
    "RemovedLayer",
    "RepairSource",
    "RootInUse",
    "Settings",
    "SkipKind",
    "SkipXattr",
    "Skipped",
    "Stamps",
    "StoreConfig",
    "StoreDoesNotExist",
    "TarEntry",
    "TouchedPaths",
    "TreeFiles",
    "WhiteoutStyle",
    "__version__",
    "chain_id",
    "change_clock",
    "check_store",
    "collect_garbage",
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
    "repair",
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
