"""What is measured within a process, through the library: `python -m benchmarks.inside WHAT ARGUMENT…`.

What it prints is seconds: by the clock and of the processor, or JSON of lists of them. Roots are made in the current directory.
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
from pathlib import Path
from typing import Final

from layerstore_core import DiffID, Layer, LayerStore
from layerstore_core.store.register_chain import LayerInput
from layerstore_core.tar.encode import END_OF_ARCHIVE, encode_header, padding
from layerstore_core.tar.entry import EntryType, TarEntry

_CHUNK: Final = 1 << 20


def _processor() -> float:
    """Seconds of this process, and of those that it has waited for: files may be made by one beside it."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _tell(work: Callable[[], object]) -> None:
    """Print the seconds that it takes, by the clock and of the processor."""
    start = _processor()
    taken = seconds(work)
    print(taken, _processor() - start)


def _open(root: str | Path, driver: str) -> LayerStore:
    return LayerStore.open(root=root, driver=driver, durability="none")


def _drain(layer: Layer) -> None:
    with layer.tar_stream() as stream:
        while stream.read(_CHUNK):
            pass


def many_layers(root: str, count: str) -> None:
    """Make a vfs store of many small layers, in chains of five; print the chain ID of one."""
    with _open(root, "vfs") as store:
        parent, middle = "", ""
        for number in range(int(count)):
            data = b"%d" % number
            entry = TarEntry(b"file-%d" % number, EntryType.FILE, size=len(data))
            tar = encode_header(entry) + data + padding(len(data)) + END_OF_ARCHIVE
            with store.register(io.BytesIO(tar), parent if number % 5 else "") as layer:
                store.pin(layer)
                parent = layer.chain_id
            # The base of a chain, of the same work whatever the number of layers.
            if number == int(count) // 2 // 5 * 5:
                middle = parent
    print(middle)


def opening(root: str) -> None:
    """Print how long opening a store takes."""
    _tell(lambda: _open(root, "vfs").close())


def image(driver: str, how: str, *layers: str) -> None:
    """Print how long the layers of an image take: `together`, or `one by one`."""
    found = [(path, DiffID.from_hex(digest)) for path, _, digest in (one.rpartition("=") for one in layers)]
    with _open("store", driver) as store:

        def one_by_one() -> None:
            parent = ""
            for path, _ in found:
                parent = store.register(path, parent).chain_id

        def together() -> None:
            store.register_chain(
                [LayerInput(lambda path=path: open(path, "rb", buffering=0), digest, path) for path, digest in found]  # type: ignore[misc]  # noqa: SIM115
            )

        _tell(together if how == "together" else one_by_one)


class _Costs:
    """Seconds by the clock and of the processor, of one kind of work each time."""

    def __init__(self) -> None:
        self.clock: list[float] = []
        self.processor: list[float] = []

    @contextmanager
    def one(self) -> Iterator[None]:
        """A block that counts."""
        clock, processor = time.perf_counter(), _processor()
        yield
        self.processor.append(_processor() - processor)
        self.clock.append(time.perf_counter() - clock)


def entries(driver: str, warm: str, tar: str, repeats: str) -> None:
    """Print what registering a tar costs, and exporting it: once for each repeat."""
    register, export = _Costs(), _Costs()
    for number in range(int(repeats)):
        root = Path(f"store-{number}")
        with _open(root, driver) as store:
            store.register(warm)  # what is done once in a process
            with register.one():
                layer = store.register(tar)
            _drain(layer)  # the first reading of the files warms caches, as it does for everybody
            with export.one():
                _drain(layer)
        shutil.rmtree(root)
    print(json.dumps({"register": vars(register), "export": vars(export)}))


def depth(driver: str, *tars: str) -> None:
    """Print what registering each layer of a chain costs, and exporting it."""
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
    "open": opening,
    "image": image,
    "entries": entries,
    "depth": depth,
}

if __name__ == "__main__":
    _WHAT[sys.argv[1]](*sys.argv[2:])
