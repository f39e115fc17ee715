"""A directory's name is on disk only when the directory above it has been flushed, whatever file systems do besides."""

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
    """The names of directories that would not be there after a power cut, on a file system that does what it must."""
    names: set[str] = set()
    mkdir, rename, fsync, flush = os.mkdir, os.rename, os.fsync, FlushPoint.flush

    def whole(path, directory):
        above = "" if directory is None else os.readlink(f"/proc/self/fd/{directory}")
        return os.path.abspath(os.path.join(above, os.fsdecode(path)))

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


def test_the_names_are_told(unflushed, tmp_path):
    """Otherwise the tests below would prove nothing."""
    make_directory(tmp_path / "a" / "b", 0o700)
    assert unflushed(tmp_path / "a" / "b") == [str(tmp_path / "a"), str(tmp_path / "a" / "b")]


def test_a_store_s_first_layer_writable_layer_and_image(unflushed, open_store):
    store = open_store(durability="full")
    layer = register(store, BASE)
    assert unflushed(record_path(layer)) == []
    store.create_rw_layer("box", layer.chain_id)
    assert unflushed(store.context.db.mount_path("box")) == []
    image = Images(store).load(io.BytesIO(docker_archive(ImageSpec([BASE], names=["demo:1"]))))[0]
    images = store.root / "image" / "vfs"
    assert unflushed(images / "imagedb" / "content" / "sha256" / image.image_id.removeprefix("sha256:")) == []
    assert unflushed(images / "repositories.json") == []


def test_the_first_pin_of_a_root_that_is_docker_s(unflushed, open_store, tmp_path):
    layer = register(open_store(), BASE)
    (tmp_path / "root" / "layerstore").mkdir(parents=True)  # of the lock file
    Pins(tmp_path / "root", "vfs").add(layer.chain_id)
    assert unflushed(tmp_path / "root" / "layerstore" / "pins" / "vfs") == [str(tmp_path / "root")]


def test_what_is_set_aside(unflushed, open_store):
    store = open_store(durability="full")
    register(store, BASE)
    stranger = store.context.db.path / "sha256" / "stranger"
    stranger.mkdir(parents=True)
    kept = store.context.quarantine.put(stranger, "a stranger")
    assert unflushed(kept) == []
