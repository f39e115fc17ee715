"""What interrupted pulls leave: `du` shows it, `gc` and `prune` collect it, and `check` says nothing."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from layerstore_core import LayerStore
from layerstore_core.images.remote.receive.leftovers import MAX_AGE, downloads_directory
from layerstore_core.images.remote.receive.partial_file import PartialFile
from layerstore_core.maintenance.check import check_store
from layerstore_core.maintenance.gc import Removed, collect_garbage
from layerstore_core.maintenance.prune import prune
from layerstore_core.maintenance.usage import Total, disk_usage
from layerstore_core.records.blob_sources import BlobSource, BlobSources
from tests.store.layers import BASE

SIZE = 1 << 20


@pytest.fixture
def driver() -> str:
    return "vfs"


def left(store: LayerStore, digit: str, age: float = 0) -> Path:
    """Leave half of a blob, as a killed pull does; return its path."""
    path = downloads_directory(store.root) / "sha256" / (digit * 64)
    file = PartialFile(path, SIZE)
    assert file.try_lock()
    file.write_at(0, b"x" * (SIZE // 2))
    file.add(0, SIZE // 2)
    file.close()
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_a_download_is_kept_for_a_week(store: LayerStore) -> None:
    new, old = left(store, "1", MAX_AGE - 60), left(store, "2", MAX_AGE + 60)
    taken = old.stat().st_blocks * 512
    assert taken >= SIZE // 2
    expected = [Removed("unfinished download", str(old), taken)]
    assert collect_garbage(store, dry_run=True) == expected
    assert old.exists()
    assert collect_garbage(store) == expected
    assert (new.exists(), old.exists()) == (True, False)
    assert collect_garbage(store) == []


def test_a_download_that_goes_on_is_kept(store: LayerStore) -> None:
    path = left(store, "1", MAX_AGE + 60)
    file = PartialFile(path, SIZE)
    assert file.try_lock()
    assert collect_garbage(store) == []
    file.close()
    assert len(collect_garbage(store)) == 1


def test_a_download_of_a_layer_that_is_here_is_removed_at_once(store: LayerStore) -> None:
    path = left(store, "1")
    with store.register(io.BytesIO(BASE)) as layer:
        with store.context.changing_images():
            BlobSources(store.context.image_db.path).add(layer.diff_id, [BlobSource(f"sha256:{'1' * 64}", "a/b")])
        assert [one.name for one in collect_garbage(store)] == [str(path)]


def test_prune_removes_old_downloads(store: LayerStore) -> None:
    old = left(store, "1", MAX_AGE + 60)
    left(store, "2")
    taken = old.stat().st_blocks * 512
    assert prune(store, dry_run=True).bytes == taken
    assert prune(store).downloads == taken
    assert not old.exists()
    assert not prune(store)


def test_du_shows_downloads(store: LayerStore) -> None:
    assert disk_usage(store).totals[5] == Total("downloads", 0, 0, 0, 0)
    one, other = left(store, "1"), left(store, "2")
    sizes = [path.stat().st_blocks * 512 for path in (one, other)]
    file = PartialFile(one, SIZE)
    assert file.try_lock()
    assert disk_usage(store).totals[5] == Total("downloads", 2, 1, sum(sizes), sizes[1])
    file.close()


def test_other_files_are_left_alone(store: LayerStore) -> None:
    old = left(store, "1", MAX_AGE + 60)
    stranger, link = old.with_name("notes"), old.with_name("3" * 64)
    stranger.write_bytes(b"mine")
    link.symlink_to(stranger)
    os.utime(stranger, (0, 0))
    assert [one.name for one in collect_garbage(store)] == [str(old)]
    assert (stranger.read_bytes(), link.is_symlink()) == (b"mine", True)


def test_check_says_nothing_of_downloads(store: LayerStore) -> None:
    left(store, "1", MAX_AGE + 60)
    assert check_store(store, full=True) == []


@pytest.mark.parametrize("remove", [collect_garbage, prune])
def test_records_of_blobs_go_with_their_layers(store: LayerStore, remove: Callable[[LayerStore], object]) -> None:
    """Docker never removes them: in a cache of CI they would grow without an end."""
    sources, digest = BlobSources(store.context.image_db.path), f"sha256:{'1' * 64}"
    with store.register(io.BytesIO(BASE)) as layer:
        with store.context.changing_images():
            sources.add(layer.diff_id, [BlobSource(digest, "a/b")])
        remove(store)
        assert sources.diff_id(digest) == layer.diff_id
        gone = layer.diff_id
    remove(store)
    assert (sources.diff_id(digest), sources.of(gone)) == (None, [])
