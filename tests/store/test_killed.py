"""A process that is killed at any step: the next process finishes or undoes its work, and loses nothing.

The steps are system calls of the code that writes records, which is the same for all drivers. So each step is tried
with one of the drivers, in turn; with LAYERSTORE_RELIABILITY=1, each step is tried with all.
"""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from layerstore_core import LayerStore
from layerstore_core.maintenance.check import check_store
from layerstore_core.maintenance.gc import collect_garbage
from tests.driver_roots import mounts_below
from tests.in_gate import RUN_DRIVERS
from tests.reliability.thorough import THOROUGH
from tests.store.faults import FaultySystem, around
from tests.store.layers import BASE, MIDDLE, export, names_of, register, tree, warm

BOTH = names_of(BASE, MIDDLE)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed(work: Callable[[], object]) -> bool:
    """Run work in a forked child and return whether it was killed; it must not use the stores of this process."""
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


class Survivor:
    """A store with a layer and a writable layer on it, which must survive when other processes are killed."""

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

    def steps(self) -> Iterator[int]:
        """Yield the numbers of the steps to be tried with the driver."""
        return count() if THOROUGH else count(RUN_DRIVERS.index(self._driver), len(RUN_DRIVERS))

    def kill_at_step(self, work, step):
        """Run work in a child that dies at its system call number `step`; return whether it died."""

        def child():
            with self.open() as store, pytest.MonkeyPatch.context() as patch:
                FaultySystem(patch, step, die)
                work(store)

        return killed(child)

    def kill_in_hook(self, work, hook, **when):
        """Run work in a child, with `before` or `after` of a hook as in `around`; return whether it died."""

        def child():
            with self.open() as store, around(store, hook, **when):
                work(store)

        return killed(child)

    def assert_recovered(self):
        """Check that opening a store and `gc` clean up, and that the layers are as they were."""
        with self.open() as store:
            assert store.load_problems == []
            assert mounts_below(self._root) == []
            collect_garbage(store)
            assert check_store(store, full=True) == []
            assert export(store.get(self.base.chain_id)) == BASE
            assert [str(change) for change in store.get_rw_layer("box").changes()] == ["A /kept"]
        assert tree(self._root) == self.before


@pytest.fixture
def survivor(open_store, store_root, driver):
    return Survivor(open_store, store_root, driver)


def register_another(store):
    layer = store.register(io.BytesIO(MIDDLE), BOTH[0], descriptor={"size": 1})
    store.pin(layer)
    store.unpin(layer.chain_id)


def create_and_delete_rw(store):
    rw = store.create_rw_layer("new", BOTH[0], init=lambda path: Path(path, "init").write_bytes(b"init"))
    with rw.mounted():
        pass
    store.release_rw_layer(rw)


def release_one(store):
    store.release(store.get(BOTH[1]))


def test_killed_at_each_step_of_registering(survivor):
    for step in survivor.steps():
        was_killed = survivor.kill_at_step(register_another, step)
        with survivor.open() as store:
            for layer in store.layers().values():
                assert export(layer) in (BASE, MIDDLE)
            store.unpin(BOTH[1]) if BOTH[1] in store.pins() else None
        survivor.assert_recovered()
        if not was_killed:
            break
    assert step > 10


def test_killed_at_each_step_of_deleting_a_layer(survivor):
    for step in survivor.steps():
        with register(survivor.store, MIDDLE, survivor.base):
            pass
        was_killed = survivor.kill_at_step(release_one, step)
        survivor.assert_recovered()
        if not was_killed:
            break
    assert step > 4


def test_killed_at_each_step_of_creating_and_deleting_a_writable_layer(survivor):
    for step in survivor.steps():
        was_killed = survivor.kill_at_step(create_and_delete_rw, step)
        with survivor.open() as store:
            if "new" in store.rw_layers():  # created already, or not deleted yet: complete in both cases
                rw = store.get_rw_layer("new")
                with rw.mounted() as path:
                    assert Path(path, "init").read_bytes() == b"init"
                store.release_rw_layer(rw)
        survivor.assert_recovered()
        if not was_killed:
            break
    assert step > 15


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("work", "hook"),
    [
        (register_another, "create"),
        (register_another, "apply_diff"),
        (create_and_delete_rw, "create_read_write"),
        (create_and_delete_rw, "get"),
        (create_and_delete_rw, "put"),
        (create_and_delete_rw, "remove"),
    ],
)
def test_killed_in_each_hook(survivor, work, hook, when):
    assert survivor.kill_in_hook(work, hook, **{when: die})
    with survivor.open() as store:
        assert store.rw_layers() == ["box"]
    survivor.assert_recovered()


def test_killed_while_the_driver_removes_a_layer(survivor):
    with register(survivor.store, MIDDLE, survivor.base):
        pass
    assert survivor.kill_in_hook(release_one, "remove", before=die)
    with survivor.open() as store:
        assert set(store.layers()) == {BOTH[0]}
    survivor.assert_recovered()


def test_killed_while_a_layer_is_mounted(survivor, store_root):
    def mount(store):
        rw = store.get_rw_layer("box")
        Path(rw.mount(), "kept").write_bytes(b"kept")
        die()

    assert survivor.kill_in_hook(mount, "status")
    survivor.assert_recovered()


def test_a_registered_layer_survives_a_kill(survivor):
    """The process is killed right after `register` and `pin` have returned."""

    def work(store):
        store.pin(store.register(io.BytesIO(MIDDLE), BOTH[0]))
        die()

    assert survivor.kill_in_hook(work, "status")
    with survivor.open() as store:
        assert export(store.get(BOTH[1])) == MIDDLE
        assert collect_garbage(store) == []
        store.unpin(BOTH[1])
    survivor.assert_recovered()
