"""What is kept with images and layers counts: in `du`, in what `prune` frees, and in `--keep-storage`."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerstore_core import Images, LayerStore, StoreConfig
from layerstore_core.maintenance.gc import collect_garbage
from layerstore_core.maintenance.prune import prune
from layerstore_core.maintenance.usage import StoreUsage, disk_usage
from tests.images.archives import tar_files
from tests.images.keep.layouts import image_for, multi_platform
from tests.images.keep.test_incoming import foreign_gzip
from tests.store.layers import BASE, TOP

FILES, _ = multi_platform(
    image_for("amd64", (BASE,), (foreign_gzip(BASE),)), image_for("arm64", (TOP,), (foreign_gzip(TOP),))
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def store(root: Path) -> Iterator[LayerStore]:
    with LayerStore.open(StoreConfig(root=root, driver="vfs", durability="none", keep_blobs="always")) as opened:
        Images(opened).load(io.BytesIO(tar_files(FILES)), all_platforms=True)
        yield opened


def on_disk(root: Path) -> list[list[int]]:
    """The sizes of the documents and of the compressed layers, as the file system has them."""
    places = ("manifests/vfs/sha256/*", "blobs/vfs/*/*")
    return [sorted(path.stat().st_size for path in (root / "layerstore").glob(place)) for place in places]


def kept(usage: StoreUsage) -> list[tuple[int, int, int, int]]:
    return [(total.count, total.in_use, total.size, total.reclaimable) for total in usage.totals[3:5]]


def test_the_files_count_and_can_be_freed_with_images_that_are_not_in_use(store: LayerStore, root: Path) -> None:
    documents, blobs = on_disk(root)
    assert (len(documents), len(blobs)) == (8, 2)  # an index, two manifests, their attestations; one layer each
    usage = disk_usage(store)
    assert kept(usage) == [(8, 0, sum(documents), sum(documents)), (2, 0, sum(blobs), sum(blobs))]
    assert [total.size for total in usage.totals[:2]] == [sum(layer.diff_size for layer in usage.layers)] * 2
    # The index has both images, so each of them needs all documents.
    assert sorted(image.kept for image in usage.images) == [sum(documents) + size for size in blobs]


def test_what_an_image_in_use_needs_cannot_be_freed(store: LayerStore, root: Path) -> None:
    documents, blobs = on_disk(root)
    image = Images(store).get("app:1", platform="linux/amd64")
    with store.create_rw_layer("work", image.chain_id):
        used, layers = kept(disk_usage(store))
    assert used == (8, 8, sum(documents), 0)
    assert layers[:3] == (2, 1, sum(blobs)) and layers[3] in blobs


def test_what_gc_collects_can_be_freed(store: LayerStore, root: Path) -> None:
    (root / "layerstore/manifests/vfs/sha256" / ("0" * 64)).write_bytes(b"x" * 5000)
    with store.create_rw_layer("a", Images(store).get("app:1", platform="linux/amd64").chain_id):
        assert kept(disk_usage(store))[0][::3] == (9, 5000)
    assert prune(store, dry_run=True).bytes == 5000
    assert [one.bytes for one in collect_garbage(store)] == [5000]
    assert prune(store, dry_run=True).bytes == 0


@pytest.mark.parametrize("less", [0, 1])
def test_they_count_in_what_stays_and_in_what_is_freed(store: LayerStore, root: Path, less: int) -> None:
    files = sum(map(sum, on_disk(root)))
    layers = sum(layer.diff_size for layer in store.layers().values())
    would = prune(store, keep_storage=files + layers - less, dry_run=True)
    done = prune(store, keep_storage=files + layers - less)
    assert done == would
    assert (len(done.deleted), done.bytes) == ((2, files + layers) if less else (0, 0))
    assert on_disk(root) == ([[], []] if less else on_disk(root))
