"""Durable names: a directory's name is on disk only when its parent directory has been flushed.

The tests assume a file system that does no more than it must.
"""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from layerstore_core.base.atomic import make_directory
from layerstore_core.base.durability import FlushPoint
from layerstore_core.images import Images
from layerstore_core.records.pins import Pins
from tests.images.archives import ImageSpec, docker_archive
from tests.store.layers import BASE, record_path, register


@pytest.fixture
def driver():
    return "vfs"


@pytest.fixture
def unflushed(monkeypatch, tmp_path):
    """Return a function that returns the names of a path that a power cut could lose.

    It assumes a file system that does no more than it must.
    """
    names: set[str] = set()
    mkdir, rename, fsync, flush = os.mkdir, os.rename, os.fsync, FlushPoint.flush

    def whole(path, directory):
        parent = "" if directory is None else os.readlink(f"/proc/self/fd/{directory}")
        return os.path.abspath(os.path.join(parent, os.fsdecode(path)))

    def making(path, *rest, **options):
        mkdir(path, *rest, **options)
        names.add(whole(path, options.get("dir_fd")))

    def renaming(old, new, **options):
        rename(old, new, **options)
        if os.path.isdir(target := whole(new, options.get("dst_dir_fd"))):
            names.add(target)

    def flushing(descriptor):
        fsync(descriptor)
        directory = os.readlink(f"/proc/self/fd/{descriptor}")
        names.difference_update([name for name in names if os.path.dirname(name) == directory])

    def flushing_all(point):
        flush(point)
        names.clear()

    monkeypatch.setattr(os, "mkdir", making)
    monkeypatch.setattr(os, "rename", renaming)
    monkeypatch.setattr(os, "fsync", flushing)
    monkeypatch.setattr(FlushPoint, "flush", flushing_all)
    return lambda path: sorted(name for name in names if Path(name) == path or Path(name) in path.parents)


def test_unflushed_reports_directories_that_are_not_flushed(unflushed, tmp_path):
    """Without this, the other tests would prove nothing."""
    make_directory(tmp_path / "a" / "b", 0o700)
    assert unflushed(tmp_path / "a" / "b") == [str(tmp_path / "a"), str(tmp_path / "a" / "b")]


def test_the_names_of_a_stores_first_layer_writable_layer_and_image_are_flushed(unflushed, open_store):
    store = open_store(durability="full")
    layer = register(store, BASE)
    assert unflushed(record_path(layer)) == []
    store.create_rw_layer("box", layer.chain_id)
    assert unflushed(store.context.db.mount_path("box")) == []
    image = Images(store).load(io.BytesIO(docker_archive(ImageSpec([BASE], names=["demo:1"]))))[0]
    images = store.root / "image" / "vfs"
    assert unflushed(images / "imagedb" / "content" / "sha256" / image.image_id.removeprefix("sha256:")) == []
    assert unflushed(images / "repositories.json") == []


def test_the_name_of_the_first_pin_in_a_root_of_docker_is_flushed(unflushed, open_store, tmp_path):
    layer = register(open_store(), BASE)
    (tmp_path / "root" / "layerstore").mkdir(parents=True)  # as the lock file's directory
    Pins(tmp_path / "root", "vfs").add(layer.chain_id)
    assert unflushed(tmp_path / "root" / "layerstore" / "pins" / "vfs") == [str(tmp_path / "root")]


def test_the_name_of_an_entry_in_quarantine_is_flushed(unflushed, open_store):
    store = open_store(durability="full")
    register(store, BASE)
    unexpected = store.context.db.path / "sha256" / "unexpected"
    unexpected.mkdir(parents=True)
    moved = store.context.quarantine.put(unexpected, "an unexpected entry")
    assert unflushed(moved) == []
