"""Measurements inside a process, through the library: `python -m benchmarks.inside WHAT ARGUMENT…`.

It prints seconds by the clock and of the processor, or JSON with lists of them. Roots are created in the current
directory.
"""

from __future__ import annotations

import io
import json
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from layerstore_core import DiffID, Layer, LayerStore
from layerstore_core.store.registration.chain import LayerInput
from layerstore_core.tar.encode import END_OF_ARCHIVE, encode_header, padding
from layerstore_core.tar.entry import EntryType, TarEntry

_CHUNK: Final = 1 << 20


def _processor() -> float:
    """Return the seconds of this process, and of the child processes that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def seconds(work: Callable[[], object]) -> float:
    """Return the seconds that some work takes, by the clock."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _print_seconds(work: Callable[[], object]) -> None:
    """Print the seconds that some work takes, by the clock and of the processor."""
    start = _processor()
    taken = seconds(work)
    print(taken, _processor() - start)


def _open(root: str | Path, driver: str) -> LayerStore:
    return LayerStore.open(root=root, driver=driver, durability="none")


def _open_file(path: str) -> BinaryIO:
    return open(path, "rb", buffering=0)


def _drain(layer: Layer) -> None:
    with layer.tar_stream() as stream:
        while stream.read(_CHUNK):
            pass


def many_layers(root: str, count: str) -> None:
    """Create a vfs store of many small layers, in chains of five. Print the chain ID of one layer."""
    with _open(root, "vfs") as store:
        parent, middle = "", ""
        for number in range(int(count)):
            data = b"%d" % number
            entry = TarEntry(b"file-%d" % number, EntryType.FILE, size=len(data))
            tar = encode_header(entry) + data + padding(len(data)) + END_OF_ARCHIVE
            with store.register(io.BytesIO(tar), parent if number % 5 else "") as layer:
                store.pin(layer)
                parent = layer.chain_id
            # The base of a chain: its export is the same work for any number of layers.
            if number == int(count) // 2 // 5 * 5:
                middle = parent
    print(middle)


def register_all(root: str, *tars: str) -> None:
    """Register each of some tars as a layer without a parent, in a vfs store, and pin it."""
    with _open(root, "vfs") as store:
        for tar in tars:
            with store.register(tar) as layer:
                store.pin(layer)


def cycle(root: str, driver: str, chain: str, count: str) -> None:
    """Print the seconds of making, mounting, unmounting and removing a writable layer: those of one of many times."""
    with _open(root, driver) as store:

        def one() -> None:
            rw = store.create_rw_layer("cycle", chain)
            with rw.mounted():
                pass
            store.release_rw_layer(rw)

        one()  # so that work that is done once in a process is not measured
        clock, processor = time.perf_counter(), _processor()
        for _ in range(int(count)):
            one()
        print((time.perf_counter() - clock) / int(count), (_processor() - processor) / int(count))


def opening(root: str) -> None:
    """Print the seconds of opening a store."""
    _print_seconds(lambda: _open(root, "vfs").close())


def image(driver: str, how: str, *layers: str) -> None:
    """Print the seconds of registering the layers of an image, `together` or `one by one`."""
    found = [(path, DiffID.from_hex(digest)) for path, _, digest in (one.rpartition("=") for one in layers)]
    with _open("store", driver) as store:

        def one_by_one() -> None:
            parent = ""
            for path, _ in found:
                parent = store.register(path, parent).chain_id

        def together() -> None:
            store.register_chain([LayerInput(partial(_open_file, path), digest, path) for path, digest in found])

        _print_seconds(together if how == "together" else one_by_one)


class _Costs:
    """The seconds by the clock and of the processor, of each repeat of some work."""

    def __init__(self) -> None:
        self.clock: list[float] = []
        self.processor: list[float] = []

    @contextmanager
    def one(self) -> Iterator[None]:
        """Measure the `with` block as one repeat."""
        clock, processor = time.perf_counter(), _processor()
        yield
        self.processor.append(_processor() - processor)
        self.clock.append(time.perf_counter() - clock)


def entries(driver: str, warm: str, tar: str, repeats: str) -> None:
    """Print the seconds of registering and of exporting a tar, for each repeat."""
    register, export = _Costs(), _Costs()
    for number in range(int(repeats)):
        root = Path(f"store-{number}")
        with _open(root, driver) as store:
            store.register(warm)  # so that work that is done once in a process is not measured
            with register.one():
                layer = store.register(tar)
            _drain(layer)  # the first export warms the caches
            with export.one():
                _drain(layer)
        shutil.rmtree(root)
    print(json.dumps({"register": vars(register), "export": vars(export)}))


def depth(driver: str, *tars: str) -> None:
    """Print the seconds of registering and of exporting each layer of a chain."""
    register, export = _Costs(), _Costs()
    with _open("store", driver) as store:
        parent = ""
        for tar in tars:
            with register.one():
                layer = store.register(tar, parent)
            _drain(layer)
            with export.one():
                _drain(layer)
            parent = layer.chain_id
    print(json.dumps({"register": vars(register), "export": vars(export)}))


_WHAT: Final[dict[str, Callable[..., None]]] = {
    "many-layers": many_layers,
    "register-all": register_all,
    "cycle": cycle,
    "open": opening,
    "image": image,
    "entries": entries,
    "depth": depth,
}

if __name__ == "__main__":
    _WHAT[sys.argv[1]](*sys.argv[2:])
