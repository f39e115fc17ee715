"""Processes that are killed while they create a writable layer of an image, or commit one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from layerstore_core import ConfigOptions, Images, LayerStore
from layerstore_core.maintenance import gc
from layerstore_core.maintenance.check import check_store
from layerstore_core.maintenance.gc import collect_garbage
from layerstore_core.records.rw_images import RWImages
from tests.images.make.images_of import WHEN, load, write
from tests.reliability.thorough import THOROUGH
from tests.store.faults import FaultySystem
from tests.store.layers import BASE, export
from tests.store.test_killed import die, killed

OpenStore = Callable[..., LayerStore]


@pytest.fixture
def driver() -> str:
    return "vfs"


def steps(each: int) -> Iterator[int]:
    return count(0, 1 if THOROUGH else each)


def killed_at(step: int, open_store: OpenStore, work: Callable[[LayerStore], Any]) -> bool:
    """Do work in a child that dies at its system call number `step`; return whether it died."""

    def child() -> None:
        with open_store() as store, pytest.MonkeyPatch.context() as patch:
            FaultySystem(patch, step, die)
            work(store)

    return killed(child)


def test_a_writable_layer_never_forgets_its_image(store: LayerStore, images: Images, open_store: OpenStore) -> None:
    """Two images have the same topmost layer: without the note, `commit` could not tell of which it is."""
    base = load(images, BASE)
    images.configure(base, "other:1", ConfigOptions(created=WHEN, user="me"))
    outcomes = set()
    for step in steps(4):
        was_killed = killed_at(step, open_store, lambda other: Images(other).create_rw_layer("work", base.image_id))
        with open_store() as later:
            collect_garbage(later)
            assert collect_garbage(later) == []
            names = later.rw_layers()
            outcomes.add(bool(names))
            if names:
                rw = later.get_rw_layer("work")
                assert rw.image_id == base.image_id
                later.release_rw_layer(rw)
            assert later.context.rw_images.recorded() == []
        if not was_killed:
            break
    assert step > 10
    assert outcomes == {False, True}


def test_gc_leaves_the_note_of_a_writable_layer_that_is_being_created(
    store: LayerStore, images: Images, open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, other = load(images, BASE), open_store()
    real = RWImages.set

    def note(records: RWImages, *arguments: Any) -> None:
        real(records, *arguments)
        assert len(records.recorded()) == 1
        assert gc._unused_rw_images(other) == []

    monkeypatch.setattr(RWImages, "set", note)
    with images.create_rw_layer("work", base) as rw:
        assert rw.image_id == base.image_id


def test_a_killed_commit_leaves_the_image_whole_or_none(
    store: LayerStore, images: Images, open_store: OpenStore
) -> None:
    base = load(images, BASE)
    with images.create_rw_layer("work", base) as rw:
        write(rw, {"etc/new": b"new"})
    expected = None
    at = ConfigOptions(created=WHEN)

    def commit(other: LayerStore) -> None:
        with other.get_rw_layer("work") as rw:
            Images(other).commit(rw, "app:1", config=at, mtime=0)

    outcomes = set()
    for step in steps(9):
        was_killed = killed_at(step, open_store, commit)
        with open_store() as later:
            collect_garbage(later)
            assert collect_garbage(later) == []
            assert check_store(later) == []
            found = Images(later)
            made = [image for image in found.all() if image.image_id != base.image_id]
            outcomes.add(bool(made))
            for image in made:
                assert image.names == ("app:1",)
                assert expected in (None, image)
                expected = image
                with later.get(image.chain_ids[-1]) as top:
                    assert top.parent_id == base.chain_id
                found.remove("app:1")
            assert list(later.layers()) == [base.chain_id]
            with later.get_rw_layer("work") as rw, rw.mounted() as root:
                assert Path(root, "etc/new").read_bytes() == b"new"
        if not was_killed:
            break
    assert step > 20
    assert outcomes == {False, True}
    assert export(store.get(base.chain_ids[0])) == BASE
