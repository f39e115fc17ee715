"""Default answers for the hooks that a driver leaves out."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast

from layerstore_core.driver.capabilities import Capabilities
from layerstore_core.driver.hookspecs import FileGetter, hookimpl
from layerstore_core.tree.idmap import IDMapping

if TYPE_CHECKING:
    from collections.abc import Iterable

    from layerstore_core.diff.change import Change
    from layerstore_core.tar.layer_stream import LayerStream
    from layerstore_core.verify.difference import Difference
    from layerstore_core.verify.expected import LayerEntry


class MountedDriver(Protocol):
    """The part of a driver that the fallback uses: its directory, its counted mounts and its changes."""

    @property
    def home(self) -> Path: ...

    @property
    def capabilities(self) -> Capabilities: ...

    def mounted(self, layer_id: str) -> AbstractContextManager[str]: ...

    def changes(self, layer_id: str, parent_id: str) -> list[Change]: ...


class Fallback:
    """The plugin that answers a hook if the driver and its wrappers have not.

    It answers that there are no capabilities, no status and no problems, and repairs and seals nothing. It implements
    the diff family by means of `get` and `put` alone. Docker's developers know this as `NaiveDiffDriver` over a
    `ProtoDriver`: the six required hooks correspond to the `ProtoDriver`, and the fallback to the `NaiveDiffDriver`.

    Its hooks import what they need when they are called, for start-up time: a store calls few of them.

    Args:
        driver: the driver whose counted mounts are used.
        id_mapping: how user and group IDs in layers correspond to IDs on disk.
    """

    def __init__(self, driver: MountedDriver, id_mapping: IDMapping) -> None:
        self._driver = driver
        self._id_mapping = id_mapping

    @hookimpl(trylast=True)
    def capabilities(self) -> Capabilities:
        return Capabilities()

    @hookimpl(trylast=True)
    def status(self) -> list[tuple[str, str]]:
        return []

    @hookimpl(trylast=True)
    def check_layer(self) -> list[str]:
        return []

    @hookimpl(trylast=True)
    def check_tree(self, layer_id: str, parent_id: str, entries: Iterable[LayerEntry]) -> list[Difference]:
        from layerstore_core.verify.check_tree import check_tree
        from layerstore_core.verify.unpack_rights import UnpackRights

        with self._both(layer_id, parent_id) as (upper, lower):
            return check_tree(
                upper, lower, entries, rights=UnpackRights(self._driver.home), id_mapping=self._id_mapping
            )

    @hookimpl(trylast=True)
    def parent_of(self) -> None:
        return None

    @hookimpl(trylast=True)
    def repair_layer(self) -> list[str]:
        return []

    @hookimpl(trylast=True)
    def check_home(self) -> list[str]:
        return []

    @hookimpl(trylast=True)
    def repair_home(self) -> list[str]:
        return []

    @hookimpl(trylast=True)
    def seal(self) -> bool:
        return False

    @hookimpl(trylast=True)
    def metadata(self, layer_id: str) -> dict[str, str]:
        return {"ID": layer_id}

    @hookimpl(trylast=True)
    def apply_diff(self, layer_id: str, diff: LayerStream) -> int:
        from layerstore_core.unpack.unpacker import unpack_layer

        with self._driver.mounted(layer_id) as path:
            shared = self._driver.capabilities.shares_inodes
            return unpack_layer(diff, path, id_mapping=self._id_mapping, break_links=shared)

    @hookimpl(trylast=True)
    def diff(self, layer_id: str, parent_id: str) -> BinaryIO:
        from layerstore_core.diff.compare_trees import compare_trees
        from layerstore_core.diff.pack import pack_changes
        from layerstore_core.streams.iterstream import IterStream

        with ExitStack() as mounts:
            upper = mounts.enter_context(self._driver.mounted(layer_id))
            lower = mounts.enter_context(self._driver.mounted(parent_id)) if parent_id else None
            changes = compare_trees(upper, lower, root_owner=self._root_owner())
            chunks = pack_changes(upper, changes, id_mapping=self._id_mapping)
            return cast("BinaryIO", io.BufferedReader(IterStream(chunks, mounts.pop_all().close)))

    @hookimpl(trylast=True)
    def changes(self, layer_id: str, parent_id: str) -> list[Change]:
        from layerstore_core.diff.compare_trees import compare_trees

        with self._both(layer_id, parent_id) as (upper, lower):
            return compare_trees(upper, lower, root_owner=self._root_owner())

    @hookimpl(trylast=True)
    def diff_size(self, layer_id: str, parent_id: str) -> int:
        return self._usage(layer_id, parent_id)[0]

    @hookimpl(trylast=True)
    def usage(self, layer_id: str, parent_id: str) -> tuple[int, int]:
        return self._usage(layer_id, parent_id)

    def _usage(self, layer_id: str, parent_id: str) -> tuple[int, int]:
        from layerstore_core.diff.size import changed_usage

        changes = self._driver.changes(layer_id, parent_id)
        with self._driver.mounted(layer_id) as upper:
            return changed_usage(upper, changes)

    @hookimpl(trylast=True)
    def diff_getter(self, layer_id: str) -> FileGetter:
        from layerstore_core.tree.files import TreeFiles

        with ExitStack() as mounts:
            path = mounts.enter_context(self._driver.mounted(layer_id))
            return TreeFiles(path, mounts.pop_all().close)

    def _root_owner(self) -> tuple[int, int] | None:
        return self._id_mapping.root_pair() if os.geteuid() == 0 else None

    @contextmanager
    def _both(self, layer_id: str, parent_id: str) -> Iterator[tuple[str, str | None]]:
        with self._driver.mounted(layer_id) as upper:
            if not parent_id:
                yield upper, None
                return
            with self._driver.mounted(parent_id) as lower:
                yield upper, lower
