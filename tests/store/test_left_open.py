"""Stores that the program does not close, and copies of stores in forked children."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from layerstore_core import Layer, LayerStore, LayerStoreError, RWLayer
from layerstore_core.base.threads import rest
from tests import tars

TAR = tars.tar(tars.entry(b"f", b"content"))


def opened(root: Path) -> LayerStore:
    return LayerStore.open(root=root, driver="vfs", durability="none")


@pytest.fixture
def tar(tmp_path: Path) -> Path:
    path = tmp_path / "layer.tar"
    path.write_bytes(TAR)
    return path


def test_a_store_that_was_not_closed_is_closed_by_the_garbage_collector(tmp_path: Path, tar: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    store = opened(tmp_path / "root")
    layer = store.register(tar)
    rw = store.create_rw_layer("box", layer.chain_id)
    rw.mount()
    chain = layer.chain_id
    del store, layer, rw
    with pytest.warns(ResourceWarning, match="never closed"):
        gc.collect()
    assert set(os.listdir("/proc/self/fd")) == before
    assert not list((tmp_path / "root/layerstore/mounts/vfs").iterdir())
    with opened(tmp_path / "root") as other, other.get_rw_layer("box") as box:
        assert [gone.chain_id for gone in other.release_rw_layer(box)] == [chain]


def test_a_closed_store_is_collected_without_a_warning(tmp_path: Path, tar: Path) -> None:
    with opened(tmp_path / "root") as store:
        store.register(tar)
    del store
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gc.collect()


def test_a_stream_that_was_not_closed_ends_its_threads(tmp_path: Path, tar: Path) -> None:
    rest()
    before, threads = set(os.listdir("/proc/self/fd")), threading.active_count()
    with opened(tmp_path / "root") as store:
        store.register(tar).tar_stream().read(1)
    gc.collect()
    assert set(os.listdir("/proc/self/fd")) == before
    rest()
    assert threading.active_count() == threads


#: Operations that are refused in a forked child.
OPERATIONS: dict[str, Callable[[LayerStore, Layer, RWLayer, Path], object]] = {
    "get": lambda store, layer, rw, tar: store.get(layer.chain_id),
    "register": lambda store, layer, rw, tar: store.register(tar),
    "layers": lambda store, layer, rw, tar: store.layers(),
    "release": lambda store, layer, rw, tar: store.release(layer),
    "pin": lambda store, layer, rw, tar: store.pin(layer),
    "pins": lambda store, layer, rw, tar: store.pins(),
    "holders": lambda store, layer, rw, tar: store.holders(layer.chain_id),
    "problems": lambda store, layer, rw, tar: store.load_problems,
    "cleanup": lambda store, layer, rw, tar: store.cleanup(),
    "create a writable layer": lambda store, layer, rw, tar: store.create_rw_layer("new"),
    "get a writable layer": lambda store, layer, rw, tar: store.get_rw_layer("box"),
    "release a writable layer": lambda store, layer, rw, tar: store.release_rw_layer(rw),
    "change images": lambda store, layer, rw, tar: store.context.changing_images().__enter__(),
    "export": lambda store, layer, rw, tar: layer.tar_stream(),
    "mount": lambda store, layer, rw, tar: rw.mount(),
    "unmount": lambda store, layer, rw, tar: rw.unmount(),
    "changes": lambda store, layer, rw, tar: rw.changes(),
    "unpack": lambda store, layer, rw, tar: rw.apply_diff(tar),
}
#: Operations that a forked child may call: they do nothing and raise no error.
QUIET: dict[str, Callable[[LayerStore, Layer, RWLayer], object]] = {
    "the store": lambda store, layer, rw: store.close(),
    "a store's block": lambda store, layer, rw: store.__exit__(None, None, None),
    "a layer": lambda store, layer, rw: layer.close(),
    "a writable layer": lambda store, layer, rw: rw.close(),
}


def in_child(action: Callable[[], bool]) -> None:
    """Run an action in a forked child, for at most 10 seconds, and check that it returns true."""
    if not (child := os.fork()):
        signal.alarm(10)
        try:
            os._exit(0 if action() else 1)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def with_all_mutexes(store: LayerStore) -> threading.Thread:
    """Start a thread that holds all mutexes of the store, like a thread that is at work while the program forks."""
    taken, done = threading.Event(), threading.Event()

    def take() -> None:
        with store.context.catalog.lock, store.context.locks._mutex:
            taken.set()
            done.wait()

    thread = threading.Thread(target=take)
    thread.start()
    taken.wait()
    thread.done = done  # type: ignore[attr-defined]
    return thread


@pytest.mark.parametrize("name", [*OPERATIONS, *QUIET])
def test_a_forked_child_cannot_use_the_store_of_its_parent(name: str, tmp_path: Path, tar: Path) -> None:
    with opened(tmp_path / "root") as store:
        layer, rw = store.register(tar), store.create_rw_layer("box")
        rw.mount()
        thread = with_all_mutexes(store)

        def act() -> bool:
            if name in QUIET:
                QUIET[name](store, layer, rw)
                return True
            try:
                OPERATIONS[name](store, layer, rw, tar)
            except LayerStoreError as error:
                return "open it again in the child" in str(error)
            return False

        try:
            in_child(act)
        finally:
            thread.done.set()  # type: ignore[attr-defined]
            thread.join()
        store.release(layer)
        rw.unmount()
        store.release_rw_layer(rw)


def test_a_forked_child_cannot_read_a_stream_of_its_parent(tmp_path: Path, tar: Path) -> None:
    with opened(tmp_path / "root") as store, store.register(tar).tar_stream() as stream:
        stream.raw.read(1)  # type: ignore[attr-defined]

        def act() -> bool:
            try:
                stream.read()
            except LayerStoreError as error:
                stream.close()
                return "again in the child" in str(error)
            return False

        in_child(act)
        assert len(stream.read()) == len(TAR) - 1


def test_a_forked_child_can_open_the_store_again(tmp_path: Path, tar: Path) -> None:
    with opened(tmp_path / "root") as store:
        layer = store.register(tar)

        def act() -> bool:
            with opened(tmp_path / "root") as mine, mine.get(layer.chain_id) as found:
                return found.tar_stream().read() == TAR

        in_child(act)


def test_with_blocks_end_without_error_in_a_forked_child(tmp_path: Path) -> None:
    with opened(tmp_path / "root") as store, store.create_rw_layer("box") as rw:
        child = -1
        try:
            with store.context.changing_images(), rw.mounted():
                thread = with_all_mutexes(store)
                if child := os.fork():
                    thread.done.set()  # type: ignore[attr-defined]
                else:
                    signal.alarm(10)
        finally:
            if not child:
                os._exit(0 if sys.exception() is None else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        thread.join()
