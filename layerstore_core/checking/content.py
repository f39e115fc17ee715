"""Every layer's tar, put together and compared with its digest: several at a time, and to be gone on with."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from pathlib import Path
from typing import Final

from layerstore_core.checking.finding import Finding
from layerstore_core.errors import LayerStoreError
from layerstore_core.layers import Layer
from layerstore_core.log import logger
from layerstore_core.metadata.atomic import make_directory
from layerstore_core.metadata.ours import recorded_drivers, state_directory
from layerstore_core.store import LayerStore

_CHUNK: Final = 1 << 20


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
        layers: views of the layers.
        progress: called with how many are done, and how many there are.
        resume: leave out what a check that was interrupted has verified.
    """
    journal = Journal(store)
    known = journal.begin(resume=resume)
    wanted = [layer for layer in layers if (str(layer.chain_id), layer.cache_id) not in known]
    done = len(layers) - len(wanted)
    if done:
        logger.info("{} layers were verified before the last check was interrupted", done)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0)), "layerstore-check") as pool:
        try:
            running = {pool.submit(_verify, layer): layer for layer in wanted}
            if progress is not None and wanted:
                progress(done, len(layers))
            for task in as_completed(running):
                layer, message = running[task], task.result()
                done += 1
                if progress is not None and done < len(layers):
                    progress(done, len(layers))
                if not message:
                    journal.verified(layer)
                elif store.db.cache_id(layer.chain_id) == layer.cache_id:  # not deleted meanwhile
                    yield Finding(
                        "damaged",
                        layer.chain_id,
                        message,
                        "give the layer or its image with `layerstore check --full --repair --from FILE`, "
                        "or remove it and register it again",
                    )
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    journal.finish()


def _verify(layer: Layer) -> str:
    """What is wrong with a layer's tar; empty where nothing is."""
    try:
        with layer.tar_stream() as stream:
            while stream.read(_CHUNK):
                pass
    except (LayerStoreError, OSError) as error:
        return str(error)
    return ""


class Journal:
    """What a check has verified, in `<root>/layerstore/verified/<driver>`, until it has come to its end.

    A line for each layer: chain ID, driver's ID, and the time in seconds since 1970.

    Args:
        store: an open store; what cannot be written has no journal.
    """

    def __init__(self, store: LayerStore) -> None:
        self._path: Path | None = None
        if not store.read_only:
            self._path = state_directory(store.root, "verified", store.driver_name)
            _share_out(store.root, self._path.parent)

    def begin(self, *, resume: bool) -> set[tuple[str, str]]:
        """What is verified already: nothing, unless an interrupted check is gone on with."""
        if self._path is None:
            return set()
        if not resume:
            self.finish()
            return set()
        try:
            lines = self._path.read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return set()
        return {(parts[0], parts[1]) for line in lines if len(parts := line.split(" ")) == 3}

    def verified(self, layer: Layer) -> None:
        """Note that a layer is sound. What cannot be noted, as on a full disk, is only verified again by another check."""
        if self._path is not None:
            with suppress(OSError):
                make_directory(self._path.parent, 0o700)
                with open(self._path, "a") as file:
                    file.write(f"{layer.chain_id} {layer.cache_id} {time.time():.0f}\n")

    def finish(self) -> None:
        """The check has come to its end."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            with suppress(OSError):  # another driver's may be there, or no directory at all
                self._path.parent.rmdir()


def _share_out(root: Path, journals: Path) -> None:
    """Give the one journal of earlier versions to each driver: its lines name layers by IDs that no other driver has."""
    if journals.is_file():
        with suppress(OSError):  # as on a full disk: what is not known is only verified again
            lines = journals.read_bytes()
            journals.unlink()
            make_directory(journals, 0o700)
            for driver in recorded_drivers(root):
                (journals / driver).write_bytes(lines)
