"""What a driver's context gives while the driver is bound: counted mounts of other layers, and locks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from layerstore_core import DriverContext, DriverContractError, LayerStoreError, StoreConfig, hookimpl
from layerstore_core.conformance.rig import DriverRig
from layerstore_core.driver import registry
from layerstore_core.sdk import BoundDriver, open_driver
from tests.store.drivers import SmallestDriver, open_with

ONE, TWO = "1" * 64, "2" * 64


class AskingDriver(SmallestDriver):
    """A driver that logs its mounts, and has a function called in some hooks."""

    def __init__(self, context: DriverContext) -> None:
        super().__init__(context)
        self.context = context
        self.log: list[str] = []
        self.in_get: Callable[[str], object] = lambda _: None
        self.in_metadata: Callable[[str], object] = lambda _: None
        latest.append(self)

    @hookimpl
    def get(self, layer_id: str) -> str:
        self.in_get(layer_id)
        self.log.append(f"get {layer_id[0]}")
        return super().get(layer_id)

    @hookimpl
    def put(self, layer_id: str) -> None:
        self.log.append(f"put {layer_id[0]}")

    @hookimpl
    def metadata(self, layer_id: str) -> dict[str, str]:
        self.in_metadata(layer_id)
        return {}


latest: list[AskingDriver] = []


@contextmanager
def in_a_store(root: Path) -> Iterator[BoundDriver]:
    with open_with(AskingDriver, root) as store:
        yield store.driver


@contextmanager
def standalone(root: Path) -> Iterator[BoundDriver]:
    with open_driver(StoreConfig(root=root, driver="test")) as driver:
        yield driver


@contextmanager
def in_the_kit(root: Path) -> Iterator[BoundDriver]:
    rig = DriverRig("test", AskingDriver, {}, root)
    try:
        yield rig.driver
    finally:
        rig.close()


@pytest.fixture(params=[in_a_store, standalone, in_the_kit])
def opened(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BoundDriver]:
    """A bound driver with the layers ONE and its child TWO."""
    monkeypatch.setattr(registry, "load_driver", lambda name: AskingDriver)
    with request.param(tmp_path / "root") as driver:
        driver.create(ONE, "", {})
        driver.create(TWO, ONE, {})
        yield driver
    latest.clear()


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[BoundDriver]:
    with in_a_store(tmp_path / "root") as driver:
        driver.create(ONE, "", {})
        driver.create(TWO, ONE, {})
        yield driver
    latest.clear()


@pytest.mark.parametrize("use", [lambda context: context.mounted(ONE), lambda context: context.lock("pool")])
def test_a_driver_that_is_not_bound_gets_an_error(use: Callable[[DriverContext], object], tmp_path: Path) -> None:
    def in_constructor(context: DriverContext) -> object:
        with use(context):  # type: ignore[attr-defined]
            return AskingDriver(context)

    with pytest.raises(DriverContractError, match=r"hooks.*not in its constructor, not in probe"):
        open_with(in_constructor, tmp_path / "root")
    with in_a_store(tmp_path / "root"):
        context = latest.pop().context
    with pytest.raises(DriverContractError, match="not after the store is closed"), use(context):  # type: ignore[attr-defined]
        pass


def test_the_mount_of_a_parent_is_counted(opened: BoundDriver) -> None:
    asking = latest[-1]

    def look(_: str) -> None:
        with asking.context.mounted(ONE) as path, asking.context.mounted(ONE):
            assert path == str(asking.home / ONE)

    asking.in_metadata = look
    with opened.mounted(ONE):
        opened.metadata(TWO)
        assert asking.log == ["get 1"]
        assert opened.is_used(ONE)
    assert asking.log == ["get 1", "put 1"]
    opened.metadata(TWO)
    assert asking.log == ["get 1", "put 1"] * 2


def test_a_layer_may_mount_its_parent_when_it_is_mounted(opened: BoundDriver) -> None:
    asking = latest[-1]

    def look(layer_id: str) -> None:
        if layer_id == TWO:
            with asking.context.mounted(ONE):
                pass

    asking.in_get = look
    with opened.mounted(TWO):
        assert asking.log == ["get 1", "put 1", "get 2"]


def test_a_layer_that_mounts_itself_gets_an_error(opened: BoundDriver) -> None:
    asking = latest[-1]

    def look(layer_id: str) -> None:
        with asking.context.mounted(layer_id):
            raise AssertionError

    asking.in_get = look
    with pytest.raises(DriverContractError, match=f"layer {ONE} asks for a mount of the same layer"):
        opened.get(ONE)
    assert not opened.is_mounted(ONE)


def test_a_mount_of_an_unknown_layer(driver: BoundDriver) -> None:
    for unknown in ("3" * 64, "../elsewhere"):
        with pytest.raises(FileNotFoundError), latest[-1].context.mounted(unknown):
            pass


def test_a_lock_excludes_threads_and_other_stores(tmp_path: Path) -> None:
    inside: list[int] = []
    most: list[int] = []
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(in_a_store(tmp_path / "root"))
        contexts = [one.context for one in latest]
        latest.clear()

        def work(number: int) -> None:
            for _ in range(20):
                with contexts[number % 2].lock("pool"), contexts[number % 2].lock("pool"):
                    inside.append(number)
                    most.append(len(inside))
                    inside.remove(number)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert set(most) == {1}
    assert len(most) == 80


def test_a_lock_that_is_taken_again_ends_with_the_outer_block(opened: BoundDriver) -> None:
    context = latest[-1].context
    free = threading.Event()

    def wait() -> None:
        with context.lock("pool"):
            free.set()

    with context.lock("pool"):
        with context.lock("pool"):
            pass
        thread = threading.Thread(target=wait)
        thread.start()
        assert not free.wait(0.1)
    thread.join()
    assert free.is_set()


def test_locks_out_of_order_and_mounts_in_a_lock_are_refused(driver: BoundDriver) -> None:
    context = latest[-1].context
    with context.lock("a"), context.lock("b"):
        with context.lock("a"):
            pass
        with pytest.raises(DriverContractError, match=r"lock\('aa'\) is used in a block of context.lock\('b'\)"):
            context.lock("aa").__enter__()
        with pytest.raises(DriverContractError, match=r"mount first, and lock in the block of the mount"):
            context.mounted(ONE).__enter__()
    with context.lock("aa"):
        pass
    with context.mounted(ONE), context.lock("a"):
        pass
    for name in ("", None):
        with pytest.raises(DriverContractError, match="named by a text"):
            context.lock(name).__enter__()  # type: ignore[arg-type]


def test_a_lock_is_of_one_driver_alone(tmp_path: Path) -> None:
    class Other(AskingDriver):
        driver_name = "other"

    with in_a_store(tmp_path / "root"), open_with(Other, tmp_path / "root"):
        first, second = (one.context for one in latest)
        with first.lock("pool"), second.lock("pool"):
            pass
    latest.clear()


def test_a_forked_child_gets_an_error(driver: BoundDriver) -> None:
    context = latest[-1].context
    child = os.fork()
    if not child:
        try:
            with context.lock("pool"):
                os._exit(1)
        except LayerStoreError:
            os._exit(0)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0


LOCKING = """
import sys, time
from pathlib import Path
from tests.driver.test_context import in_a_store, latest
with in_a_store(Path(sys.argv[1])):
    with latest[-1].context.lock("pool"):
        print("locked", flush=True)
        time.sleep(60)
