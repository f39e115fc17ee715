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

from layerstore_core._version import __version__  # noqa: E402

#: True for type checkers, by its name. To load `typing` takes half as long as an empty program.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from layerstore_core.base.digests import ChainID, DiffID, ImageID, chain_id
    from layerstore_core.base.limits import Limit, Limits
    from layerstore_core.base.reference import Reference
    from layerstore_core.base.units import parse_duration, parse_size
    from layerstore_core.config.load import load_config
    from layerstore_core.config.model import StoreConfig
    from layerstore_core.config.registries import HostSettings
    from layerstore_core.config.settings import Settings
    from layerstore_core.diff.change import Change, ChangeKind, TouchedPaths
    from layerstore_core.diff.compare_trees import compare_trees
    from layerstore_core.diff.pack import SkipXattr, pack_changes, pack_tree
    from layerstore_core.diff.stamps import Stamps, change_clock, take_stamps
    from layerstore_core.driver.capabilities import Capabilities
    from layerstore_core.driver.context import DriverContext
    from layerstore_core.driver.hookspecs.diffs import FileGetter
    from layerstore_core.driver.hookspecs.markers import hookimpl, hookspec
    from layerstore_core.driver.mount_spec import MountSpec
    from layerstore_core.driver.namespace import enter_user_namespace
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
        InvalidSnapshot,
        InvalidSource,
        LayerDoesNotExist,
        LayerNotRetained,
        LayerStoreError,
        MaxDepthExceeded,
        MountDoesNotExist,
        MountFailed,
        MountNameConflict,
        ReadOnlyStore,
        RootInUse,
        RWLayerInUse,
        SnapshotDoesNotExist,
        SnapshotError,
        SnapshotExists,
        SnapshotHasChildren,
        SnapshotsInUse,
        StoreDoesNotExist,
        UserNamespaceError,
        WrongSnapshotKind,
    )
    from layerstore_core.images.api.images import Images
    from layerstore_core.images.archive import ArchivedImage, ImageArchive
    from layerstore_core.images.arguments import ImageFormat
    from layerstore_core.images.compare import DiffStat, TreeDiff, compare_images
    from layerstore_core.images.config.model import (
        ConfigPart,
        ExecutionConfig,
        Healthcheck,
        HistoryStep,
        ImageConfig,
        RootFS,
        Words,
    )
    from layerstore_core.images.config.options import ConfigOptions
    from layerstore_core.images.details import ImageDetails, LayerOfImage
    from layerstore_core.images.filters import ImageFilter
    from layerstore_core.images.formats.documents import ConfigDocument
    from layerstore_core.images.formats.found import SkipKind, Skipped
    from layerstore_core.images.formats.platforms import Platform
    from layerstore_core.images.image import HistoryEntry, Image
    from layerstore_core.images.layer.builder import LayerBuilder
    from layerstore_core.images.output import BinaryWriter
    from layerstore_core.images.remote.events import BlobEvent
    from layerstore_core.images.remote.image import RegistryImage, RemoteManifest
    from layerstore_core.images.remove import Removal
    from layerstore_core.images.results import (
        LoadedImages,
        PulledImages,
        PushedBlob,
        PushedImage,
        SavedImages,
        SavedManifest,
    )
    from layerstore_core.images.transfer.load import LayerProgress
    from layerstore_core.locking.root_locks import LocksUnavailable
    from layerstore_core.maintenance.check import check_store, repair
    from layerstore_core.maintenance.finding import Finding
    from layerstore_core.maintenance.gc import Removed, collect_garbage
    from layerstore_core.maintenance.prune import Pruned, prune
    from layerstore_core.maintenance.repair import OnRepaired
    from layerstore_core.maintenance.repair_source import RepairSource
    from layerstore_core.maintenance.usage import (
        ImageUsage,
        LayerUsage,
        SnapshotSize,
        StoreUsage,
        Total,
        WritableUsage,
        disk_usage,
    )
    from layerstore_core.records.kept import Referrer
    from layerstore_core.registry.blobs import BlobResponse
    from layerstore_core.registry.client import Registry
    from layerstore_core.registry.credentials import Credentials, credentials_for
    from layerstore_core.registry.endpoint import Endpoint
    from layerstore_core.registry.errors import (
        InvalidAnswer,
        NotInRegistry,
        RegistryDenied,
        RegistryError,
        RegistryUnavailable,
    )
    from layerstore_core.registry.hosts import RegistrySettings, endpoints_of
    from layerstore_core.registry.results import Manifest, ManifestInfo, PutManifest, Upload
    from layerstore_core.snapshots.model import Snapshot, SnapshotKind, SnapshotUsage
    from layerstore_core.snapshots.snapshots import Snapshots
    from layerstore_core.store.handles import Layer, RWLayer
    from layerstore_core.store.nodes import Problem, RemovedLayer
    from layerstore_core.store.registration.chain import LayerInput
    from layerstore_core.store.registration.layer import Progress
    from layerstore_core.store.store import LayerStore
    from layerstore_core.streams.iterstream import IterStream
    from layerstore_core.tar.entry import EntryType, TarEntry
    from layerstore_core.tar.layer_stream import LayerStream
    from layerstore_core.tar.run import Run
    from layerstore_core.tree.copy import copy_metadata
    from layerstore_core.tree.copy_tree import copy_tree
    from layerstore_core.tree.files import TreeFiles
    from layerstore_core.tree.idmap import IDMapping, IDRange
    from layerstore_core.tree.remove import remove_tree
    from layerstore_core.unpack.unpacker import unpack_layer
    from layerstore_core.unpack.whiteout_style import WhiteoutStyle
    from layerstore_core.view.compare import TreeChange
    from layerstore_core.view.entries import iter_entries
    from layerstore_core.view.history import LayerChange
    from layerstore_core.view.nodes import Node
    from layerstore_core.view.path import ViewPath
    from layerstore_core.view.tree import TreeView

