"""Register the layers of one image: all of them are verified before the first is committed.

A driver with `Capabilities.parallel_apply` gets them at the same time, since the parent of a layer of the driver may
still be being filled. Where a layer's own tar needs files of its parents, as a hard link does to a file of another
layer, the driver waits for those (`LayerStream.await_parents`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from queue import SimpleQueue
from threading import Event
from typing import Any, BinaryIO, NamedTuple

from layerstore_core.base.digests import DiffID, chain_id
from layerstore_core.base.threads import Task, Threads, cores
from layerstore_core.driver.bound import BoundDriver
from layerstore_core.errors import InvalidLayer, LayerStoreError
from layerstore_core.records.layer_record import LayerRecord
from layerstore_core.records.layerdb import LayerDB
from layerstore_core.store.nodes import ParentLayer
from layerstore_core.store.registration.layer import Applied, Progress, Registration
from layerstore_core.streams.source import LayerSource


class LayerInput(NamedTuple):
    """A layer of several that are registered together.

    Attributes:
        open: opens the tar, compressed or not, at its start; it may be called more than once.
        diff_id: the digest that the uncompressed tar must have.
        name: the layer's name in messages.
        descriptor: an OCI descriptor to keep with the layer.
        progress: called now and then with the bytes read and the entries seen so far, perhaps from another thread.
        cancel: called when another layer has failed, or the registration is interrupted: it ends reads that wait.
    """

    open: Callable[[], BinaryIO]
    diff_id: DiffID
    name: str
    descriptor: Mapping[str, Any] | None = None
    progress: Progress | None = None
    cancel: Callable[[], object] | None = None


class Overtaken(LayerStoreError):
    """Another process has committed one of the layers meanwhile: the layers above it must be registered again."""


class _Stopped(LayerStoreError):
    """Another layer of the chain has failed."""


def read_layers(
    db: LayerDB,
    driver: BoundDriver,
    parent: ParentLayer | None,
    layers: Sequence[LayerInput],
    *,
    source: Callable[[BinaryIO], LayerSource],
    registrations: ExitStack,
) -> list[tuple[Registration, LayerRecord]]:
    """Read layers into the driver, and write their records; none is committed yet.

    Args:
        db: where the records are written.
        driver: where the files are unpacked.
        parent: the parent of the first layer.
        layers: the layers, the base first.
        source: opens a layer's tar as a source.
        registrations: undoes the registrations, the topmost first, where they are not committed.

    Raises:
        InvalidLayer: a layer is damaged, leaves its root, or has another digest; the message names it.
        OSError: the system refuses.
    """
    stop = Event()

    def begin(layer: LayerInput) -> Registration:
        nonlocal parent
        registration = registrations.enter_context(Registration(db, driver, parent))
        parent = ParentLayer(chain_id(layer.diff_id, parent.chain_id if parent else None), registration.cache_id)
        return registration

    def fill(registration: Registration, layer: LayerInput, await_parents: Callable[[], None] | None = None) -> Applied:
        def progress(read: int, entries: int) -> None:
            if stop.is_set():
                raise _Stopped(f"{layer.name} is not read any further, because another layer has failed")
            if layer.progress is not None:
                layer.progress(read, entries)

        try:
            with layer.open() as stream, source(stream) as opened:
                applied = registration.apply(opened, progress, await_parents)
        except InvalidLayer as error:
            raise InvalidLayer(f"{layer.name}: {error.reason}", offset=error.offset, entry=error.entry) from error
        if applied.diff_id != layer.diff_id:
            raise InvalidLayer(
                f"{layer.name}: the digest of its tar is {applied.diff_id}, not {layer.diff_id} as it should be"
            )
        return applied

    if driver.capabilities.parallel_apply and len(layers) > 1:
        begun = [begin(layer) for layer in layers]
        filled = _at_once(fill, list(zip(begun, layers, strict=True)), stop)
    else:
        begun, filled = [], []
        for layer in layers:
            begun.append(begin(layer))
            filled.append(fill(begun[-1], layer))
    return [
        (new, new.write_record(applied, layer.descriptor))
        for new, applied, layer in zip(begun, filled, layers, strict=True)
    ]


def _at_once(
    work: Callable[[Registration, LayerInput, Callable[[], None]], Applied],
    items: Sequence[tuple[Registration, LayerInput]],
    stop: Event,
) -> list[Applied]:
    """Call `work` for each item in threads, and return its results in the order of the items.

    The first failure stops all, and is raised when all have stopped.

    The last argument of `work` waits for all items before this one. Those have begun by then, since threads take them
    in order. So no item waits for one that waits for a thread.
    """
    running: list[Task[Applied]] = []
    #: What has ended, in that order.
    ended: SimpleQueue[int] = SimpleQueue()
    # One layer of many files keeps two cores busy. More layers at once would only compete for the GIL.
    threads = Threads("layerstore-layer", max(1, min(len(items), cores() // 2)))

    def await_those_before(count: int) -> None:
        for task in running[:count]:
            task.wait()
            if task.error is not None:
                raise _Stopped("a parent layer has failed")

    def run(number: int) -> Applied:
        try:
            return work(*items[number], partial(await_those_before, number))
        except BaseException as error:
            failures.append(error)
            raise
        finally:
            ended.put(number)

    failures: list[BaseException] = []
    complete = False
    try:
        for number in range(len(items)):
            task = threads.submit(partial(run, number))
            running.append(task)  # at once: the next one may wait for it
        for _ in items:
            ended.get()
            if failures:
                break
        complete = not failures
    finally:
        if not complete:
            stop.set()
            for _, layer in items:
                if layer.cancel is not None:
                    layer.cancel()
        threads.close()
    # The failures that came first are the reason for the others.
    for error in sorted(failures, key=lambda found: isinstance(found, _Stopped)):
        raise error
    return [task.result() for task in running]
