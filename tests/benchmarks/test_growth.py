"""Operations on a whole store cost no more for each layer in a larger store.

The tests count calls of functions, both the interpreter's own and Python's, but no time. The count is the same on a
busy machine. If an operation goes through all layers for each single layer, the count shows it at once.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import sys
import threading
from collections.abc import Callable, Collection
from pathlib import Path

import pytest

from layerstore_core import LayerStore, StoreConfig
from layerstore_core.base.digests import ChainID, DiffID, ImageID
from layerstore_core.images import Images
from layerstore_core.maintenance.check import check_store
from layerstore_core.maintenance.gc import collect_garbage
from layerstore_core.maintenance.prune import prune
from layerstore_core.maintenance.usage import disk_usage
from layerstore_core.records.deletion import Deletion
from layerstore_core.records.imagedb import ImageDB
from layerstore_core.records.kept import Origin, digest_of
from layerstore_core.records.layerdb import LayerDB
from tests.images.archives import ImageSpec, docker_archive
from tests.in_gate import in_gate
from tests.store.layers import register, tar_of

#: The cost of a layer is the difference between stores of these sizes. So the cost of opening does not hide it.
WHOLE = "LAYERSTORE_GROWTH" in os.environ
FEW, SOME = (40, 80) if WHOLE else (20, 40)
MANY = int(os.environ.get("LAYERSTORE_GROWTH", "160"))
#: The same for images.
FEW_IMAGES, SOME_IMAGES, MANY_IMAGES = 20, 40, MANY if WHOLE else 100
#: The tolerance, because some costs grow in steps: blocks of a directory, sizes of a table.
MORE, ALLOWANCE = 1.07, 1000


def tar(number: int) -> bytes:
    return tar_of({f"file{number}": b"%d" % number})


def make(store: LayerStore, count: int, depth: int, *, manifests: bool) -> None:
    """Register layers in chains. Names of images refer to every other chain, and nothing to the others.

    With `manifests`, one is kept for each image.
    """
    names: dict[str, ImageID] = {}
    origins: dict[str, dict[ImageID, Origin]] = {}
    kept = store.context.kept
    with store.context.changing_images() as records:
        for start in range(0, count, depth):
            layer = None
            diff_ids = []
            for number in range(start, start + depth):
                parent, layer = layer, register(store, tar(number), layer or "")
                diff_ids.append(str(DiffID.of(tar(number))))
                if parent is not None:
                    parent.close()
            if start // depth % 2 == 0:
                config = {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": diff_ids}}
                image = names[f"image:{start}"] = records.add(json.dumps(config).encode())
                if manifests:
                    manifest = json.dumps({"config": {"digest": image}}).encode()
                    digest = digest_of(manifest)
                    kept.put(digest, manifest)
                    origin = Origin({"digest": digest, "size": len(manifest)}, {image: digest}, documents=(digest,))
                    kept.set_image(image, origin)
                    origins[f"image:{start}"] = {image: origin}
            assert layer is not None
            layer.close()
        if manifests:
            kept.set_names(origins)
        records.set_names(names)


def calls_of(step: Callable[[], object]) -> int:
    """Return the number of calls of functions that a step takes, in all threads."""
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


STEPS: dict[str, Callable[[LayerStore, Path], object]] = {
    "open": lambda store, archive: None,
    "ls": lambda store, archive: [layer.diff_size for layer in store.layers().values()],
    "images": lambda store, archive: Images(store).all(),
    "check": lambda store, archive: check_store(store),
    "check --full": lambda store, archive: check_store(store, full=True),
    "load": lambda store, archive: Images(store).load(archive),
    "rmi": lambda store, archive: Images(store).remove("image:0"),
    "gc": lambda store, archive: collect_garbage(store),
}
#: In stores of images with manifests. They do not depend on the driver.
OF_IMAGES: dict[str, Callable[[LayerStore, Path], object]] = {
    "tag": lambda store, archive: Images(store).tag("image:0", "another:1"),
    "du": lambda store, archive: disk_usage(store),
    "prune --dry-run": lambda store, archive: prune(store, named=True, dry_run=True),
    "rmi of a half": lambda store, archive: Images(store).remove(half_of_names(store)),
    "prune": lambda store, archive: prune(store, named=True),
}


def half_of_names(store: LayerStore) -> list[str]:
    names = sorted(store.context.image_db.names())
    return names[: len(names) // 2]


def counted(root: Path, driver: str, count: int, depth: int, archive: Path, names: Collection[str]) -> dict[str, int]:
    """Return the number of calls that the named operations take in a store of so many layers."""

    def run(name: str) -> None:
        with LayerStore.open(config) as store:
            (STEPS | OF_IMAGES)[name](store, archive)

    config = StoreConfig(root=root, driver=driver, durability="none")
    with LayerStore.open(config) as store:
        make(store, count, depth, manifests=not OF_IMAGES.keys().isdisjoint(names))
        Images(store).load(archive)
    return {name: calls_of(functools.partial(run, name)) for name in names}


def grown(
    directory: Path,
    root: Path,
    driver: str,
    depth: int,
    names: Collection[str],
    sizes: tuple[int, int, int] = (FEW, SOME, MANY),
) -> dict[str, tuple[int, int]]:
    """Return the growth of each operation that grows too fast, and the growth that is due."""
    archive = directory / "known.tar"
    archive.write_bytes(docker_archive(ImageSpec([tar(-1)], names=["known:1"])))
    counted(root / "imports", driver, depth, depth, archive, names)  # not counted: work that is done once in a process
    few, some, many = (counted(root / str(size), driver, size, depth, archive, names) for size in sizes)
    steps = (sizes[2] - sizes[1]) / (sizes[1] - sizes[0])
    growth = {name: (many[name] - some[name], round((some[name] - few[name]) * steps)) for name in names}
    return {name: (is_, due) for name, (is_, due) in growth.items() if is_ > due * MORE + ALLOWANCE}


@pytest.mark.parametrize("driver", in_gate("vfs"), indirect=True)
@pytest.mark.parametrize(
    "depth", [pytest.param(1, id="bases"), pytest.param(10, id="chains", marks=pytest.mark.nightly)]
)
def test_no_operation_grows_faster_than_the_layers(tmp_path: Path, store_root: Path, driver: str, depth: int) -> None:
    assert grown(tmp_path, store_root, driver, depth, STEPS) == {}


@pytest.mark.nightly
@pytest.mark.parametrize("driver", ["vfs"], indirect=True)
def test_a_deletion_that_lists_all_records_exceeds_the_growth(
    tmp_path: Path, store_root: Path, driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This shows that the other test can fail at its sizes."""
    real = LayerDB.begin_deletion

    def begin_deletion(self: LayerDB, chain: ChainID) -> Deletion:
        self.list_layers()
        return real(self, chain)

    monkeypatch.setattr(LayerDB, "begin_deletion", begin_deletion)
    assert grown(tmp_path, store_root, driver, 1, ["gc"]).keys() == {"gc"}


@pytest.mark.parametrize("driver", ["vfs"], indirect=True)
def test_no_operation_grows_faster_than_the_images(tmp_path: Path, store_root: Path, driver: str) -> None:
    sizes = FEW_IMAGES, SOME_IMAGES, MANY_IMAGES
    assert grown(tmp_path, store_root, driver, 1, OF_IMAGES, sizes) == {}


@pytest.mark.nightly
@pytest.mark.parametrize("driver", ["vfs"], indirect=True)
def test_a_removal_that_reads_all_images_again_exceeds_the_growth(
    tmp_path: Path, store_root: Path, driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This shows that the other test can fail at its sizes; `rmi` once did this."""
    real = ImageDB.remove_all

    def remove_all(self: ImageDB, images: Collection[ImageID], removed: Callable[[ImageID], object], _: object) -> None:
        for image in images:
            real(self, [image], removed)

    monkeypatch.setattr(ImageDB, "remove_all", remove_all)
    sizes = FEW_IMAGES, SOME_IMAGES, MANY_IMAGES
    assert grown(tmp_path, store_root, driver, 1, ["rmi of a half"], sizes).keys() == {"rmi of a half"}
