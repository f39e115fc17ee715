"""How layers get into a store: taken in, flushed, and committed, one by one or a chain at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from layerstore_core.base.atomic import make_directory
from layerstore_core.base.digests import ChainID, chain_ids
from layerstore_core.base.durability import FlushPoint
from layerstore_core.base.limits import Limits
from layerstore_core.driver.bound import BoundDriver
from layerstore_core.errors import MaxDepthExceeded
from layerstore_core.locking.root_locks import RootLocks
from layerstore_core.log import logger
from layerstore_core.records.layer_record import LayerRecord
from layerstore_core.records.layerdb import LayerDB
from layerstore_core.store.catalog import Catalog
from layerstore_core.store.handles import Layer
from layerstore_core.store.nodes import LayerNode
from layerstore_core.store.register_chain import LayerInput, Overtaken, take_in
from layerstore_core.store.registration import Progress, Registration
from layerstore_core.streams.source import LayerSource
from layerstore_core.tar.layer_stream import LayerStream
from layerstore_core.tar.scanner import TarScanner

if TYPE_CHECKING:
    from layerstore_core.config.model import StoreConfig


class Intake:
    """The way into one store.

    Args:
        config: its settings.
        db: its records.
        driver: its driver.
        catalog: what it knows.
        locks: the locks of its root.
        hold: makes a handle to a layer; `None` where there is none.
    """

    def __init__(  # noqa: PLR0917 - the parts of a store, in the order in which they are made
        self,
        config: StoreConfig,
        db: LayerDB,
        driver: BoundDriver,
        catalog: Catalog,
        locks: RootLocks,
        hold: Callable[[ChainID], Layer | None],
    ) -> None:
        self._config = config
        self._db = db
        self._driver = driver
        self._catalog = catalog
        self._locks = locks
        self._hold = hold

    @property
    def max_depth(self) -> int:
        """How many layers a chain may have: the setting, or what the driver can hold if that is less."""
        of_driver = self._driver.capabilities.max_depth
        return self._config.max_depth if of_driver is None else min(self._config.max_depth, of_driver)

    @property
    def limits(self) -> Limits:
        """How much of untrusted input is taken in."""
        return Limits.of(self._config)

    def register(
        self,
        stream: BinaryIO | str | os.PathLike[str],
        below: LayerNode | None,
        descriptor: Mapping[str, Any] | None,
        progress: Progress | None,
        *,
        allow_empty: bool = False,
    ) -> Layer:
        """Take in a layer; see `LayerStore.register`. The caller holds the layer below."""
        self._check_depth(below)
        with (
            self.flushing() as flush,
            self._source(stream, allow_empty=allow_empty) as source,
            Registration(self._db, self._driver, below.below if below else None) as registration,
        ):
            registration.apply(source, progress)
            record = registration.write_record(descriptor)
            flush()
            while True:
                layer = self._hold(record.chain_id) or self._commit(registration, record, below)
                if layer is not None:
                    return layer

    def register_chain(self, layers: Sequence[LayerInput], below: LayerNode | None) -> Layer:
        """Take in layers that stand one on the other; see `LayerStore.register_chain`."""
        self._check_depth(below, len(layers))
        names = chain_ids([layer.diff_id for layer in layers], below.record.chain_id if below else None)
        with ExitStack() as stack:
            while True:
                if (known := self._hold(names[-1])) is not None:
                    return known
                first = len(names) - 1
                while first:
                    if (known := self._hold(names[first - 1])) is not None:
                        below = stack.enter_context(known)._live
                        break
                    first -= 1
                try:
                    return self._register_missing(layers[first:], below)
                except Overtaken:
                    continue

    def apply(
        self, layer_id: str, parent_id: str, stream: BinaryIO | str | os.PathLike[str], *, allow_empty: bool = False
    ) -> int:
        """Unpack a tar into a layer of the driver, and keep nothing of it; returns what `apply_diff` does."""
        with self._source(stream, allow_empty=allow_empty) as source:
            diff = LayerStream(TarScanner(source.read_chunk), count_implied=source.count_implied)
            size = self._driver.apply_diff(layer_id, parent_id, diff)
            diff.drain()
            return size

    @contextmanager
    def flushing(self) -> Iterator[Callable[[], None]]:
        """A block around making what a record stands for.

        Yields:
            What gets it to disk, before the record is committed. No failed write since the beginning of the block goes unheard.
        """
        if self._config.durability == "none":
            yield lambda: None
            return
        with FlushPoint(self._config.root, self._driver.home) as point:
            yield point.flush

    def scratch_directory(self) -> Path:
        """Where temporary files go; they have no names there, or go with the operation."""
        directory = self._config.root / "layerstore" / "tmp"
        make_directory(directory, 0o700)
        return directory

    def _register_missing(self, layers: Sequence[LayerInput], below: LayerNode | None) -> Layer:
        """Register layers none of which is known."""
        with self.flushing() as flush, ExitStack() as stack, ExitStack() as registrations:
            new = take_in(
                self._db,
                self._driver,
                below.below if below else None,
                layers,
                source=partial(self._source, allow_empty=True),  # the digest that each is to have says what it is
                registrations=registrations,
            )
            flush()
            top: Layer | None = None
            for registration, record in new:
                top = self._commit(registration, record, below)
                if top is None:
                    raise Overtaken
                below = stack.enter_context(top)._live
            assert top is not None
            held = self._hold(top.chain_id)
            assert held is not None, "it is held already"
            return held

    def _commit(self, registration: Registration, record: LayerRecord, parent: LayerNode | None) -> Layer | None:
        """Make the new layer exist, with a handle to it; `None` where another process was faster."""
        key = self._catalog.lock_key(record.chain_id)
        while True:
            # Solely, so that neither a collector nor a reader comes between: until it is certain to last it may vanish.
            with self._catalog.lock, self._locks.sole(key) as alone:
                if alone:
                    try:
                        with self._catalog.changing():
                            registration.commit(record)
                            self._catalog.add_layer(record, parent)
                            logger.info("committed layer {} as {}", record.chain_id, record.cache_id)
                    except FileExistsError:
                        return None
                    return self._hold(record.chain_id)
            # Another process commits it, or looks whether it is there: this waits until it has done so.
            if (existing := self._hold(record.chain_id)) is not None:
                existing.close()
                return None

    def _check_depth(self, parent: LayerNode | None, more: int = 1) -> None:
        depth = parent.depth if parent is not None else 0
        if depth + more > self.max_depth:
            what = f"layer {parent.record.chain_id} is {depth} layers deep" if parent else f"there are {more} layers"
            raise MaxDepthExceeded(
                f"{what}; this store allows {self.max_depth} (setting max_depth, and what the driver can hold)"
            )

    def _source(self, stream: BinaryIO | str | os.PathLike[str], *, allow_empty: bool) -> LayerSource:
        return LayerSource(stream, spool_dir=self.scratch_directory(), limits=self.limits, allow_empty=allow_empty)
