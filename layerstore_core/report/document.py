"""The JSON documents of reports. `docs/reference/report.md` describes each field.

A field keeps its meaning as long as `SCHEMA` stays the same; new fields may be added.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from layerstore_core.base.digests import chain_ids
from layerstore_core.base.times import time_of
from layerstore_core.diff.change import ChangeKind
from layerstore_core.images.formats.platforms import Platform
from layerstore_core.images.history import steps_of
from layerstore_core.images.image import text_of
from layerstore_core.tar.entry import EntryType
from layerstore_core.view.analysis.waste import offenders
from layerstore_core.view.nodes import Node

if TYPE_CHECKING:
    from layerstore_core.images.analysis import ImageAnalysis
    from layerstore_core.images.compare import TreeDiff
    from layerstore_core.maintenance.usage import StoreUsage
    from layerstore_core.view.compare import TreeChange
    from layerstore_core.view.packages.package import Package

#: The number of the schema. It changes when a field is removed or gets another meaning.
SCHEMA: Final = 1
Document: TypeAlias = dict[str, Any]

_KINDS: Final = {ChangeKind.ADD: "added", ChangeKind.MODIFY: "changed", ChangeKind.DELETE: "deleted"}


def image_report(analysis: ImageAnalysis) -> Document:
    """Return the document of an image: its numbers, layers, files, waste, packages and config."""
    return {"schema": SCHEMA, "kind": "image", "image": image_document(analysis)}


def comparison_report(before: ImageAnalysis, after: ImageAnalysis, diff: TreeDiff) -> Document:
    """Return the document of two images: what came, went and changed from the first to the second.

    Args:
        before: the first image.
        after: the second image.
        diff: what differs between their trees.
    """
    stat = diff.stat
    return {
        "schema": SCHEMA,
        "kind": "comparison",
        "image": image_document(after),
        "before": _summary(before),
        "comparison": {
            "added": stat.added,
            "changed": stat.changed,
            "deleted": stat.deleted,
            "added_bytes": stat.added_bytes,
            "deleted_bytes": stat.deleted_bytes,
            "shared_layers": _shared_layers(before, after),
            "files": [_change(change) for change in diff.changes],
            "packages": package_changes(before.packages, after.packages),
            "config": config_changes(_settings(before), _settings(after)),
        },
    }


def store_report(usage: StoreUsage) -> Document:
    """Return the document of a store: what its images and layers take, and what could be freed."""
    return {"schema": SCHEMA, "kind": "store", "store": usage_document(usage)}


def image_document(analysis: ImageAnalysis) -> Document:
    """Return the part of a document that is about one image, with all of its files."""
    return {
        **_summary(analysis),
        "layers": [
            {
                "chain_id": str(step.chain_id),
                "diff_id": str(step.diff_id),
                "created": step.created,
                "created_by": step.created_by,
                "comment": step.comment,
                "written": step.analysis.written,
                "wasted": step.analysis.wasted,
                **{name: step.analysis.count(kind) for kind, name in _KINDS.items()},
            }
            for step in analysis.layers
        ],
        "history": [step._asdict() for step in steps_of(analysis.config)],
        "places": [
            {
                "path": path_of(place.path) + ("/" if place.directory else ""),
                "size": place.size,
                "overwritten": place.overwritten,
                "files": place.files,
                "partly": place.partly,
                "layers": list(place.layers),
                "hidden_by": list(place.hidden_by),
                "repeated": place.repeated,
            }
            for place in offenders(analysis.tree.wasted)
        ],
        "wasted_files": [
            {
                "path": path_of(one.path),
                "size": one.size,
                "layer": one.layer,
                "hidden_by": one.hidden_by,
                "kind": one.kind,
                "repeated": one.repeated,
            }
            for one in analysis.tree.wasted
        ],
        "duplicates": [
            {"size": one.size, "wasted": one.wasted, "paths": [path_of(path) for path in one.paths]}
            for one in analysis.duplicates
        ],
        "packages": [one._asdict() for one in analysis.packages],
        "config": dict(analysis.config.document),
        "tree": tree_document(analysis.tree.root),
    }


def _summary(analysis: ImageAnalysis) -> Document:
    """Return the numbers of an image."""
    config = analysis.config.document
    platform = Platform.from_document(config)
    return {
        "name": analysis.name,
        "id": str(analysis.image_id),
        "platform": None if platform is None else str(platform),
        "created": text_of(config, "created"),
        "written": analysis.tree.written,
        "visible": analysis.tree.visible,
        "wasted": analysis.wasted,
        "overwritten": analysis.overwritten,
        "deleted": analysis.deleted,
        "duplicated": analysis.duplicated,
        "efficiency": analysis.tree.efficiency,
        "entries": analysis.files,
        "layer_count": len(analysis.layers),
        "package_count": len(analysis.packages),
    }


def tree_document(root: Node) -> list[Document]:
    """Return the files of a tree, parents first; in a directory first the files, then the directories, each by name.

    A file with several hard links has its size at the first of them, and 0 at the others: then the sizes of all files
    below a directory make up that of the directory.
    """
    found: list[Document] = []
    counted: set[int] = set()
    sums: list[int] = []
    #: What is still to do: a file to list, or, without one, the index of a directory whose sum is complete.
    pending: list[tuple[str, Node | None, int]] = [("", root, -1)]
    parents: list[int] = []
    while pending:
        path, node, parent = pending.pop()
        if node is None:
            found[parent]["size"] = sums[parent]
            if parents[parent] >= 0:
                sums[parents[parent]] += sums[parent]
            continue
        index = len(found)
        size = 0
        if node.type is EntryType.FILE and id(node) not in counted:
            size = node.size
            if node.linked:
                counted.add(id(node))
        found.append({"path": path or "/", "type": node.type.word, "size": size, "layer": max(node.layer, 0)})
        sums.append(size)
        parents.append(parent)
        if node.is_directory:
            pending.append(("", None, index))
            names = sorted(node.children.items(), reverse=True)
            # Files before directories: the first name of a hard link is then the one that `directory_sums` counts.
            for directories in (True, False):
                pending += [
                    (f"{path}/{os.fsdecode(name)}", child, index)
                    for name, child in names
                    if child.is_directory is directories
                ]
        elif parent >= 0:
            sums[parent] += size
    return found


def _change(change: TreeChange) -> Document:
    return {
        "path": path_of(change.path),
        "kind": _KINDS[change.kind],
        "what": list(change.what),
        "before": None if change.before is None else _bytes_of(change.before, change.kind),
        "after": None if change.after is None else _bytes_of(change.after, change.kind),
        "directory": any(node is not None and node.is_directory for node in (change.before, change.after)),
    }


def _bytes_of(node: Node, kind: ChangeKind) -> int:
    """Return the bytes of a regular file, or of all of them in a directory that was deleted."""
    if kind is not ChangeKind.DELETE:
        return node.size if node.type is EntryType.FILE else 0
    total, pending, counted = 0, [node], set[int]()
    while pending:
        here = pending.pop()
        if here.type is EntryType.FILE and id(here) not in counted:
            counted.add(id(here))
            total += here.size
        pending += here.children.values()
    return total


def package_changes(before: Iterable[Package], after: Iterable[Package]) -> list[Document]:
    """Return the packages that differ, by system and name; several versions of one are compared as a set.

    Args:
        before: the packages of the first image.
        after: those of the second one.
    """
    sides: tuple[dict[tuple[str, str, str], list[Package]], ...] = ({}, {})
    for side, packages in zip(sides, (before, after), strict=True):
        for one in packages:
            side.setdefault((one.system, one.name, one.architecture), []).append(one)
    found = []
    for key in sorted(sides[0].keys() | sides[1].keys()):
        old, new = (side.get(key, []) for side in sides)
        versions = [sorted(one.version for one in those) for those in (old, new)]
        if versions[0] == versions[1]:
            continue
        found.append(
            {
                "system": key[0],
                "name": key[1],
                "architecture": key[2],
                "kind": "changed" if old and new else "added" if new else "deleted",
                "before": versions[0],
                "after": versions[1],
                "grown": sum(one.size for one in new) - sum(one.size for one in old),
            }
        )
    return found


def _settings(analysis: ImageAnalysis) -> Mapping[str, Any]:
    settings = analysis.config.document.get("config")
    return settings if isinstance(settings, dict) else {}


def config_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Document]:
    """Return the settings of a config that differ, by name; a setting that is missing is null."""
    return [
        {"setting": key, "before": before.get(key), "after": after.get(key)}
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]


def _shared_layers(before: ImageAnalysis, after: ImageAnalysis) -> int:
    """Return how many of the first layers are the same."""
    chains = chain_ids(before.config.diff_ids), chain_ids(after.config.diff_ids)
    return len(set(chains[0]) & set(chains[1]))


def usage_document(usage: StoreUsage) -> Document:
    """Return what the images and layers of a store take, as the answer of `layerstore du`."""
    return {
        "totals": [asdict(total) for total in usage.totals],
        "images": [
            {
                "id": image.image_id,
                "names": image.names,
                "size": image.size,
                "shared": image.shared,
                "own": image.own,
                "kept": image.kept,
                "rw_layers": image.rw_layers,
                "in_use": image.in_use,
                "last_used": time_of(image.last_used),
            }
            for image in usage.images
        ],
        "layers": [asdict(layer) for layer in usage.layers],
        "rw_layers": [asdict(rw) for rw in usage.rw_layers],
        "snapshots": [asdict(snapshot) for snapshot in usage.snapshots],
    }


def path_of(path: bytes) -> str:
    """Return a path with a slash at its beginning; bytes that are not UTF-8 are lone surrogates."""
    return "/" + os.fsdecode(path)
