"""The operations on a store before a power cut or a kill, and the promises that must hold afterwards.

The process that uses the store logs what it does: `PromiseLog.begin` before a call, whose outcome is then open, and
`PromiseLog.promise` when the call has returned. From this log an `Expectation` knows at any point what was promised.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from layerstore_core import LayerStore, SnapshotExists, Snapshots
from layerstore_core.base.digests import DiffID
from layerstore_core.images import Images
from layerstore_core.records.snapshots.rows import SnapshotRow
from layerstore_core.store.registration.chain import LayerInput
from tests.images.archives import ImageSpec, docker_archive
from tests.reliability.thorough import THOROUGH
from tests.snapshots.mounting import write
from tests.store.layers import BASE, MIDDLE, TOP, names_of, register, tar_of

WriteLine = Callable[[bytes], None]

#: So large that a layer's data are not written to the disk together with its names by chance.
BIG = tar_of({"usr": None, **{f"usr/{n:03}": bytes([n]) * 9000 for n in range(40)}})
IMAGE = ImageSpec([BASE, MIDDLE, tar_of({"new": b"new" * 5000})], names=["demo:1"])


class PromiseLog:
    """The log of what is done and promised.

    Args:
        write: writes a line of the log. It returns when the line is written.
    """

    def __init__(self, write: WriteLine) -> None:
        self._write = write

    def begin(self, *facts: str) -> None:
        """Log that a call begins which may change these facts."""
        self._write(json.dumps(["begins", *facts]).encode())

    def promise(self, **facts: Any) -> None:
        """Log that a call has returned, which promises these facts. `None` stands for something that does not exist."""
        self._write(json.dumps(["is", facts]).encode())


@dataclass
class Expectation:
    """What is promised at one point of the log.

    Attributes:
        certain: the promised facts, by name.
        open: the names of facts that a call in progress may change.
    """

    certain: dict[str, Any] = field(default_factory=dict)
    open: set[str] = field(default_factory=set)

    def read(self, line: bytes) -> None:
        kind, *rest = json.loads(line)
        if kind == "begins":
            self.open.update(rest)
        else:
            self.certain.update(rest[0])
            self.open.difference_update(rest[0])

    def broken_promises(self, found: dict[str, Any]) -> list[str]:
        """Return a description of each promise that is not kept."""
        return [
            f"{name} is {found.get(name)!r}, not {value!r}"
            for name, value in sorted(self.certain.items())
            if name not in self.open and found.get(name) != value
        ]


def facts_of(store: LayerStore) -> dict[str, Any]:
    """Return the facts of a store. Every layer's tar is assembled and verified for that."""
    found: dict[str, Any] = {}
    for chain, layer in store.layers().items():
        with layer.tar_stream() as stream:
            found[f"layer {chain}"] = DiffID.of(stream.read())
    found.update({f"pin {chain}": True for chain in store.pins()})
    for name in store.rw_layers():
        rw = store.get_rw_layer(name)
        with rw.mounted() as path:
            found[f"rw {name}"] = Path(path, "init").is_file()
        rw.close()
    images = Images(store)
    found.update({f"image {name}": image.image_id for image in images.all() for name in image.names})
    for row in store.context.snapshots.rows():
        if row.state == "ready":
            found[f"snapshot {row.key if row.chain_id is None else row.chain_id}"] = content_of(store, row)
    return found


def content_of(store: LayerStore, row: SnapshotRow) -> list[str]:
    """Return the kind of a snapshot, and the names and sizes of the files that it shows."""
    with store.driver.mounted(row.driver_id) as path:
        files = [file for file in Path(path).rglob("*") if file.is_file()]
        return [row.kind, *sorted(f"{file.relative_to(path)} {file.stat().st_size}" for file in files)]


def fill_store(store: LayerStore) -> dict[str, Any]:
    """Put some layers, a writable layer and an image into a store. Return the facts that must hold from then on."""
    base, middle = register(store, BASE), register(store, MIDDLE, names_of(BASE)[0])
    with base, middle, register(store, BIG) as big:
        store.pin(middle)
        store.pin(big)
        store.create_rw_layer("box", middle.chain_id, init=_init).close()
        Images(store).load(io.BytesIO(docker_archive(IMAGE)))
        return facts_of(store)


def _init(path: str) -> None:
    Path(path, "init").write_bytes(b"init")