"""


def start_locking(root: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", LOCKING, str(root)], stdout=subprocess.PIPE, text=True)


def test_the_lock_of_a_killed_process_ends(tmp_path: Path) -> None:
    root = tmp_path / "root"
    first = start_locking(root)
    assert first.stdout is not None
    assert first.stdout.readline() == "locked\n"
    locked = threading.Event()

    def wait() -> None:
        with latest[-1].context.lock("pool"):
            locked.set()

    with in_a_store(root):
        thread = threading.Thread(target=wait)
        thread.start()
        try:
            assert not locked.wait(0.2), "another process has the lock"
        finally:
            first.send_signal(signal.SIGKILL)
            first.communicate()
            thread.join()
        assert locked.is_set()
    latest.clear()


def test_the_context_in_a_store_that_is_only_read(tmp_path: Path) -> None:
    with in_a_store(tmp_path / "root") as driver:
        driver.create(ONE, "", {})
    from layerstore_core.driver.open import bind_driver
    from layerstore_core.locking.root_locks import RootLocks

    locks = RootLocks(tmp_path / "root/layerstore/locks", read_only=True)
    driver = bind_driver(AskingDriver, "test", StoreConfig(root=tmp_path / "root"), locks)
    context = latest[-1].context
    assert context.read_only
    with context.lock("pool"), context.lock("pool"):
        pass
    with context.mounted(ONE) as path, context.lock("pool"):
        assert path == driver.get(ONE)
    driver.close()
    locks.close()
    latest.clear()
