"""Hard links between layers of one image that are applied at the same time."""

from __future__ import annotations

import io
import os
import threading
import time
from pathlib import Path

import pytest

from layerstore_core import InvalidLayer
from layerstore_core.base.digests import DiffID
from layerstore_core.store.registration.chain import LayerInput
from tests import tars
from tests.store.layers import MTIME, export, tar_of, tree, warm


def layer_input(tar, name, opened=None):
    """Return a layer with this tar; `opened` is called when the tar is opened."""

    def open_():
        if opened is not None:
            opened()
        return io.BytesIO(tar)

    return LayerInput(open_, DiffID.of(tar), name)


@pytest.fixture
def late(store):
    """Return two functions that let the lowest layer come last: its tar calls the first, another layer's the second.

    The first waits until the second was called. With a driver that applies one layer after the other it does not wait.
    """
    begun = threading.Event()

    def wait():
        if store.driver.capabilities.parallel_apply and begun.wait(2):
            time.sleep(0.1)  # until the layer that was opened needs the files of the others

    return wait, begun.set


BASE = tars.tar(
    tars.directory(b"d", mtime=MTIME),
    tars.entry(b"d/file", b"of the base", mtime=MTIME),
    tars.entry(b"d/other", b"other", mtime=MTIME, uid=7),
)
MIDDLE = tar_of({"d/file": b"of the middle"})
TOP = tars.tar(
    tars.hard_link(b"link", b"d/file", mtime=MTIME),
    tars.hard_link(b"d/again", b"link", mtime=MTIME),
    tars.hard_link(b"alone", b"d/other", mtime=MTIME, uid=7),
)


def test_a_hard_link_waits_for_the_layers_below(store, late):
    """The target is the file as all layers below have it, and not the first file with that name."""
    wait, begun = late
    layer = store.register_chain(
        [layer_input(BASE, "base", wait), layer_input(MIDDLE, "middle"), layer_input(TOP, "top", begun)]
    )
    assert export(layer) == TOP
    with store.create_rw_layer("box", layer.chain_id).mounted() as path:
        one, two, three = (Path(path, name) for name in ("d/file", "link", "d/again"))
        assert three.read_bytes() == b"of the middle"
        assert os.path.samefile(one, two)
        assert os.path.samefile(one, three)
        assert os.path.samefile(Path(path, "alone"), Path(path, "d/other"))
        assert Path(path, "alone").read_bytes() == b"other"


@pytest.mark.parametrize("why", ["damaged", "cannot be opened", "another digest"])
def test_a_layer_that_waits_for_a_failing_layer_fails_too(store, store_root, late, why):
    warm(store)
    before = tree(store_root)
    wait, begun = late

    def refuse():
        wait()
        raise PermissionError(13, "Permission denied", "base.tar")

    base = {
        "damaged": LayerInput(lambda: (wait(), io.BytesIO(BASE[:600]))[1], DiffID.of(BASE), "base"),
        "cannot be opened": layer_input(BASE, "base", refuse),
        "another digest": LayerInput(lambda: (wait(), io.BytesIO(BASE))[1], DiffID.of(MIDDLE), "base"),
    }[why]
    with pytest.raises((InvalidLayer, PermissionError), match="base"):
        store.register_chain([base, layer_input(MIDDLE, "middle"), layer_input(TOP, "top", begun)])
    assert tree(store_root) == before


def test_a_hard_link_to_a_file_that_no_layer_has_is_refused(store, store_root, late):
    warm(store)
    before = tree(store_root)
    wait, begun = late
    top = tars.tar(tars.hard_link(b"link", b"d/missing"))
    with pytest.raises(InvalidLayer, match=r"top.*d/missing"):
        store.register_chain([layer_input(BASE, "base", wait), layer_input(top, "top", begun)])
    assert tree(store_root) == before


def test_a_long_chain_whose_layers_all_need_their_parents(store):
    """The chain has more layers than are registered at the same time."""
    layers = [layer_input(tar_of({"0": b"content"}), "0")]
    for number in range(1, 20):
        tar = tars.tar(tars.hard_link(b"%d" % number, b"%d" % (number - 1), mtime=MTIME))
        layers.append(layer_input(tar, f"{number}"))
    layer = store.register_chain(layers)
    with store.create_rw_layer("box", layer.chain_id).mounted() as path:
        assert {Path(path, f"{number}").read_bytes() for number in range(20)} == {b"content"}
