"""A process that is killed at any step: the next one finishes or undoes what it was doing, and loses nothing."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from layerstore_core import LayerStore
from layerstore_core.maintenance.check import check_store
from layerstore_core.maintenance.gc import collect_garbage
from tests.driver_roots import mounts_below
from tests.store.faults import FaultySystem, around
from tests.store.layers import BASE, MIDDLE, export, names_of, register, tree, warm

BOTH = names_of(BASE, MIDDLE)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed(work: Callable[[], object]) -> bool:
    """Do work in another process; whether it was killed. Nothing of this process's stores is used there."""
    child = os.fork()
    if not child:
        try:
            work()
        except BaseException as error:
            os.write(2, f"the child raised {error!r}\n".encode())
            os._exit(1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 0
    return os.WIFSIGNALED(status)


class Life:
    """A store with a layer and a writable layer on it that must survive whatever happens to others."""

    def __init__(self, open_store, root, driver):
        self._root, self._driver = root, driver
        self.store = open_store()
        warm(self.store)
        self.base = register(self.store, BASE)
        self.box = self.store.create_rw_layer("box", self.base.chain_id)
        with self.box.mounted() as path:
            Path(path, "kept").write_bytes(b"kept")
        self.before = tree(root)

    def open(self):
        return LayerStore.open(root=self._root, driver=self._driver, durability="full")

    def kill_at_step(self, work, step):
        def child():
            with self.open() as store, pytest.MonkeyPatch.context() as patch:
                FaultySystem(patch, step, die)
                work(store)

        return killed(child)

    def kill_in_hook(self, work, hook, **when):
        def child():
            with self.open() as store, around(store, hook, **when):
                work(store)

        return killed(child)

    def assert_recovered(self):
        """Opening has done what is safe; the rest is garbage that is named; what was there is there."""
        with self.open() as store:
            assert store.load_problems == []
            assert mounts_below(self._root) == []
            collect_garbage(store)
            assert check_store(store, full=True) == []
            assert export(store.get(self.base.chain_id)) == BASE
            assert [str(change) for change in store.get_rw_layer("box").changes()] == ["A /kept"]
        assert tree(self._root) == self.before


@pytest.fixture
def life(open_store, store_root, driver):
    return Life(open_store, store_root, driver)


def register_another(store):
    layer = store.register(io.BytesIO(MIDDLE), BOTH[0], descriptor={"size": 1})
    store.pin(layer)
    store.unpin(layer.chain_id)


def make_and_delete_rw(store):
    rw = store.create_rw_layer("new", BOTH[0], init=lambda path: Path(path, "init").write_bytes(b"init"))
    with rw.mounted():
        pass
    store.release_rw_layer(rw)


def release_one(store):
    store.release(store.get(BOTH[1]))


def test_at_each_step_of_registering(life):
    for step in count():
        dead = life.kill_at_step(register_another, step)
        with life.open() as store:
            for layer in store.layers().values():
                assert export(layer) in (BASE, MIDDLE)
            store.unpin(BOTH[1]) if BOTH[1] in store.pins() else None
        life.assert_recovered()
        if not dead:
            break
    assert step > 10


def test_at_each_step_of_deleting_a_layer(life):
    for step in count():
        with register(life.store, MIDDLE, life.base):
            pass
        dead = life.kill_at_step(release_one, step)
        life.assert_recovered()
        if not dead:
            break
    assert step > 4


def test_at_each_step_of_a_writable_layer_s_life(life):
    for step in count():
        dead = life.kill_at_step(make_and_delete_rw, step)
        with life.open() as store:
            if "new" in store.rw_layers():  # it had been made, or was still there: whole, either way
                rw = store.get_rw_layer("new")
                with rw.mounted() as path:
                    assert Path(path, "init").read_bytes() == b"init"
                store.release_rw_layer(rw)
        life.assert_recovered()
        if not dead:
            break
    assert step > 15


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("work", "hook"),
    [
        (register_another, "create"),
        (register_another, "apply_diff"),
        (make_and_delete_rw, "create_read_write"),
        (make_and_delete_rw, "get"),
        (make_and_delete_rw, "put"),
        (make_and_delete_rw, "remove"),
    ],
)
def test_in_each_hook(life, work, hook, when):
    assert life.kill_in_hook(work, hook, **{when: die})
    with life.open() as store:
        assert store.rw_layers() == ["box"]
    life.assert_recovered()


def test_in_the_driver_s_removal_of_a_layer(life):
    with register(life.store, MIDDLE, life.base):
        pass
    assert life.kill_in_hook(release_one, "remove", before=die)
    with life.open() as store:
        assert set(store.layers()) == {BOTH[0]}
    life.assert_recovered()


def test_while_mounted(life, store_root):
    def mount(store):
        rw = store.get_rw_layer("box")
        Path(rw.mount(), "kept").write_bytes(b"kept")
        die()

    assert life.kill_in_hook(mount, "status")
    life.assert_recovered()


def test_what_was_returned_is_not_lost(life):
    """Killed right after the call has returned."""

    def work(store):
        store.pin(store.register(io.BytesIO(MIDDLE), BOTH[0]))
        die()

    assert life.kill_in_hook(work, "status")
    with life.open() as store:
        assert export(store.get(BOTH[1])) == MIDDLE
        assert collect_garbage(store) == []
        store.unpin(BOTH[1])
    life.assert_recovered()
