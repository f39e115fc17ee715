"""The catalog: the layers and writable layers that an open store knows, and the references to each."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Final, TypeVar
from weakref import WeakValueDictionary

from layerstore_core.base import inside
from layerstore_core.base.digests import ChainID
from layerstore_core.errors import BadRecord, IntegrityError, LayerStoreError
from layerstore_core.locking.root_locks import RootLocks
from layerstore_core.log import logger
from layerstore_core.records.claims import Claims, claimed_parents
from layerstore_core.records.layer_record import LayerRecord, MountRecord
from layerstore_core.records.layerdb import LayerDB
from layerstore_core.store.nodes import LayerNode, MountNode, Problem, ReferenceSource, ReferenceSources, problem_of

#: The type of a handle.
_H = TypeVar("_H")


class Catalog:
    """The layers and writable layers of one root, as one store knows them.

    The catalog mirrors the records on disk. A record is loaded when it is first asked for, so that opening a store
    costs the same however many layers it has. The catalog follows what other processes commit and delete.

    **References.** A layer may be deleted when nothing refers to it. These refer to a layer:

    - a handle of this store: `LayerNode.handles`;
    - a handle of any other store, in this or another process: the shared lock `LayerNode.lock_key` in `RootLocks`;
    - a child, or a writable layer on it: `LayerNode.children` and `LayerNode.mounts`;
    - a damaged record that claims it as its parent: `_claims`;
    - what a `ReferenceSource` finds on disk: pins, images, BuildKit's cache, entries in quarantine, parents that only
      the driver knows: `_sources`;
    - a child whose deletion has begun and is not finished: `_deleted_children`, by parent, with the paths of what is
      left; under `None` those whose parent cannot be read. The driver removes children before their parents.

    What cannot be read may refer to any layer. As long as there is such a thing, no layer is deleted: `unreadable`.
    Only a process that has a handle to a layer may write a reference to it on disk. So a process that has locked the
    layer against new handles, and reads the records after that, knows that no reference is added: `lock_unreferenced`.

    **The maps.** `_layers` and `_mounts` have a node for each record that is loaded. A parent is loaded before its
    children. A node may be discarded and loaded again while its children, views or handles still refer to the former
    node, for example after a repair. `_discarded` finds the former node as long as anything refers to it. Both nodes
    then share the sets of references, so that none is lost. `_problems` has the records that could not be loaded, by
    path; `_reported` those that `report` was called with.

    **Generations.** `RootLocks.generation` is a number in the root's lock file. A store advances it before and after
    each change to the records (`changing`). So other stores know when they have to look at the disk again. It is -1
    where there is no such number; then the disk is looked at each time. `_generation` is the number at which the maps
    were last equal to the disk; `None` means that this is not known. A layer to which this store has a handle cannot
    be deleted, so its node is current whatever the generation.

    **Locks.** These locks of `RootLocks` are taken before `lock`, if at all: the image records, the name of a writable
    layer, and the references of a writable layer that is being deleted, whose name is locked. All others are taken
    while `lock` is kept: the references of layers, then the records.

    Args:
        db: the records.
        driver: the name of the driver that has the layers: another driver may have layers of the same name.
        sources: what else refers to layers.
        locks: the locks of the root.
        report: called with each problem when it is found.

    Attributes:
        refresh_count: how often all records have been looked at again.
        lock: guards the maps and all references within this process; never kept while a layer is unpacked.
    """

    def __init__(
        self,
        db: LayerDB,
        driver: str,
        sources: Sequence[ReferenceSource],
        locks: RootLocks,
        report: Callable[[Problem], None],
    ) -> None:
        self._db = db
        self._driver = driver
        self._sources = ReferenceSources(sources)
        self._locks = locks
        self._report = report
        self.lock: Final = RLock()
        self._layers: dict[ChainID, LayerNode] = {}
        self._mounts: dict[str, MountNode] = {}
        self._problems: dict[str, Problem] = {}
        self._reported: set[Problem] = set()
        self._claims = Claims({}, [])
        self._deleted_children: dict[ChainID | None, set[Path]] = {}
        self._discarded: WeakValueDictionary[ChainID, LayerNode] = WeakValueDictionary()
        self._generation: int | None = None
        self.refresh_count = 0

    # Finding

    def find_layer(self, name: ChainID) -> LayerNode | None:
        """Return a layer by its name, and load it if need be; `None` where there is none.

        Raises:
            BadRecord: its record, or that of an ancestor, is damaged.
            OSError: a record cannot be read.
        """
        with self.lock:
            if self._is_known(name):
                return self._layers[name]
            if not self._db.has_layer(name):
                return None
            with self._db.reading_many() as read:
                return self._load_layer(name, read)

    def find_layers(self, names: Collection[ChainID]) -> dict[ChainID, LayerNode]:
        """Return those of the layers that there are and that can be loaded; quick for many."""
        with self.lock:
            new = [name for name in dict.fromkeys(names) if not self._is_known(name)]
            self._load_layers(new)
            return {name: self._layers[name] for name in names if name in self._layers}

    def find_mount(self, name: str) -> MountNode | None:
        """Return a writable layer by its name; errors as `find_layer`."""
        with self.lock:
            if (node := self._mounts.get(name)) is not None:
                if node.handles or self._db.mount_id(name) == node.record.mount_id:
                    return node
                self._discard_mount(node)
            return self._load_mount(name) if self._db.has_mount(name) else None

    def layers(self) -> dict[ChainID, LayerNode]:
        """Return all layers that can be loaded, by name."""
        with self.lock:
            self.refresh()
            return dict(self._layers)

    def mounts(self) -> dict[str, MountNode]:
        """Return all writable layers that can be loaded, by name."""
        with self.lock:
            self.refresh()
            return dict(self._mounts)

    def problems(self) -> list[Problem]:
        """Return the problems of all records that could not be loaded."""
        with self.lock:
            self.refresh()
            return list(self._problems.values())

    def refresh(self) -> None:
        """Load new records and discard those that are gone. Quick where no store has changed anything."""
        with self.lock:
            generation = self._locks.generation()
            if generation == self._generation != -1:
                return
            self.refresh_count += 1
            self._problems.clear()
            self._deleted_children = {}
            for path, parent in self._db.parents_of_deletions().items():
                self._deleted_children.setdefault(parent, set()).add(path)
            names = self._db.list_layers()
            present = set(names)
            for gone in [
                node for name, node in self._layers.items() if name not in present or not self._is_current(node)
            ]:
                self._discard_layer(gone)
            # The remaining layers have just been seen to be current: no need to look at them for each child again.
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
                self._generation = None
                raise

    # References

    def add_reference_source(self, source: ReferenceSource) -> None:
        """Add a source of references to those that are asked."""
        self._sources.add(source)

    def lock_key(self, name: ChainID) -> str:
        """Return the key of a layer in `RootLocks`."""
        return f"layer {self._driver} {name}"

    def open_layer(self, name: ChainID, make_handle: Callable[[LayerNode], _H]) -> _H | None:
        """Find a layer and open a handle to it, which counts as a reference in all processes.

        Args:
            name: the layer.
            make_handle: makes the handle.

        Returns:
            The handle; `None` where there is no such layer.
        """
        with self.lock:
            key = self.lock_key(name)
            search = object()  # refers to the layer while there is no handle
            try:
                self._locks.acquire(key, search)
                node = self.find_layer(name)
                return None if node is None else self._add_handle(node, make_handle(node))
            finally:
                self._locks.release(key, search)

    def open_mount(self, name: str, make_handle: Callable[[MountNode], _H]) -> _H | None:
        """Find a writable layer and open a handle to it; see `open_layer`."""
        with self.lock:
            while True:
                node = self.find_mount(name)
                if node is None:
                    return None
                search = object()
                try:
                    self._locks.acquire(node.lock_key, search)
                    # From here on it cannot be deleted; it may have been deleted a moment ago.
                    if self._db.mount_id(name) == node.record.mount_id:
                        return self._add_handle(node, make_handle(node))
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
        """Close a handle.

        Returns:
            Whether it was open.
        """
        with self.lock:
            # In this order, so that this can be called again until the handle is discarded.
            self._locks.release(node.lock_key, handle)
            was_open = handle in node.handles
            node.handles.discard(handle)
            return was_open

    def reopen_handle(self, node: MountNode, handle: object) -> None:
        """Undo `close_handle` for a writable layer that could not be deleted."""
        with self.lock:
            self._add_handle(node, handle)

    def close_all_handles(self) -> None:
        """Close all handles of this store."""
        with self.lock:
            nodes: list[LayerNode | MountNode] = [*self._layers.values(), *self._mounts.values()]
            for node in nodes:
                for handle in list(node.handles):
                    self.close_handle(node, handle)

    def unreadable(self) -> list[BadRecord]:
        """Return what cannot be read and may refer to any layer. As long as there is something, no layer is deleted."""
        with self.lock:
            self.refresh()
            return [*self._claims.unknown, *self._sources.unreadable()]

    def referenced(self, nodes: Iterable[LayerNode], besides: ReferenceSource | None = None) -> set[ChainID]:
        """Return those of the layers to which anything refers, in any process, besides their children.

        What cannot be read, and children whose deletion is not finished, do not count: `lock_unreferenced` asks for
        them, too. Neither does what the source `besides` finds.
        """
        with self.lock:
            self.refresh()
            by_source = self._sources.all_references(besides)
            return {
                node.record.chain_id
                for node in nodes
                if node.handles
                or node.mounts
                or by_source(node.record.chain_id)
                or self._claims_on(node)
                or self._locks.is_referenced(node.lock_key)
            }

    def references_to(self, node: LayerNode) -> list[str]:
        """Return what refers to the layer, in words for a person."""
        with self.lock:
            self.refresh()
            found = [f"layer {child}" for child in sorted(node.children)]
            found += [f"writable layer {name!r}" for name in sorted(node.mounts)]
            found += [f"the damaged record {record}" for record in self._claims_on(node)]
            found += self._sources.references_to(node.record.chain_id)
            found += [f"perhaps {bad.path}, which cannot be read" for bad in self.unreadable()]
            if node.handles:
                found.append(f"{len(node.handles)} open handle(s)")
            elif self._locks.is_referenced(node.lock_key):
                found.append("another process")
            return found

    @contextmanager
    def lock_unreferenced(self, node: LayerNode) -> Iterator[bool]:
        """Lock a layer against new references for the length of a `with` block.

        Yields:
            Whether the layer exists and nothing refers to it. If it is false, the lock may not have been taken.
        """
        with self.lock, self._locks.lock_references(node.lock_key) as alone:
            # In this order: only a process that has a handle writes a reference on disk.
            yield alone and not node.handles and self._is_loaded(node) and not self._is_referenced_on_disk(node)

    # Changes that this store makes

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Make one change to the records in a `with` block; other stores see by the generation that there was one."""
        with self._locks.exclusive("records"):
            known = self._locks.generation() == self._generation
            self._generation = None
            # Before the change, so that no change is made that other stores cannot see; and after it, for
            # the stores that have looked meanwhile.
            self._locks.advance()
            try:
                yield
            except BaseException:
                known = False
                raise
            finally:
                try:
                    new = self._locks.advance()
                    self._generation = new if known else None
                except OSError as error:
                    logger.error("other processes may not see a change to {} at once: {}", self._db.path, error)

    def invalidate(self) -> None:
        """Discard the entries to which this store has no handles, after a repair of records. They are loaded again."""
        with self.lock:
            for mount in list(self._mounts.values()):
                if not mount.handles:
                    self._discard_mount(mount)
            for layer in list(self._layers.values()):
                if not layer.handles:
                    self._discard_layer(layer)
            self._generation = None

    def add_layer(self, record: LayerRecord, parent: LayerNode | None) -> LayerNode:
        """Add a layer that is loaded, or was just committed."""
        with self.lock:
            node = LayerNode(record, parent, self.lock_key(record.chain_id))
            former = self._discarded.pop(record.chain_id, None)
            if former is not None:
                node.handles, node.children, node.mounts = former.handles, former.children, former.mounts
            self._layers[record.chain_id] = node
            if parent is not None:
                parent.children.add(record.chain_id)
            return node

    def add_mount(self, record: MountRecord, parent: LayerNode | None) -> MountNode:
        """Add a writable layer that is loaded, or was just created."""
        node = MountNode(record, parent)
        self.restore_mount(node)
        return node

    def restore_mount(self, node: MountNode) -> None:
        """Add a writable layer again after its deletion has failed."""
        with self.lock:
            self._mounts[node.record.name] = node
            if node.parent is not None:
                node.parent.mounts.add(node.record.name)

    def remove_layer(self, node: LayerNode, deletion: Path) -> None:
        """Remove a layer that was deleted.

        Args:
            node: the layer.
            deletion: the path of what is left of its record until the driver has removed its part.
        """
        with self.lock:
            self._discard_layer(node)
            if node.record.parent is not None:
                self._deleted_children.setdefault(node.record.parent, set()).add(deletion)

    def remove_mount(self, node: MountNode) -> None:
        """Remove a writable layer that was deleted."""
        with self.lock:
            self._discard_mount(node)

    # Private methods

    def _is_referenced_on_disk(self, node: LayerNode) -> bool:
        self.refresh()
        by_source = self._sources.refer_to(node.record.chain_id)
        known = node.children or node.mounts or by_source or self._claims_on(node)
        if known or self._has_child_in_deletion(node):
            return True
        # Looked at after the references, since a repair moves damaged records from there into quarantine.
        unreadable = self.unreadable()
        for bad in unreadable:
            logger.warning("layer {} is kept, because {}", node.record.chain_id, bad)
        return bool(unreadable)

    def _has_child_in_deletion(self, node: LayerNode) -> bool:
        """Return whether a child of the layer is being deleted: the driver removes children before their parents."""
        for parent in (node.record.chain_id, None):
            if left := {path for path in self._deleted_children.get(parent, ()) if os.path.lexists(path)}:
                self._deleted_children[parent] = left
                return True
            self._deleted_children.pop(parent, None)
        return False

    def _claims_on(self, node: LayerNode) -> list[Path]:
        """Return the damaged records whose parent the layer is. Once they are repaired they need it."""
        return sorted(self._claims.parents.get(node.record.chain_id, ()))

    def _is_loaded(self, node: LayerNode) -> bool:
        """Return whether the layer exists: this store, too, may have deleted it since the caller got the node."""
        known = self._layers.get(node.record.chain_id)
        return known is not None and known.record.cache_id == node.record.cache_id and self._is_current(node)

    def _is_current(self, node: LayerNode) -> bool:
        """Return whether the node is of the layer on disk: another process may have deleted and re-registered it."""
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
        # The chain is walked down to a layer that is known, then loaded upwards: no recursion, however deep it is.
        missing: list[LayerRecord] = []
        seen: set[ChainID] = set()
        current: ChainID | None = name
        while current is not None and not self._is_known(current):
            if current in seen:
                raise IntegrityError(f"layer {current} is its own ancestor")
            seen.add(current)
            record = read(current)
            missing.append(record)
            current = record.parent
        node = self._layers[current] if current is not None else None
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
        """Report that the record at `path` could not be loaded."""
        if not inside.exists(path):
            return  # another process has just deleted it
        problem = problem_of(path, error)
        self._problems[os.fspath(path)] = problem
        if problem not in self._reported:
            self._reported.add(problem)
            self._report(problem)

    def _discard_layer(self, node: LayerNode) -> None:
        if self._layers.get(node.record.chain_id) is node:
            del self._layers[node.record.chain_id]
            self._discarded[node.record.chain_id] = node
        if node.parent is not None:
            node.parent.children.discard(node.record.chain_id)

    def _discard_mount(self, node: MountNode) -> None:
        if self._mounts.get(node.record.name) is node:
            del self._mounts[node.record.name]
        if node.parent is not None:
            node.parent.mounts.discard(node.record.name)
