"""What looks at a whole store costs no more for each layer the more layers there are.

Calls of functions are counted, the interpreter's own and Python's, and not time: the count is the same on a busy machine,
and a question about one layer that is answered by going through all of them is seen at once.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from layerstore_core import LayerStore, StoreConfig
from layerstore_core.check import check_store
from layerstore_core.digests import DiffID
from layerstore_core.gc import collect_garbage
from layerstore_core.images import Images
from tests.images.archives import ImageSpec, docker_archive
from tests.store.layers import register, tar_of

FEW = 20
TIMES = int(os.environ.get("LAYERSTORE_GROWTH", "25"))
#: What may come on top, for what is rounded: blocks of a directory, steps of a table.
MORE, ALLOWANCE = 1.1, 500

Step = Callable[[LayerStore], object]


def tar(number: int) -> bytes:
    return tar_of({f"file{number}": b"%d" % number})


def make(store: LayerStore, count: int, depth: int) -> None:
    """Layers in chains, which nothing but names of images holds, every other one."""
    names = {}
    with store.changing_images() as records:
        for start in range(0, count, depth):
            layer = None
            diff_ids = []
            for number in range(start, start + depth):
                below, layer = layer, register(store, tar(number), layer or "")
                diff_ids.append(str(DiffID.of(tar(number))))
                if below is not None:
                    below.close()
            if start // depth % 2 == 0:
                config = {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": diff_ids}}
                names[f"image:{start}"] = records.add(json.dumps(config).encode())
            assert layer is not None
            layer.close()
        records.set_names(names)


def calls_of(step: Callable[[], object]) -> int:
    """How many calls of functions a step takes, in all threads."""
    count = itertools.count()

    def note(frame: object, event: str, arg: object) -> None:
        if event in ("call", "c_call"):
            next(count)

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        step()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
    return next(count)


def counted(root: Path, driver: str, count: int, depth: int, archive: Path) -> dict[str, int]:
    """The calls that each operation takes in a store of so many layers."""

    def opened(step: Step) -> Callable[[], object]:
        def run() -> None:
            with LayerStore.open(config) as store:
                step(store)

        return run

    config = StoreConfig(root=root, driver=driver, durability="none")
    with LayerStore.open(config) as store:
        make(store, count, depth)
        Images(store).load(archive)
    steps: dict[str, Step] = {
        "open": lambda store: None,
        "ls": lambda store: [layer.diff_size for layer in store.layers().values()],
        "images": lambda store: Images(store).all(),
        "check": check_store,
        "check --full": lambda store: check_store(store, full=True),
        "load": lambda store: Images(store).load(archive),
        "rmi": lambda store: Images(store).remove("image:0"),
        "gc": collect_garbage,
    }
    return {name: calls_of(opened(step)) for name, step in steps.items()}


@pytest.mark.parametrize("depth", [1, 20], ids=["bases", "chains"])
def test_no_operation_grows_faster_than_the_layers(tmp_path: Path, store_root: Path, driver: str, depth: int) -> None:
    archive = tmp_path / "known.tar"
    archive.write_bytes(docker_archive(ImageSpec([tar(-1)], names=["known:1"])))
    few = counted(store_root / "few", driver, FEW, depth, archive)
    many = counted(store_root / "many", driver, FEW * TIMES, depth, archive)
    growth = {name: many[name] / few[name] for name in few}
    assert {name: times for name, times in growth.items() if many[name] > few[name] * TIMES * MORE + ALLOWANCE} == {}
