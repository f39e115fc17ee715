"""What a making that fails leaves: the layers that were there before, and none of its own."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from layerstore_core import ConfigOptions, ImageConfig, Images, InvalidImage, LayerStore
from layerstore_core.base.digests import ChainID, DiffID
from layerstore_core.records.imagedb import ImageDB
from layerstore_core.store.registration.chain import LayerInput
from tests.images.archives import ImageSpec, docker_archive
from tests.images.make.images_of import WHEN, load, write
from tests.store.layers import BASE, MIDDLE, TOP, chain


@pytest.fixture
def driver() -> str:
    return "vfs"


def leave(store: LayerStore, *tars: bytes) -> list[ChainID]:
    """Register layers to which nothing refers; return them."""
    layers = chain(store, *tars)
    for layer in layers:
        layer.close()
    return [layer.chain_id for layer in layers]


def fail(monkeypatch: pytest.MonkeyPatch) -> None:
    def add(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(ImageDB, "add", add)


def test_create_with_a_config_that_cannot_be_used(store: LayerStore, images: Images) -> None:
    there = leave(store, BASE)
    config = ImageConfig.scratch()
    config.architecture = 5  # type: ignore[assignment]
    with pytest.raises((InvalidImage, ValueError)):
        images.create([there[0], io.BytesIO(MIDDLE)], config, name="x:1")
    assert list(store.layers()) == there


def test_a_load_that_fails_deletes_only_what_it_has_registered(
    store: LayerStore, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = leave(store, BASE)
    archive = docker_archive(ImageSpec([BASE, MIDDLE, TOP], ["a:1"]), ImageSpec([BASE], ["b:1"]))
    fail(monkeypatch)
    with pytest.raises(OSError, match="Input/output"):
        images.load(io.BytesIO(archive))
    assert list(store.layers()) == there


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("how", ["append", "import", "squash", "commit", "rebase", "create"])
def test_a_making_that_fails_leaves_the_layers_of_before(
    store: LayerStore, images: Images, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str, *, known: bool
) -> None:
    load(images, BASE, MIDDLE)
    load(images, BASE, name="old:1")
    load(images, TOP, name="new:1")
    (tmp_path / "file").write_bytes(b"file")
    rw = images.create_rw_layer("work", "base:1")
    write(rw, {"etc/new": b"new"})
    at = ConfigOptions(created=WHEN)
    work: dict[str, Callable[[], object]] = {
        "append": lambda: images.append("base:1", [(tmp_path / "file", "/file")], mtime=0, config=at),
        "import": lambda: images.import_root(io.BytesIO(MIDDLE), config=at),
        "squash": lambda: images.squash("base:1", created=WHEN),
        "commit": lambda: images.commit(rw, None, config=at),
        "rebase": lambda: images.rebase("base:1", "old:1", "new:1", None, created=WHEN),
        "create": lambda: images.create([io.BytesIO(TOP), io.BytesIO(MIDDLE)]),
    }
    if known:
        made = work[how]()
        with store.get(made.chain_id):  # type: ignore[attr-defined]
            images.remove(made.image_id)  # type: ignore[attr-defined]
    before = sorted(store.layers())
    fail(monkeypatch)
    with rw, pytest.raises(OSError, match="Input/output"):
        work[how]()
    assert sorted(store.layers()) == before


def test_a_handle_says_which_layers_its_registration_has_made(store: LayerStore) -> None:
    base = store.register(io.BytesIO(BASE))
    assert base.made == (base.chain_id,)
    with store.register(io.BytesIO(BASE)) as again, store.get(base.chain_id) as got:
        assert (again.made, got.made) == ((), ())
    inputs = [LayerInput(lambda tar=tar: io.BytesIO(tar), DiffID.of(tar), "layer") for tar in (BASE, MIDDLE, TOP)]
    top = store.register_chain(inputs)
    assert len(top.made) == 2
    assert top.made[-1] == top.chain_id
    assert [layer.chain_id for layer in store.release(top, only_made=True)] == [*reversed(top.made)]
    base.close()
    with store.get(base.chain_id) as got:
        assert got.made == ()
    got = store.get(base.chain_id)
    assert store.release(got, only_made=True) == []
    assert list(store.layers()) == [base.chain_id]