def use_store(store: LayerStore, log: PromiseLog) -> None:
    """Create and delete layers, a writable layer and an image. Log each change before the call and after its return."""
    base, middle = names_of(BASE, MIDDLE)
    (big,) = names_of(BIG)
    chained = names_of(BASE, MIDDLE, TOP)[2]
    image_top = names_of(*IMAGE.layers)[2]

    log.begin(f"layer {base}")
    lower = register(store, BASE)
    log.promise(**{f"layer {base}": DiffID.of(BASE)})
    log.begin(f"pin {base}")
    store.pin(lower)
    log.promise(**{f"pin {base}": True})

    log.begin(f"layer {middle}")
    upper = store.register(io.BytesIO(MIDDLE), base, descriptor={"size": len(MIDDLE)})
    log.promise(**{f"layer {middle}": DiffID.of(MIDDLE)})

    log.begin("rw box")
    box = store.create_rw_layer("box", middle, init=_init)
    log.promise(**{"rw box": True})
    with box.mounted() as path:
        Path(path, "written").write_bytes(b"written" * 10_000)
    with box.tar_stream() as stream:
        diff = stream.read()
    committed = names_of(BASE, MIDDLE, diff)[2]
    log.begin(f"layer {committed}")
    commit = register(store, diff, middle)
    log.promise(**{f"layer {committed}": DiffID.of(diff)})

    log.begin("rw box")
    store.release_rw_layer(box)
    log.promise(**{"rw box": None})
    log.begin(f"layer {committed}")
    store.release(commit)
    log.promise(**{f"layer {committed}": None})

    log.begin(f"layer {big}", f"pin {big}")
    layer = register(store, BIG)
    log.promise(**{f"layer {big}": DiffID.of(BIG)})
    store.pin(layer)
    log.promise(**{f"pin {big}": True})

    log.begin(f"layer {chained}")
    inputs = [
        LayerInput(lambda tar=tar: io.BytesIO(tar), DiffID.of(tar), "a layer")  # type: ignore[misc]
        for tar in (BASE, MIDDLE, TOP)
    ]
    top = store.register_chain(inputs)
    log.promise(**{f"layer {chained}": DiffID.of(TOP)})
    log.begin(f"layer {chained}")
    store.release(top)
    log.promise(**{f"layer {chained}": None})

    images = Images(store)
    log.begin(f"layer {image_top}", "image demo:1")
    images.load(io.BytesIO(docker_archive(IMAGE)))
    log.promise(**{f"layer {image_top}": DiffID.of(IMAGE.layers[2]), "image demo:1": IMAGE.image_id})
    log.begin("image demo:2")
    images.tag("demo:1", "demo:2")
    log.promise(**{"image demo:2": IMAGE.image_id})
    log.begin("image demo:1", "image demo:2", f"layer {image_top}")
    images.remove("demo:1")
    log.promise(**{"image demo:1": None})
    images.remove("demo:2")
    log.promise(**{"image demo:2": None, f"layer {image_top}": None})

    if THOROUGH:
        use_snapshots(store, log, base)

    log.begin(f"pin {big}", f"layer {big}")
    store.unpin(big)
    log.promise(**{f"pin {big}": None})
    store.release(layer)
    log.promise(**{f"layer {big}": None})
    log.begin(f"layer {middle}")
    store.release(upper)
    log.promise(**{f"layer {middle}": None})
    lower.close()


def use_snapshots(store: LayerStore, log: PromiseLog, layer: str) -> None:
    """Make, write, commit and remove snapshots; log as `use_store`."""
    with Snapshots(store) as snapshots:
        log.begin(f"snapshot {layer}")
        with suppress(SnapshotExists):
            snapshots.prepare("extract", "", {"containerd.io/snapshot.ref": layer})
        of_layer = ["bin/sh 1200", "etc/hosts 20"]
        log.promise(**{f"snapshot {layer}": ["committed", *of_layer]})
        remote = next(snapshots.walk()).key

        log.begin("snapshot a", "snapshot one")
        snapshots.prepare("a", remote)
        log.promise(**{"snapshot a": ["active", *of_layer]})
        log.begin("snapshot a", "snapshot one")
        write(snapshots.mounts("a"), {"written": b"written" * 10_000})
        snapshots.commit("one", "a")
        log.promise(**{"snapshot a": None, "snapshot one": ["committed", *of_layer, "written 70000"]})

        log.begin("snapshot box")
        snapshots.prepare("box", "one")
        log.promise(**{"snapshot box": ["active", *of_layer, "written 70000"]})
        for key in ("box", "one"):
            log.begin(f"snapshot {key}")
            snapshots.remove(key)
            log.promise(**{f"snapshot {key}": None})
        log.begin(f"snapshot {layer}")
        snapshots.remove(remote)
        log.promise(**{f"snapshot {layer}": None})
