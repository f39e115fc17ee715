"""Layers that are registered together: all or none, and at the same time if the driver supports it."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable
from typing import BinaryIO, cast

import pytest

from layerstore_core import InvalidLayer, LayerDoesNotExist, LayerStore, MaxDepthExceeded
from layerstore_core.base.digests import DiffID
from layerstore_core.base.threads import rest
from layerstore_core.maintenance.check import check_store
from layerstore_core.store.registration.chain import LayerInput
from tests.conftest import OpenStore
from tests.store.layers import BASE, MIDDLE, TOP, export, names_of, register, tar_of, tree, warm


def inputs(*tars: bytes, open_: Callable[[bytes], BinaryIO] = io.BytesIO) -> list[LayerInput]:
    """Return the layers of a chain; `open_` is called with the tar of a layer when it is opened."""
    return [
        LayerInput(lambda tar=tar: open_(tar), DiffID.of(tar), f"layer {number}")  # type: ignore[misc]
        for number, tar in enumerate(tars)
    ]


def test_all_layers_of_a_chain_are_registered(store: LayerStore) -> None:
    with store.register_chain(inputs(BASE, MIDDLE, TOP)) as top:
        assert top.chain_id == names_of(BASE, MIDDLE, TOP)[-1]
        assert sorted(store.layers()) == sorted(names_of(BASE, MIDDLE, TOP))
        for name, tar in zip(names_of(BASE, MIDDLE, TOP), (BASE, MIDDLE, TOP), strict=True):
            with store.get(name) as layer:
                assert export(layer) == tar
        assert check_store(store, full=True) == []
        assert len(store.release(store.get(top.chain_id))) == 0
    assert len(store.release(store.get(top.chain_id))) == 3


def test_known_layers_are_not_read(store: LayerStore) -> None:
    read: list[bytes] = []

    def open_(tar: bytes) -> BinaryIO:
        read.append(tar)
        return io.BytesIO(tar)

    with register(store, BASE):
        top = store.register_chain(inputs(BASE, MIDDLE, TOP, open_=open_))
        assert sorted(read) == sorted([MIDDLE, TOP])
        with store.register_chain(inputs(BASE, MIDDLE, open_=open_)) as middle:
            assert middle.chain_id == names_of(BASE, MIDDLE)[-1]
        assert len(read) == 2
        with store.register_chain(inputs(TOP), top.chain_id) as higher:
            assert higher.chain_id == names_of(BASE, MIDDLE, TOP, TOP)[-1]
    store.release(top)


@pytest.mark.parametrize("bad", [0, 1, 2])
@pytest.mark.parametrize("how", ["other digest", "no tar", "cannot be opened"])
def test_with_one_bad_layer_none_is_registered(store: LayerStore, bad: int, how: str) -> None:
    warm(store)
    rest()
    before, descriptors, threads = tree(store.root), os.listdir("/proc/self/fd"), threading.active_count()
    tars = [BASE, MIDDLE, TOP]

    def open_(tar: bytes) -> BinaryIO:
        if tar is not tars[bad]:
            return io.BytesIO(tar)
        if how == "cannot be opened":
            raise PermissionError(13, "no", "layer")
        return io.BytesIO(b"x" * 2000 if how == "no tar" else tar_of({"else": b""}))

    error = PermissionError if how == "cannot be opened" else InvalidLayer
    with pytest.raises(error, match=f"layer {bad}|no") as caught:
        store.register_chain(inputs(*tars, open_=open_))
    if how == "other digest":
        assert DiffID.of(tars[bad]) in str(caught.value) and DiffID.of(tar_of({"else": b""})) in str(caught.value)
    assert tree(store.root) == before
    assert store.layers() == {}
    assert len(os.listdir("/proc/self/fd")) == len(descriptors)
    rest()
    assert threading.active_count() == threads


@pytest.mark.parametrize("cores", [1, 2, 4])
def test_layers_are_read_at_the_same_time_if_the_driver_supports_it(
    store: LayerStore, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each layer takes two cores, and the number of cores limits how many are read at the same time."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    at_once = store.driver.capabilities.parallel_apply and cores == 4
    together = threading.Barrier(2)
    met: list[bool] = []

    class Meeting(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() == 0:
                try:
                    together.wait(10 if at_once else 0.1)
                    met.append(True)
                except threading.BrokenBarrierError:
                    met.append(False)
            return super().read(size)

    with store.register_chain(inputs(BASE, MIDDLE, open_=Meeting)) as top:
        assert export(top) == MIDDLE
    assert met == [at_once] * 2


def test_reads_that_wait_are_cancelled_when_another_layer_fails(
    store: LayerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The failure that came first is the error, and not what the cancelled read raises."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)))
    if not store.driver.capabilities.parallel_apply:
        return  # one layer after the other: none waits while another one fails
    cancelled = threading.Event()

    class Waiting(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: object, /) -> int:
            assert cancelled.wait(30)
            raise ConnectionAbortedError("cancelled")

    base, top = inputs(BASE, TOP)
    with pytest.raises(InvalidLayer, match="layer 1: this is not a tar"):
        store.register_chain(
            [
                base._replace(open=lambda: cast("BinaryIO", Waiting()), cancel=cancelled.set),
                top._replace(open=lambda: io.BytesIO(b"x" * 1024)),
            ]
        )
    assert cancelled.is_set()
    assert store.layers() == {}


def test_another_store_registers_the_same_layers_meanwhile(open_store: OpenStore) -> None:
    one, other = open_store(), open_store()
    kept = []

    def open_(tar: bytes) -> BinaryIO:
        if tar is MIDDLE and not kept:
            kept.append(other.register_chain(inputs(BASE, MIDDLE)))
        return io.BytesIO(tar)

    with one.register_chain(inputs(BASE, MIDDLE, TOP, open_=open_)) as top:
        assert export(top) == TOP
        assert top.parent is not None and top.parent.cache_id == kept[0].cache_id
    assert check_store(one, full=True) == []
    assert sorted(one.layers()) == sorted(names_of(BASE, MIDDLE, TOP))


def test_an_unknown_parent_and_a_too_long_chain_are_refused(store: LayerStore, open_store: OpenStore) -> None:
    with pytest.raises(LayerDoesNotExist):
        store.register_chain(inputs(BASE), names_of(MIDDLE)[0])
    with pytest.raises(MaxDepthExceeded, match="3 layers"):
        open_store(max_depth=2).register_chain(inputs(BASE, MIDDLE, TOP))
