"""Names for authors of drivers, besides those that `layerstore_core` exports.

They are as public and stable as those of `layerstore_core`. A driver imports `layerstore_core`, this module,
`layerstore_core.errors` and `layerstore_core.log`, and no other module of this package. A few names that drivers need
for diffs are in `layerstore_core` or its `errors` as well; they are the same objects. A name is loaded when it is first
used, so `import layerstore_core.sdk` costs next to nothing.

| for | names |
| --- | --- |
| a driver that keeps each layer in a plain directory | `DirectoryDriver` |
| mounts that a program serves (FUSE), and where something is mounted | `ServedMount`, `is_mount_point` |
| files below the store's root, without following links | `inside` (a module), `make_directory`, `write_file` |
| descriptors that are never lost or closed twice | `Descriptor`, `open_fd` |
| visiting all directories of a tree, however deep | `TreeWalk` |
| opening any path of a tree, and none outside of it | `Root`, `Directory` |
| extended attributes that belong to a layer, and all names | `read_xattrs`, `list_xattrs` |
| comparing two files | `same_status`, `same_content`, `is_new_root` |
| sparse files | `may_have_holes`, `copy_extents` |
| trees of hard links; the files that `unpack_layer(…, on_file=…)` passes | `link_tree`, `MadeFile` |
| sizes of changes | `changed_usage` |
| diffs by what the file system knows, and by its own whiteouts | `TouchedPaths`, `compare_upper`, `WhiteoutStyle` |
| sizes in options, and the words for what was being done when a system call failed | `parse_size`, `while_doing` |
| the hook `check_tree`: comparing two whole trees | `check_tree`, `UnpackRights` |
| comparing single files with a tar | `FileChecker`, `ParentDirectory` |
| what the files should be, from a tar and its parent | `ExpectedTree`, `ExpectedFile`, `ParentTree`, `ParentFile` |
| what these take and return | `LayerEntry`, `EntryMetadata`, `Difference`, `SourceChanged` |
| servers: a driver without a store, with counted mounts | `open_driver`, `BoundDriver` |
| servers that systemd starts | `passed_socket`, `notify_systemd` |

`layerstore_core` itself exports what most drivers need: `hookimpl`, `DriverContext`, `Capabilities`, `copy_tree`,
`remove_tree`, `unpack_layer`, `compare_trees`, `Change`, `pack_changes`, `IterStream`, `LayerStream`, `TreeFiles`,
`IDMapping` and others. The contract is `layerstore_core.driver.hookspecs`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from layerstore_core.base import inside
    from layerstore_core.base.atomic import make_directory, write_file
    from layerstore_core.base.descriptors import Descriptor, open_fd
    from layerstore_core.base.systemd import notify_systemd, passed_socket
    from layerstore_core.base.units import parse_size
    from layerstore_core.diff.change import TouchedPaths
    from layerstore_core.diff.size import changed_usage
    from layerstore_core.diff.upper import compare_upper
    from layerstore_core.driver.bound import BoundDriver
    from layerstore_core.driver.services.directory import DirectoryDriver
    from layerstore_core.driver.services.served_mount import ServedMount, is_mount_point
    from layerstore_core.driver.standalone import open_driver
    from layerstore_core.errors import while_doing
    from layerstore_core.tree.equal import is_new_root, same_content, same_status
    from layerstore_core.tree.extents import copy_extents, may_have_holes
    from layerstore_core.tree.link_tree import link_tree
    from layerstore_core.tree.root import Directory, Root
    from layerstore_core.tree.walk import TreeWalk
    from layerstore_core.tree.xattrs import list_xattrs, read_xattrs
    from layerstore_core.unpack.made_files import MadeFile
    from layerstore_core.unpack.whiteout_style import WhiteoutStyle
    from layerstore_core.verify.check_tree import check_tree
    from layerstore_core.verify.difference import Difference
    from layerstore_core.verify.expected import (
        EntryMetadata,
        ExpectedFile,
        ExpectedTree,
        LayerEntry,
        ParentFile,
        ParentTree,
        SourceChanged,
    )
    from layerstore_core.verify.file_checker import FileChecker, ParentDirectory
    from layerstore_core.verify.unpack_rights import UnpackRights

#: Each public name, and the module that it comes from. `inside` is itself a module, of the package `base`.
_HOMES = {
    "BoundDriver": "driver.bound",
    "Descriptor": "base.descriptors",
    "Difference": "verify.difference",
    "Directory": "tree.root",
    "DirectoryDriver": "driver.services.directory",
    "EntryMetadata": "verify.expected",
    "ExpectedFile": "verify.expected",
    "ExpectedTree": "verify.expected",
    "FileChecker": "verify.file_checker",
    "LayerEntry": "verify.expected",
    "MadeFile": "unpack.made_files",
    "ParentDirectory": "verify.file_checker",
    "ParentFile": "verify.expected",
    "ParentTree": "verify.expected",
    "Root": "tree.root",
    "ServedMount": "driver.services.served_mount",
    "SourceChanged": "verify.expected",
    "TouchedPaths": "diff.change",
    "TreeWalk": "tree.walk",
    "UnpackRights": "verify.unpack_rights",
    "WhiteoutStyle": "unpack.whiteout_style",
    "changed_usage": "diff.size",
    "check_tree": "verify.check_tree",
    "compare_upper": "diff.upper",
    "copy_extents": "tree.extents",
    "inside": "base",
    "is_mount_point": "driver.services.served_mount",
    "is_new_root": "tree.equal",
    "link_tree": "tree.link_tree",
    "list_xattrs": "tree.xattrs",
    "make_directory": "base.atomic",
    "may_have_holes": "tree.extents",
    "notify_systemd": "base.systemd",
    "open_driver": "driver.standalone",
    "open_fd": "base.descriptors",
    "parse_size": "base.units",
    "passed_socket": "base.systemd",
    "read_xattrs": "tree.xattrs",
    "same_content": "tree.equal",
    "same_status": "tree.equal",
    "while_doing": "errors",
    "write_file": "base.atomic",
}

__all__ = [
    "BoundDriver",
    "Descriptor",
    "Difference",
    "Directory",
    "DirectoryDriver",
    "EntryMetadata",
    "ExpectedFile",
    "ExpectedTree",
    "FileChecker",
    "LayerEntry",
    "MadeFile",
    "ParentDirectory",
    "ParentFile",
    "ParentTree",
    "Root",
    "ServedMount",
    "SourceChanged",
    "TouchedPaths",
    "TreeWalk",
    "UnpackRights",
    "WhiteoutStyle",
    "changed_usage",
    "check_tree",
    "compare_upper",
    "copy_extents",
    "inside",
    "is_mount_point",
    "is_new_root",
    "link_tree",
    "list_xattrs",
    "make_directory",
    "may_have_holes",
    "notify_systemd",
    "open_driver",
    "open_fd",
    "parse_size",
    "passed_socket",
    "read_xattrs",
    "same_content",
    "same_status",
    "while_doing",
    "write_file",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "inside":
        value: Any = importlib.import_module(f"layerstore_core.{home}.{name}")
    else:
        value = getattr(importlib.import_module(f"layerstore_core.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