#: Each public name, and the module that it comes from.
_HOMES = {
    "AmbiguousDriver": "errors",
    "ArchivedImage": "images.archive",
    "BadRecord": "errors",
    "BinaryWriter": "images.output",
    "BlobEvent": "images.remote.events",
    "BlobResponse": "registry.blobs",
    "Capabilities": "driver.capabilities",
    "ChainID": "base.digests",
    "Change": "diff.change",
    "ChangeKind": "diff.change",
    "ConfigDocument": "images.formats.documents",
    "ConfigError": "errors",
    "ConfigOptions": "images.config.options",
    "ConfigPart": "images.config.model",
    "Credentials": "registry.credentials",
    "DiffID": "base.digests",
    "DiffStat": "images.compare",
    "DriverContext": "driver.context",
    "DriverContractError": "errors",
    "DriverNotFound": "errors",
    "DriverNotSupported": "errors",
    "Endpoint": "registry.endpoint",
    "EntryType": "tar.entry",
    "ExecutionConfig": "images.config.model",
    "FileGetter": "driver.hookspecs.diffs",
    "Finding": "maintenance.finding",
    "Healthcheck": "images.config.model",
    "HistoryEntry": "images.image",
    "HistoryStep": "images.config.model",
    "HostSettings": "config.registries",
    "IDMapping": "tree.idmap",
    "IDRange": "tree.idmap",
    "Image": "images.image",
    "ImageArchive": "images.archive",
    "ImageConfig": "images.config.model",
    "ImageDetails": "images.details",
    "ImageDoesNotExist": "errors",
    "ImageFilter": "images.filters",
    "ImageFormat": "images.arguments",
    "ImageID": "base.digests",
    "ImageInUse": "errors",
    "ImageUsage": "maintenance.usage",
    "Images": "images.api.images",
    "IntegrityError": "errors",
    "InvalidAnswer": "registry.errors",
    "InvalidImage": "errors",
    "InvalidLayer": "errors",
    "InvalidMountName": "errors",
    "InvalidReference": "errors",
    "InvalidSnapshot": "errors",
    "InvalidSource": "errors",
    "IterStream": "streams.iterstream",
    "Layer": "store.handles",
    "LayerBuilder": "images.layer.builder",
    "LayerChange": "view.history",
    "LayerDoesNotExist": "errors",
    "LayerInput": "store.registration.chain",
    "LayerNotRetained": "errors",
    "LayerOfImage": "images.details",
    "LayerProgress": "images.transfer.load",
    "LayerStore": "store.store",
    "LayerStoreError": "errors",
    "LayerStream": "tar.layer_stream",
    "LayerUsage": "maintenance.usage",
    "Limit": "base.limits",
    "Limits": "base.limits",
    "LoadedImages": "images.results",
    "LocksUnavailable": "locking.root_locks",
    "Manifest": "registry.results",
    "ManifestInfo": "registry.results",
    "MaxDepthExceeded": "errors",
    "MountDoesNotExist": "errors",
    "MountFailed": "errors",
    "MountNameConflict": "errors",
    "MountSpec": "driver.mount_spec",
    "Node": "view.nodes",
    "NotInRegistry": "registry.errors",
    "OnRepaired": "maintenance.repair",
    "Platform": "images.formats.platforms",
    "Problem": "store.nodes",
    "Progress": "store.registration.layer",
    "Pruned": "maintenance.prune",
    "PulledImages": "images.results",
    "PushedBlob": "images.results",
    "PushedImage": "images.results",
    "PutManifest": "registry.results",
    "RWLayer": "store.handles",
    "RWLayerInUse": "errors",
    "ReadOnlyStore": "errors",
    "Reference": "base.reference",
    "Referrer": "records.kept",
    "Registry": "registry.client",
    "RegistryDenied": "registry.errors",
    "RegistryError": "registry.errors",
    "RegistryImage": "images.remote.image",
    "RegistrySettings": "registry.hosts",
    "RegistryUnavailable": "registry.errors",
    "RemoteManifest": "images.remote.image",
    "Removal": "images.remove",
    "Removed": "maintenance.gc",
    "RemovedLayer": "store.nodes",
    "RepairSource": "maintenance.repair_source",
    "RootFS": "images.config.model",
    "RootInUse": "errors",
    "Run": "tar.run",
    "SavedImages": "images.results",
    "SavedManifest": "images.results",
    "Settings": "config.settings",
    "SkipKind": "images.formats.found",
    "SkipXattr": "diff.pack",
    "Skipped": "images.formats.found",
    "Snapshot": "snapshots.model",
    "SnapshotDoesNotExist": "errors",
    "SnapshotError": "errors",
    "SnapshotExists": "errors",
    "SnapshotHasChildren": "errors",
    "SnapshotKind": "snapshots.model",
    "SnapshotSize": "maintenance.usage",
    "SnapshotUsage": "snapshots.model",
    "Snapshots": "snapshots.snapshots",
    "SnapshotsInUse": "errors",
    "Stamps": "diff.stamps",
    "StoreConfig": "config.model",
    "StoreDoesNotExist": "errors",
    "StoreUsage": "maintenance.usage",
    "TarEntry": "tar.entry",
    "Total": "maintenance.usage",
    "TouchedPaths": "diff.change",
    "TreeChange": "view.compare",
    "TreeDiff": "images.compare",
    "TreeFiles": "tree.files",
    "TreeView": "view.tree",
    "Upload": "registry.results",
    "UserNamespaceError": "errors",
    "ViewPath": "view.path",
    "WhiteoutStyle": "unpack.whiteout_style",
    "Words": "images.config.model",
    "WritableUsage": "maintenance.usage",
    "WrongSnapshotKind": "errors",
    "chain_id": "base.digests",
    "change_clock": "diff.stamps",
    "check_store": "maintenance.check",
    "collect_garbage": "maintenance.gc",
    "compare_images": "images.compare",
    "compare_trees": "diff.compare_trees",
    "copy_metadata": "tree.copy",
    "copy_tree": "tree.copy_tree",
    "credentials_for": "registry.credentials",
    "disk_usage": "maintenance.usage",
    "endpoints_of": "registry.hosts",
    "enter_user_namespace": "driver.namespace",
    "hookimpl": "driver.hookspecs.markers",
    "hookspec": "driver.hookspecs.markers",
    "iter_entries": "view.entries",
    "load_config": "config.load",
    "pack_changes": "diff.pack",
    "pack_tree": "diff.pack",
    "parse_duration": "base.units",
    "parse_size": "base.units",
    "prune": "maintenance.prune",
    "remove_tree": "tree.remove",
    "repair": "maintenance.check",
    "take_stamps": "diff.stamps",
    "unpack_layer": "unpack.unpacker",
}

