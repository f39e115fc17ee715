"""Compare every layer's tar and files with what they should be: several layers at a time, and resumable.

A layer is read in one pass. Its tar is assembled and compared with its digest; the tar's entries then say what
its files should be. What it inherits is compared with the parent's files, which are verified before.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Final

from layerstore_core.base import inside
from layerstore_core.base.atomic import make_directory
from layerstore_core.base.digests import ChainID
from layerstore_core.base.threads import Task, Threads, cores
from layerstore_core.errors import InvalidLayer, LayerStoreError
from layerstore_core.log import logger
from layerstore_core.maintenance.finding import Finding
from layerstore_core.records.own_state import recorded_drivers, state_directory
from layerstore_core.store.export import tar_stream
from layerstore_core.store.handles import Layer, live_layer
from layerstore_core.store.store import LayerStore
from layerstore_core.tar.layer_stream import LayerStream
from layerstore_core.tarsplit.sources import Sources
from layerstore_core.verify.difference import Difference, describe_differences
from layerstore_core.verify.expected import LayerEntry, SourceChanged, read_entries

_CHUNK: Final = 1 << 20
#: A journal, in bytes: as many lines as there are layers.
_LONGEST: Final = 64 << 20


@dataclass
class Verdict:
    """The result of verifying a layer.

    Attributes:
        damage: what is wrong with its tar; empty where nothing is.
        differences: what is wrong with its files.
        doubtful: paths at which what a child inherits cannot be verified.
        unknown: neither its files nor what a child inherits can be verified.
    """

    damage: str = ""
    differences: list[Difference] = field(default_factory=list)
    doubtful: frozenset[bytes] = frozenset()
    unknown: bool = False

    @property
    def is_sound(self) -> bool:
        """Whether nothing was found, and everything was verified."""
        return not (self.damage or self.differences or self.doubtful or self.unknown)


_SOUND: Final = Verdict()
_UNKNOWN: Final = Verdict(unknown=True)


def check_content(
    store: LayerStore,
    layers: Sequence[Layer],
    *,
    progress: Callable[[int, int], None] | None = None,
    resume: bool = False,
) -> Iterator[Finding]:
    """Verify layers.

    Args:
        store: an open store.
        layers: views of the layers. Of parents that are not among them nothing is taken for certain.
        progress: called with how many are done, and how many there are.
        resume: leave out what an interrupted check has verified.
    """
    journal = Journal(store)
    known = journal.begin(resume=resume)
    wanted = [layer for layer in layers if (str(layer.chain_id), layer.cache_id) not in known]
    done = len(layers) - len(wanted)
    if done:
        logger.info("{} layers were verified before the last check was interrupted", done)
    left_out = {layer.chain_id for layer in layers} - {layer.chain_id for layer in wanted}
    verdicts: dict[ChainID, Task[Verdict]] = {}
    ended: SimpleQueue[Layer] = SimpleQueue()

    def run(layer: Layer, parent_verdict: Verdict | Task[Verdict]) -> Verdict:
        try:
            return verify(store, layer, parent_verdict)
        finally:
            ended.put(layer)

    with Threads("layerstore-check", cores()) as threads:
        # Parents first: a layer waits for its parent's verdict, on which a thread is at work by then.
        for layer in sorted(wanted, key=lambda layer: layer.depth):
            parent = layer.parent_id
            parent_verdict = _SOUND if parent is None or parent in left_out else verdicts.get(parent, _UNKNOWN)
            verdicts[layer.chain_id] = threads.submit(partial(run, layer, parent_verdict))
        if progress is not None and wanted:
            progress(done, len(layers))
        for _ in wanted:
            layer = ended.get()
            verdict = verdicts[layer.chain_id].result()
            done += 1
            if progress is not None and done < len(layers):
                progress(done, len(layers))
            if verdict.is_sound:
                journal.verified(layer)
            elif is_current(store, layer):
                yield from findings_of(layer, verdict)
    journal.finish()


def findings_of(layer: Layer, verdict: Verdict) -> Iterator[Finding]:
    """Yield the findings of a layer."""
    if verdict.damage:
        yield Finding(
            "damaged",
            layer.chain_id,
            verdict.damage,
            "give the layer or its image with `layerstore check --full --repair --from FILE`, "
            "or remove it and register it again",
        )
    elif verdict.differences:
        yield Finding(
            "tree-differs",
            layer.chain_id,
            describe_differences(verdict.differences),
            "`layerstore check --full --repair` rebuilds the layer's files from its tar, which is sound",
        )


def is_current(store: LayerStore, layer: Layer) -> bool:
    """Return whether a layer is unchanged: another process may have deleted it, or its parents with it, meanwhile."""
    return store.context.db.cache_id(layer.chain_id) == layer.cache_id


def verify(store: LayerStore, layer: Layer, parent_verdict: Verdict | Task[Verdict] = _SOUND) -> Verdict:
    """Verify one layer.

    Args:
        store: an open store.
        layer: a view of it.
        parent_verdict: the result of its parent, or the task that has it.

    Raises:
        PermissionError: the layer has files of another owner, which this user may not read.
    """
    try:
        return _verify(store, layer, parent_verdict, Sources())
    except SourceChanged as error:
        # Files were replaced meanwhile, or the driver shows copies of those that it keeps.
        logger.debug("layer {} is read once more, to compare its files by their digests: {}", layer.chain_id, error)
        return _verify(store, layer, parent_verdict, None)


def _verify(
    store: LayerStore, layer: Layer, parent_verdict: Verdict | Task[Verdict], sources: Sources | None
) -> Verdict:
    """Do the work of `verify`.

    Raises:
        SourceChanged: a file has to be compared by its digest, and there are `sources` instead.
    """
    entries: deque[LayerEntry] = deque()
    complete = True
    try:
        with tar_stream(store.context, live_layer(layer), sources) as stream:
            try:
                entries.extend(read_entries(LayerStream.over(stream), sources))
            except InvalidLayer as error:  # other readers of tars accept more than this one
                logger.warning("the files of layer {} are not compared with its tar: {}", layer.chain_id, error)
                complete = False
            while stream.read(_CHUNK):
                pass
    except (LayerStoreError, OSError) as error:
        _refuse_files_of_others(error, layer)
        return Verdict(str(error), unknown=True)
    parent = parent_verdict.result() if isinstance(parent_verdict, Task) else parent_verdict
    if not complete:
        return _UNKNOWN
    try:
        found = store.driver.check_tree(layer.cache_id, layer.parent.cache_id if layer.parent else "", _taken(entries))
    except SourceChanged:
        raise
    except (LayerStoreError, OSError) as error:
        _refuse_files_of_others(error, layer)
        if parent.unknown:  # it may be the parent's files that cannot be read: a finding of its own
            return _UNKNOWN
        return Verdict(f"its files cannot be compared with its tar: {error}", unknown=True)
    paths = frozenset(difference.path for difference in found) | parent.doubtful
    if parent.unknown:
        found = [difference for difference in found if not difference.inherited]
    elif parent.doubtful:
        found = [
            one
            for one in found
            if not (one.inherited and any(_is_in(one.source or one.path, path) for path in parent.doubtful))
        ]
    return Verdict("", found, paths, parent.unknown)


def _refuse_files_of_others(error: Exception, layer: Layer) -> None:
    """Raise the error again if it says nothing of the layer: this user may not read a file of another owner."""
    if not isinstance(error, PermissionError) or not error.filename:
        return
    try:
        owner = os.lstat(error.filename).st_uid
    except OSError:
        owner = None
    if owner != os.geteuid():
        error.add_note(f"while verifying layer {layer.chain_id}")
        raise error


def _taken(entries: deque[LayerEntry]) -> Iterator[LayerEntry]:
    """Yield the entries one by one, and keep none."""
    while entries:
        yield entries.popleft()


def _is_in(path: bytes, directory: bytes) -> bool:
    return path == directory or not directory or path.startswith(directory + b"/")


class Journal:
    """The layers that a check has verified, in `<root>/layerstore/verified/<driver>`, until the check is finished.

    A line for each layer: chain ID, driver's ID, and the time in seconds since 1970.

    Args:
        store: an open store; one that cannot be written has no journal.
    """

    def __init__(self, store: LayerStore) -> None:
        self._path: Path | None = None
        if not store.read_only:
            self._path = state_directory(store.root, "verified", store.driver_name)
            _split_old_journal(store.root, self._path.parent)

    def begin(self, *, resume: bool) -> set[tuple[str, str]]:
        """Return the layers that are verified already: none, unless an interrupted check is resumed."""
        if self._path is None:
            return set()
        if not resume:
            self.finish()
            return set()
        try:
            lines = inside.read(self._path, _LONGEST).decode(errors="replace").splitlines()
        except FileNotFoundError:
            return set()
        return {(parts[0], parts[1]) for line in lines if len(parts := line.split(" ")) == 3}

    def verified(self, layer: Layer) -> None:
        """Record that a layer is sound. If that fails, as on a full disk, another check verifies it again."""
        if self._path is not None:
            with suppress(OSError):
                make_directory(self._path.parent, 0o700)
                line = f"{layer.chain_id} {layer.cache_id} {time.time():.0f}\n"
                inside.write(self._path, line.encode(), 0o644, append=True)

    def finish(self) -> None:
        """Remove the journal at the end of a check."""
        if self._path is not None:
            inside.unlink(self._path, missing_ok=True)
            with suppress(OSError):  # another driver's may be there, or no directory at all
                inside.rmdir(self._path.parent)


def _split_old_journal(root: Path, journals: Path) -> None:
    """Copy the single journal of earlier versions to each driver: its lines have IDs that no other driver has."""
    if inside.exists(journals) and not inside.is_directory(journals):
        with suppress(OSError):  # as on a full disk: the layers are only verified again
            lines = inside.read(journals, _LONGEST)
            inside.unlink(journals)
            make_directory(journals, 0o700)
            for driver in recorded_drivers(root):
                inside.write(journals / driver, lines, 0o644)
