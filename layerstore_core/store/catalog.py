"""The catalog: the layers and writable layers that an open store knows, and who holds which.

It mirrors the records on disk. Records are loaded when they are first asked for, so that opening a store
costs the same however many layers it has, and it keeps up with what other processes commit and delete.

A layer is held by the handles that programs have to it, by the layers and writable layers on top of it, by a
pin, and by the images that have it. It may go when nothing holds it, and nothing that cannot be read may
hold it. Handles are holds of the
kernel's (`RootLocks`); the others are records on disk, which only somebody who has a handle can make. So whoever
has a layer solely, and has looked at the records then, knows that nothing will come to hold it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import Final, TypeVar

from layerstore_core.base import inside
from layerstore_core.base.digests import ChainID
from layerstore_core.errors import BadRecord, IntegrityError, LayerStoreError
from layerstore_core.locking.root_locks import RootLocks
from layerstore_core.log import logger
from layerstore_core.records.claims import Claims, claimed_parents
from layerstore_core.records.layer_record import LayerRecord, MountRecord
from layerstore_core.records.layerdb import LayerDB
from layerstore_core.store.nodes import LayerNode, MountNode, ReferenceSource

#: A handle.
_H = TypeVar("_H")

_UNKNOWN_GENERATION: Final = -2


@dataclass(frozen=True, slots=True)
class Problem:
    """Something on disk that could not be loaded.

    Attributes:
        path: the file or directory concerned.
        reason: what is wrong with it.
    """

    path: str
    reason: str


class Catalog:
    """What is known of one root.

    Args:
        db: the records.
        driver: the name of the driver that has the layers: another may have some of the same name.
        holders: what else keeps layers.
        locks: the locks of the root.
        report: called with each problem when it is found.

    Attributes:
        looks: how often all records have been looked at anew.
        lock: guards the maps and all holders within this process; never kept while a layer is unpacked.
    """

    def __init__(
        self,
        db: LayerDB,
        driver: str,
        holders: Sequence[ReferenceSource],
        locks: RootLocks,
        report: Callable[[Problem], None],
    ) -> None:
        self._db = db
        self._driver = driver
        self._sources = holders
        self._locks = locks
        self._report = report
        self.lock: Final = RLock()
        self._layers: dict[ChainID, LayerNode] = {}
        self._mounts: dict[str, MountNode] = {}
        self._problems: dict[str, Problem] = {}
        self._reported: set[Problem] = set()
        self._claims = Claims({}, [])
        self._deleted_children: dict[ChainID | None, set[Path]] = {}
        self._generation = _UNKNOWN_GENERATION
        self.refresh_count = 0

    # Finding

    def find_layer(self, name: ChainID) -> LayerNode | None:
        """A layer by its name, loaded if need be; `None` where there is none.

        Raises:
            BadRecord: its record, or one below it, is damaged.
            OSError: a record cannot be read.
        """
        with self.lock:
            if self._is_known(name):
                return self._layers[name]
            if not self._db.has_layer(name):
                return None
            with self._db.reading_many() as read:
                return self._load_layer(name, read)

    def find_mount(self, name: str) -> MountNode | None:
        """A writable layer by its name; errors as `find_layer`."""
        with self.lock:
            node = self._mounts.get(name)
            if node is not None:
                if node.handles or self._db.mount_id(name) == node.record.mount_id:
                    return node
                self._discard_mount(node)
            return self._load_mount(name) if self._db.has_mount(name) else None

    def layers(self) -> dict[ChainID, LayerNode]:
        """All layers that can be loaded, by name."""
        with self.lock:
            self.refresh()
            return dict(self._layers)

    def mounts(self) -> dict[str, MountNode]:
        """All writable layers that can be loaded, by name."""
        with self.lock:
            self.refresh()
            return dict(self._mounts)

    def problems(self) -> list[Problem]:
        """What could not be loaded."""
        with self.lock:
            self.refresh()
            return list(self._problems.values())

    def refresh(self) -> None:
        """Load what is new on disk, and forget what is gone. Quick where no store has changed anything."""
        with self.lock:
            generation = self._locks.generation()
            if generation == self._generation != -1:
                return
            self.refresh_count += 1
            self._problems.clear()
            self._deleted_children = {}
            for path, left in self._db.parents_of_deletions().items():
                self._deleted_children.setdefault(left, set()).add(path)
            names = self._db.list_layers()
            present = set(names)
            for gone in [
                node for name, node in self._layers.items() if name not in present or not self._is_current(node)
            ]:
                self._discard_layer(gone)
            # What is still known has just been seen to be current: it need not be looked at for each child again.
            self._generation = generation
            try:
                self._load_layers(names)
                mounts = self._db.list_mounts()
                present_mounts = set(mounts)
                for mount in [node for name, node in self._mounts.items() if name not in present_mounts]:
                    self._discard_mount(mount)
                for mount_name in mounts:
                    try:
                        if self.find_mount(mount_name) is None:
                            self._load_mount(mount_name)
                    except (LayerStoreError, OSError) as error:
                        self._note_problem(self._db.mount_path(mount_name), error)
                self._claims = claimed_parents(map(Path, self._problems), self._layers)
            except BaseException:
                self._generation = _UNKNOWN_GENERATION
                raise

    # Holding

    def add_reference_source(self, holder: ReferenceSource) -> None:
        """Ask one more what it holds."""
        self._sources = (*self._sources, holder)

    def lock_key(self, name: ChainID) -> str:
        """What `RootLocks` knows a layer by."""
        return f"layer {self._driver} {name}"

    def open_layer(self, name: ChainID, handle: Callable[[LayerNode], _H]) -> _H | None:
        """Find a layer and make a handle to it, one that counts in all processes.

        Args:
            name: the layer.
            handle: makes the handle.

        Returns:
            The handle; `None` where there is no such layer.
        """
        with self.lock:
            key = self.lock_key(name)
            search = object()  # holds the layer while there is no handle
            try:
                self._locks.acquire(key, search)
                node = self.find_layer(name)
                return None if node is None else self._add_handle(node, handle(node))
            finally:
                self._locks.release(key, search)

    def open_mount(self, name: str, handle: Callable[[MountNode], _H]) -> _H | None:
        """The same for a writable layer."""
        with self.lock:
            while True:
                node = self.find_mount(name)
                if node is None:
                    return None
                search = object()
                try:
                    self._locks.acquire(node.lock_key, search)
                    # Only now it cannot be deleted any more; it may have been a moment ago.
                    if self._db.mount_id(name) == node.record.mount_id:
                        return self._add_handle(node, handle(node))
                    self._discard_mount(node)
                finally:
                    self._locks.release(node.lock_key, search)

    def _add_handle(self, node: LayerNode | MountNode, handle: _H) -> _H:
        try:
            self._locks.acquire(node.lock_key, handle)
            node.handles.add(handle)
        except BaseException:
            self.close_handle(node, handle)
            raise
        return handle

    def close_handle(self, node: LayerNode | MountNode, handle: object) -> bool:
        """Give a handle back.

        Returns:
            Whether it was one.
        """
        with self.lock:
            # In this order: until the handle is forgotten, this can be called again.
            self._locks.release(node.lock_key, handle)
            was_one = handle in node.handles
            node.handles.discard(handle)
            return was_one

    def reopen_handle(self, node: MountNode, handle: object) -> None:
        """Undo `let_go` of a writable layer that could not be deleted."""
        with self.lock:
            self._add_handle(node, handle)

    def close_all_handles(self) -> None:
        """Give all handles back."""
        with self.lock:
            nodes: list[LayerNode | MountNode] = [*self._layers.values(), *self._mounts.values()]
            for node in nodes:
                for handle in list(node.handles):
                    self.close_handle(node, handle)

    def unreadable(self) -> list[BadRecord]:
        """What cannot be read, and may refer to any layer: as long as there is something, no layer may go."""
        with self.lock:
            self.refresh()
            return [*self._claims.unknown, *(bad for holder in self._sources for bad in holder.unreadable())]

    def is_referenced(self, node: LayerNode, *, by_children: bool = True) -> bool:
        """Whether anything holds the layer, in any process; its children, too, if they are asked for.

        What cannot be read is not asked: see `unreadable`.
        """
        with self.lock:
            self.refresh()
            return bool(
                node.handles
                or (by_children and node.children)
                or node.mounts
                or self._is_referenced_by_source(node)
                or self._claims_on(node)
                or self._locks.is_referenced(node.lock_key)
            )

    def references_to(self, node: LayerNode) -> list[str]:
        """What holds the layer, in words."""
        with self.lock:
            self.refresh()
            holders = [f"layer {child}" for child in sorted(node.children)]
            holders += [f"writable layer {name!r}" for name in sorted(node.mounts)]
            holders += [f"the damaged record {record}" for record in self._claims_on(node)]
            for holder in self._sources:
                holders += holder.references_to(node.record.chain_id)
            holders += [f"perhaps {bad.path}, which cannot be read" for bad in self.unreadable()]
            if node.handles:
                holders.append(f"{len(node.handles)} open handle(s)")
            elif self._locks.is_referenced(node.lock_key):
                holders.append("another process")
            return holders

    @contextmanager
    def lock_unreferenced(self, node: LayerNode) -> Iterator[bool]:
        """A block in which nothing holds a layer, nor will.

        Yields:
            Whether that is so.
        """
        with self.lock, self._locks.lock_references(node.lock_key) as alone:
            # In this order: holders on disk are made by those who have a handle.
            yield alone and not node.handles and self._is_loaded(node) and not self._is_referenced_on_disk(node)

    # Changes that this store makes

    @contextmanager
    def changing(self) -> Iterator[None]:
        """A block around one change to the records; others see by the generation that there was one."""
        with self._locks.exclusive("records"):
            known = self._locks.generation() == self._generation
            self._generation = _UNKNOWN_GENERATION
            # Before the change, so that one that cannot be told is not made; and after it, for those who
            # have looked meanwhile.
            self._locks.advance()
            try:
                yield
            except BaseException:
                known = False
                raise
            finally:
                try:
                    new = self._locks.advance()
                    self._generation = new if known else _UNKNOWN_GENERATION
                except OSError as error:
                    logger.error("other processes may not see a change to {} at once: {}", self._db.path, error)

    def invalidate(self) -> None:
        """Forget what is known, but for what this store has handles to: somebody has mended records."""
        with self.lock:
            for mount in list(self._mounts.values()):
                if not mount.handles:
                    self._discard_mount(mount)
            for layer in list(self._layers.values()):
                if not layer.handles:
                    self._discard_layer(layer)
            self._generation = _UNKNOWN_GENERATION

    def add_layer(self, record: LayerRecord, parent: LayerNode | None) -> LayerNode:
        """A layer has been committed."""
        with self.lock:
            node = LayerNode(record, parent, self.lock_key(record.chain_id))
            self._layers[record.chain_id] = node
            if parent is not None:
                parent.children.add(record.chain_id)
            return node

    def add_mount(self, record: MountRecord, parent: LayerNode | None) -> MountNode:
        """A writable layer has been made."""
        node = MountNode(record, parent)
        self.restore_mount(node)
        return node

    def restore_mount(self, node: MountNode) -> None:
        """A writable layer is there again, because it could not be deleted."""
        with self.lock:
            self._mounts[node.record.name] = node
            if node.parent is not None:
                node.parent.mounts.add(node.record.name)

    def remove_layer(self, node: LayerNode, left: Path) -> None:
        """A layer has been deleted, but for what is left at a path as long as the driver's part is there."""
        with self.lock:
            self._discard_layer(node)
            if node.record.parent is not None:
                self._deleted_children.setdefault(node.record.parent, set()).add(left)

    def remove_mount(self, node: MountNode) -> None:
        """A writable layer has been deleted."""
        with self.lock:
            self._discard_mount(node)

    # Inside

    def _is_referenced_on_disk(self, node: LayerNode) -> bool:
        self.refresh()
        if (
            node.children
            or node.mounts
            or self._is_referenced_by_source(node)
            or self._claims_on(node)
            or self._has_child_in_deletion(node)
        ):
            return True
        # Looked at after the holders, since repair moves what is damaged from there into quarantine.
        unreadable = self.unreadable()
        for bad in unreadable:
            logger.warning("layer {} is kept, because {}", node.record.chain_id, bad)
        return bool(unreadable)

    def _has_child_in_deletion(self, node: LayerNode) -> bool:
        """Whether a layer on top of this one is being deleted: the driver removes children before their parents."""
        for parent in (node.record.chain_id, None):
            left = {path for path in self._deleted_children.get(parent, ()) if os.path.lexists(path)}
            if left:
                self._deleted_children[parent] = left
                return True
            self._deleted_children.pop(parent, None)
        return False

    def _is_referenced_by_source(self, node: LayerNode) -> bool:
        return any(holder.references_to(node.record.chain_id) for holder in self._sources)

    def _claims_on(self, node: LayerNode) -> list[Path]:
        """The damaged records that stand on a layer: once they are mended they need it."""
        return sorted(self._claims.parents.get(node.record.chain_id, ()))

    def _is_loaded(self, node: LayerNode) -> bool:
        """Whether the layer is there: this store, too, may have deleted it since the caller was given the node."""
        known = self._layers.get(node.record.chain_id)
        return known is not None and known.record.cache_id == node.record.cache_id and self._is_current(node)

    def _is_current(self, node: LayerNode) -> bool:
        """Whether the layer is still the one that was loaded: another process may have deleted and made it anew."""
        if node.handles or self._locks.generation() == self._generation != -1:
            return True
        return self._db.cache_id(node.record.chain_id) == node.record.cache_id

    def _load_layers(self, names: Iterable[ChainID]) -> None:
        new = [name for name in names if name not in self._layers]
        with self._db.reading_many(new) as read:
            for name in new:
                if name not in self._layers:
                    try:
                        self._load_layer(name, read)
                    except (LayerStoreError, OSError) as error:
                        self._note_problem(self._db.layer_path(name), error)

    def _load_layer(self, name: ChainID, read: Callable[[ChainID], LayerRecord]) -> LayerNode:
        # A chain is walked down to what is known, then loaded upwards: no recursion, however deep it is.
        missing: list[LayerRecord] = []
        seen: set[ChainID] = set()
        wanted: ChainID | None = name
        while wanted is not None and not self._is_known(wanted):
            if wanted in seen:
                raise IntegrityError(f"layer {wanted} is its own ancestor")
            seen.add(wanted)
            record = read(wanted)
            missing.append(record)
            wanted = record.parent
        node = self._layers[wanted] if wanted is not None else None
        for record in reversed(missing):
            node = self.add_layer(record, node)
        assert node is not None
        return node

    def _is_known(self, name: ChainID) -> bool:
        node = self._layers.get(name)
        if node is None or self._is_current(node):
            return node is not None
        self._discard_layer(node)
        return False

    def _load_mount(self, name: str) -> MountNode:
        record = self._db.read_mount(name)
        parent = None
        if record.parent is not None:
            parent = self.find_layer(record.parent)
            if parent is None:
                raise IntegrityError(f"{self._db.mount_path(name)}: its parent, layer {record.parent}, does not exist")
        return self.add_mount(record, parent)

    def _note_problem(self, path: Path, error: Exception) -> None:
        """Tell that the record at `path` could not be loaded."""
        if not inside.exists(path):
            return  # another process has just deleted it
        where = str(getattr(error, "path", None) or getattr(error, "filename", None) or path)
        reason = str(getattr(error, "reason", error))
        if not Path(where).is_relative_to(path):
            # Otherwise all that stands on a damaged layer would be told in the same words.
            reason += f"; {path} stands on it"
        problem = Problem(where, reason)
        self._problems[os.fspath(path)] = problem
        if problem not in self._reported:
            self._reported.add(problem)
            self._report(problem)

    def _discard_layer(self, node: LayerNode) -> None:
        if self._layers.get(node.record.chain_id) is node:
            del self._layers[node.record.chain_id]
        if node.parent is not None:
            node.parent.children.discard(node.record.chain_id)

    def _discard_mount(self, node: MountNode) -> None:
        if self._mounts.get(node.record.name) is node:
            del self._mounts[node.record.name]
        if node.parent is not None:
            node.parent.mounts.discard(node.record.name)