__all__ = [
    "AmbiguousDriver",
    "ArchivedImage",
    "BadRecord",
    "BinaryWriter",
    "BlobEvent",
    "BlobResponse",
    "Capabilities",
    "ChainID",
    "Change",
    "ChangeKind",
    "ConfigDocument",
    "ConfigError",
    "ConfigOptions",
    "ConfigPart",
    "Credentials",
    "DiffID",
    "DiffStat",
    "DriverContext",
    "DriverContractError",
    "DriverNotFound",
    "DriverNotSupported",
    "Endpoint",
    "EntryType",
    "ExecutionConfig",
    "FileGetter",
    "Finding",
    "Healthcheck",
    "HistoryEntry",
    "HistoryStep",
    "HostSettings",
    "IDMapping",
    "IDRange",
    "Image",
    "ImageArchive",
    "ImageConfig",
    "ImageDetails",
    "ImageDoesNotExist",
    "ImageFilter",
    "ImageFormat",
    "ImageID",
    "ImageInUse",
    "ImageUsage",
    "Images",
    "IntegrityError",
    "InvalidAnswer",
    "InvalidImage",
    "InvalidLayer",
    "InvalidMountName",
    "InvalidReference",
    "InvalidSnapshot",
    "InvalidSource",
    "IterStream",
    "Layer",
    "LayerBuilder",
    "LayerChange",
    "LayerDoesNotExist",
    "LayerInput",
    "LayerNotRetained",
    "LayerOfImage",
    "LayerProgress",
    "LayerStore",
    "LayerStoreError",
    "LayerStream",
    "LayerUsage",
    "Limit",
    "Limits",
    "LoadedImages",
    "LocksUnavailable",
    "Manifest",
    "ManifestInfo",
    "MaxDepthExceeded",
    "MountDoesNotExist",
    "MountFailed",
    "MountNameConflict",
    "MountSpec",
    "Node",
    "NotInRegistry",
    "OnRepaired",
    "Platform",
    "Problem",
    "Progress",
    "Pruned",
    "PulledImages",
    "PushedBlob",
    "PushedImage",
    "PutManifest",
    "RWLayer",
    "RWLayerInUse",
    "ReadOnlyStore",
    "Reference",
    "Referrer",
    "Registry",
    "RegistryDenied",
    "RegistryError",
    "RegistryImage",
    "RegistrySettings",
    "RegistryUnavailable",
    "RemoteManifest",
    "Removal",
    "Removed",
    "RemovedLayer",
    "RepairSource",
    "RootFS",
    "RootInUse",
    "Run",
    "SavedImages",
    "SavedManifest",
    "Settings",
    "SkipKind",
    "SkipXattr",
    "Skipped",
    "Snapshot",
    "SnapshotDoesNotExist",
    "SnapshotError",
    "SnapshotExists",
    "SnapshotHasChildren",
    "SnapshotKind",
    "SnapshotSize",
    "SnapshotUsage",
    "Snapshots",
    "SnapshotsInUse",
    "Stamps",
    "StoreConfig",
    "StoreDoesNotExist",
    "StoreUsage",
    "TarEntry",
    "Total",
    "TouchedPaths",
    "TreeChange",
    "TreeDiff",
    "TreeFiles",
    "TreeView",
    "Upload",
    "UserNamespaceError",
    "ViewPath",
    "WhiteoutStyle",
    "Words",
    "WritableUsage",
    "WrongSnapshotKind",
    "__version__",
    "chain_id",
    "change_clock",
    "check_store",
    "collect_garbage",
    "compare_images",
    "compare_trees",
    "copy_metadata",
    "copy_tree",
    "credentials_for",
    "disk_usage",
    "endpoints_of",
    "enter_user_namespace",
    "hookimpl",
    "hookspec",
    "iter_entries",
    "load_config",
    "pack_changes",
    "pack_tree",
    "parse_duration",
    "parse_size",
    "prune",
    "remove_tree",
    "repair",
    "take_stamps",
    "unpack_layer",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
