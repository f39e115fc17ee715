"""Repair layers in which a check has found something. The records or the driver are believed only with a proof.

A layer is proved by its tar: the record's lines and the driver's files make a stream of the right digest. A chain
ID determines the parent, so a chain of proved layers proves each parent. Nothing is written before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain as chained

from layerstore_core.base.digests import ChainID
from layerstore_core.errors import LayerStoreError
from layerstore_core.maintenance.check_content import findings_of, verify
from layerstore_core.maintenance.check_driver import RecordedLayer, check_recorded_layer, recorded_mount_layers
from layerstore_core.maintenance.finding import Finding
from layerstore_core.maintenance.rebuild import rebuild_from_own_tar, rebuild_layer
from layerstore_core.maintenance.repair_record import repair_record, write_field
from layerstore_core.maintenance.repair_source import RepairSource
from layerstore_core.records.layer_record import INIT_ID, driver_ids
from layerstore_core.store.parentage import other_parent
from layerstore_core.store.store import LayerStore
from layerstore_core.store.strays import Strays

_CHUNK = 1 << 20


class LayerRepair:
    """Repairs the layers of one store.

    Args:
        store: an open store.
        source: layers that a user gives; `None` for none.
        suspects: layers that may have each other's files.

    Attributes:
        done: what was done, by layer.
    """

    def __init__(self, store: LayerStore, source: RepairSource | None, suspects: list[ChainID]) -> None:
        self._store = store
        self._source = source
        self.done: dict[ChainID, list[str]] = {}
        self._proved: dict[ChainID, bool] = {}
        self._results: dict[ChainID, bool] = {}
        #: Layers with which their children are to be compared again.
        self._rebuilt: set[ChainID] = set()
        # From the records as they are before any repair.
        self._candidates = list(
            chained.from_iterable(
                driver_ids(store.context.db.layer_path(one)) for one in suspects if store.context.db.has_layer(one)
            )
        )

    def repair(self, chain: ChainID, *, full: bool = True) -> bool:
        """Repair a layer, and its ancestors as far as the repair depends on them.

        Args:
            chain: the layer.
            full: verify its tar and its files in any case.

        Returns:
            Whether everything is as it should be.

        Raises:
            LayerStoreError, OSError: something could not be read or written; what is not repaired is as it was.
        """
        if chain not in self._results:
            self._results[chain] = self._repair(chain, full)
        return self._results[chain]

    def _repair(self, chain: ChainID, full: bool) -> bool:
        recorded = self._recorded(chain)
        if recorded is None:
            return False
        self._repair_entry(chain, recorded)
        if not full and self._is_whole(recorded):
            return True  # its parent has been repaired, or the driver's files around it
        if not self._prove(chain):
            return False
        recorded = self._recorded(chain)
        if recorded is None:
            return False
        if not self._is_whole(recorded):
            self._note(chain, self._store.driver.repair_layer(recorded.layer_id, recorded.parent_id, proved=True))
        if self._is_whole(recorded) and self._verify(chain):
            return True
        self._note(chain, [rebuild_from_own_tar(self._store, chain)])
        self._rebuilt.add(chain)
        return self.is_sound(chain)

    def is_sound(self, chain: ChainID) -> bool:
        """Return whether a layer is as it should be, its content included. Repair nothing.

        Raises:
            LayerStoreError, OSError: something could not be read.
        """
        recorded = self._recorded(chain)
        return recorded is not None and self._is_whole(recorded) and self._verify(chain)

    def repair_children(self, on_repaired: Callable[[Finding, str], None]) -> Iterator[Finding]:
        """Check the children of repaired layers, and repair them: only now is known what they should be.

        Args:
            on_repaired: called with each finding of a layer that was repaired, and what was done.

        Returns:
            The findings that are left.
        """
        repaired = {chain for chain, done in self.done.items() if done}
        layers = self._store.layers()
        for chain, layer in sorted(layers.items(), key=lambda item: (item[1].depth, item[0])):
            if layer.parent_id is None or layer.parent_id not in repaired:
                continue
            repaired.add(chain)
            recorded = self._recorded(chain)
            if chain in self._results or recorded is None:
                continue
            findings = list(check_recorded_layer(self._store, recorded))
            if layer.parent_id in self._rebuilt:
                self._rebuilt.add(chain)
                findings += findings_of(layer, verify(self._store, layer))
            if findings and not self.repair(chain):
                yield from findings
            else:
                for finding in findings:
                    on_repaired(finding, "; ".join(self.done[chain]))
        for name in self._store.rw_layers():
            layers_of_mount = list(recorded_mount_layers(self._store, name, layers))
            if any(self._chain_of(recorded.parent_id) in repaired for recorded in layers_of_mount):
                findings = [
                    finding for recorded in layers_of_mount for finding in check_recorded_layer(self._store, recorded)
                ]
                done = self.repair_writable(name) if findings else ""
                for finding in findings:
                    if done:
                        on_repaired(finding, done)
                    else:
                        yield finding

    def repair_writable(self, name: str) -> str:
        """Repair a writable layer's record, or the driver's files for it. Its own content proves nothing.

        Returns:
            What was done, in a sentence; empty where something is left.
        """
        done: list[str] = []
        for _ in range(2):  # twice: an init layer that the record had lost has a parent, too
            for recorded in recorded_mount_layers(self._store, name, self._store.layers()):
                done += self._repair_driver_entry(recorded)
                known = other_parent(self._store.context, recorded.layer_id, recorded.parent_id)
                if known is not None:
                    done += self._restore_parent(name, recorded, known)
                elif not self._is_whole(recorded) and self._is_proved(recorded.parent_id):
                    done += self._store.driver.repair_layer(recorded.layer_id, recorded.parent_id, proved=True)
        left = [
            recorded
            for recorded in recorded_mount_layers(self._store, name, self._store.layers())
            if not self._is_whole(recorded)
        ]
        return "" if left else "; ".join(done) or "its parent is repaired"

    def _restore_parent(self, name: str, recorded: RecordedLayer, known: str) -> list[str]:
        """Restore the parent that a record has lost. A record with another one is not changed: either may be right."""
        db = self._store.context.db
        record, path = db.read_mount(name), db.mount_path(name)
        if recorded.layer_id not in (record.mount_id, record.init_id):
            return []
        if known == f"{record.mount_id}-init" and record.init_id is None and known in Strays(self._store.context).ids:
            with self._store.context.changing_records():
                write_field(self._store, path / INIT_ID, known)
            return [f"{INIT_ID} of its record restored, as the driver has it"]
        chain = self._chain_of(known)
        if record.parent is not None or chain is None or not self._prove(chain):
            return []
        with self._store.context.changing_records():
            write_field(self._store, path / "parent", chain)
        return ["parent of its record restored, as the driver has it"]

    def _is_proved(self, layer_id: str) -> bool:
        """Return whether a layer of the driver that has children is the one that the records take it for."""
        if layer_id.endswith("-init") or not layer_id:
            return True  # an init layer has no proof
        chain = self._chain_of(layer_id)
        return chain is not None and self._prove(chain)

    def _repair_entry(self, chain: ChainID, recorded: RecordedLayer) -> None:
        """Repair what does not depend on the layer's parent, so that its files can be found."""
        if not self._is_whole(recorded):
            self._note(chain, self._repair_driver_entry(recorded))

    def _repair_driver_entry(self, recorded: RecordedLayer) -> list[str]:
        known = other_parent(self._store.context, recorded.layer_id, recorded.parent_id)
        parent_id = recorded.parent_id if known is None else known
        return self._store.driver.repair_layer(recorded.layer_id, parent_id, proved=False)

    def _prove(self, chain: ChainID) -> bool:
        """Return whether a layer and all its ancestors are proved, once their records are repaired if possible."""
        unproved = []
        layer = self._store.find(chain)
        if layer is None:
            return False
        proved = True
        while layer is not None:
            known = self._proved.get(layer.chain_id)
            if known is not None:
                proved = known
                break
            unproved.append(layer.chain_id)
            layer = layer.parent
        for one in reversed(unproved):
            proved = self._proved[one] = proved and self._prove_one(one)
        return proved

    def _prove_one(self, chain: ChainID) -> bool:
        recorded = self._recorded(chain)
        if recorded is None:
            return False
        self._repair_entry(chain, recorded)
        if self._has_right_digest(chain):
            return True
        candidates = [*self._candidates, *self._claimed(chain), *Strays(self._store.context).ids]
        if done := repair_record(self._store, self._store.context.db.layer_path(chain), candidates):
            self.note_repaired(chain, done)
            self._proved[chain] = self._has_right_digest(chain)
            self._prove_others(chain)
            return self._proved[chain]
        if self._source is not None and (done := rebuild_layer(self._store, chain, self._source)):
            self.note_repaired(chain, done)
            return True
        return False

    def _prove_others(self, chain: ChainID) -> None:
        """Prove again the other records that name the same layer of the driver as one that is proved to own it."""
        proved = self._store.find(chain)
        for other, layer in self._store.layers().items():
            if (
                proved is not None
                and other != chain
                and layer.cache_id == proved.cache_id
                and not self._proved.get(other)
            ):
                self._proved.pop(other, None)
                self._prove(other)

    def _claimed(self, chain: ChainID) -> Iterator[str]:
        """Yield the layers of the driver that it names as the parents of a layer's children."""
        for layer in self._store.layers().values():
            if layer.parent_id == chain and layer.parent is not None:
                known = self._store.driver.parent_of(layer.cache_id, layer.parent.cache_id)
                if known:
                    yield known

    def _has_right_digest(self, chain: ChainID) -> bool:
        layer = self._store.find(chain)
        if layer is None:
            return False
        try:
            with layer.tar_stream() as stream:
                while stream.read(_CHUNK):
                    pass
        except (LayerStoreError, OSError):
            return False
        return True

    def _verify(self, chain: ChainID) -> bool:
        layer = self._store.find(chain)
        return layer is not None and verify(self._store, layer).is_sound

    def _is_whole(self, recorded: RecordedLayer) -> bool:
        exists = self._store.driver.exists(recorded.layer_id)
        return exists and not any(check_recorded_layer(self._store, recorded))

    def _recorded(self, chain: ChainID) -> RecordedLayer | None:
        layer = self._store.find(chain)
        if layer is None:
            return None
        return RecordedLayer(None, chain, layer.cache_id, layer.parent.cache_id if layer.parent else "", lambda: True)

    def _chain_of(self, layer_id: str) -> ChainID | None:
        return next((chain for chain, layer in self._store.layers().items() if layer.cache_id == layer_id), None)

    def note_repaired(self, chain: ChainID, done: str) -> None:
        """Record that a layer's record, or all of it, has been changed."""
        self._note(chain, [done])
        self._rebuilt.add(chain)

    def _note(self, chain: ChainID, done: list[str]) -> None:
        self.done.setdefault(chain, []).extend(filter(None, done))
