"""Layers that the caller mounts by itself, and seals: the fallback, and what core checks and orders."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import pytest

from layerstore_core import DriverContractError, LayerStore, MountSpec, hookimpl
from layerstore_core.driver.bound import BoundDriver
from tests.conftest import OpenStore
from tests.store.drivers import MountingDriver, SmallestDriver, open_with

ID, CHILD = "a" * 64, "b" * 64

#: Answers of a hook `mounts` that no caller could mount.
WRONG_ANSWERS = {
    "no list": MountSpec("bind", "/x", ("ro",)),
    "an empty list": [],
    "tuples": [("bind", "/x", ("ro",))],
    "a relative source": [MountSpec("bind", "x", ("ro",))],
    "no type": [MountSpec("", "/x")],
    "a list of options": [MountSpec("bind", "/x", ["ro"])],  # type: ignore[arg-type]
    "options in one text": [MountSpec("bind", "/x", "ro")],  # type: ignore[arg-type]
    "bytes": [MountSpec("bind", "/x", (b"ro",))],  # type: ignore[arg-type]
}


class Giving(SmallestDriver):
    """A driver with both hooks."""

    @hookimpl
    def mounts(self, layer_id: str, read_only: bool) -> Any:
        return [MountSpec.bind(self.get(layer_id), read_only=read_only)]

    @hookimpl
    def seal(self, layer_id: str) -> Any:
        os.stat(self.home / layer_id)
        return True


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., LayerStore]]:
    """Yield a function that opens a store with a driver, and closes it at the end."""
    stores: list[LayerStore] = []

    def open_one(factory: Any) -> LayerStore:
        stores.append(open_with(factory, tmp_path / "root"))
        return stores[-1]

    yield open_one
    for store in stores:
        store.close()


def calls(store: LayerStore) -> list[str]:
    log = store.driver.home.parent / "mount-log"
    return log.read_text().splitlines() if log.exists() else []


class TestFallback:
    def test_the_layer_stays_mounted_until_that_is_ended(self, opened: Callable[..., LayerStore]) -> None:
        store = opened(MountingDriver)
        driver = store.driver
        driver.create_read_write(ID, "", "", {})
        wanted = [MountSpec("bind", str(driver.home / ID), ("rw", "rbind"))]
        assert not driver.gives_mounts
        assert driver.mounts(ID, read_only=False) == wanted
        with driver.mounted(ID):
            pass
        assert driver.mounts(ID, read_only=True) == [MountSpec("bind", str(driver.home / ID), ("ro", "rbind"))]
        assert calls(store) == [f"get {ID}"]
        store.close()
        store = opened(MountingDriver)
        assert store.driver.mounts(ID, read_only=False) == wanted
        assert calls(store) == [f"get {ID}"], "the mount did not outlive the store"
        assert store.driver.end_kept_mount(ID)
        assert calls(store) == [f"get {ID}", f"put {ID}"]

    def test_removal_ends_the_mount(self, opened: Callable[..., LayerStore]) -> None:
        store = opened(MountingDriver)
        store.driver.create_read_write(ID, "", "", {})
        store.driver.mounts(ID, read_only=False)
        store.driver.remove(ID)
        assert calls(store) == [f"get {ID}", f"put {ID}"]
        assert not store.driver.is_mounted(ID)

    def test_seal_answers_that_the_layer_must_be_copied(self, opened: Callable[..., LayerStore]) -> None:
        store = opened(MountingDriver)
        store.driver.create_read_write(ID, "", "", {})
        store.driver.mounts(ID, read_only=False)
        assert store.driver.seal(ID) is False
        assert calls(store) == [f"get {ID}", f"put {ID}"]

    def test_a_driver_may_leave_single_layers_to_it(self, opened: Callable[..., LayerStore]) -> None:
        class Picky(MountingDriver):
            @hookimpl
            def mounts(self, layer_id: str) -> Any:
                return [MountSpec("tmpfs", "none")] if layer_id == ID else None

        store = opened(Picky)
        for layer_id in (ID, CHILD):
            store.driver.create_read_write(layer_id, "", "", {})
        assert store.driver.gives_mounts
        assert store.driver.mounts(ID, read_only=False) == [MountSpec("tmpfs", "none", ())]
        assert store.driver.mounts(CHILD, read_only=False)[0].type == "bind"
        assert calls(store) == [f"get {CHILD}"]

    def test_a_driver_may_find_out_late_that_it_gives_none(self, opened: Callable[..., LayerStore]) -> None:
        class Late(MountingDriver):
            answers: ClassVar[list[object]] = []

            def gives_mounts(self) -> object:
                return self.answers[0]

            @hookimpl
            def mounts(self) -> Any:
                return None

        Late.answers[:] = [False]
        driver = opened(Late).driver
        assert not driver.gives_mounts
        Late.answers[:] = ["no"]
        assert not driver.gives_mounts, "it was asked twice"


class TestHooks:
    def test_the_driver_answers_and_nothing_is_mounted(self, opened: Callable[..., LayerStore]) -> None:
        driver = opened(Giving).driver
        driver.create_read_write(ID, "", "", {})
        assert driver.gives_mounts
        assert driver.mounts(ID, read_only=True) == [MountSpec("bind", str(driver.home / ID), ("ro", "rbind"))]
        assert not driver.is_mounted(ID)
        assert driver.seal(ID) is True

    def test_a_wrapper_alone_gives_no_mounts(self, tmp_path: Path) -> None:
        class Wrapper:
            @hookimpl(wrapper=True)
            def mounts(self) -> Any:
                return (yield)

        from layerstore_core import StoreConfig
        from layerstore_core.driver.open import bind_driver
        from layerstore_core.locking.root_locks import RootLocks

        locks = RootLocks(tmp_path / "locks")
        config = StoreConfig(root=tmp_path / "root", durability="none")
        try:
            assert not bind_driver(SmallestDriver, "test", config, locks, [("w", Wrapper())]).gives_mounts
            assert bind_driver(Giving, "test", config, locks, [("w", Wrapper())]).gives_mounts
        finally:
            locks.close()

    @pytest.mark.parametrize("name", ["e" * 64, "", "../escape", "A"])
    def test_unknown_layers(self, opened: Callable[..., LayerStore], name: str) -> None:
        driver = opened(Giving).driver
        for call in (
            lambda: driver.mounts(name, read_only=False),
            lambda: driver.mounts(name, read_only=True),
            lambda: driver.seal(name),
        ):
            with pytest.raises(FileNotFoundError):
                call()

    @pytest.mark.parametrize("kind", WRONG_ANSWERS)
    def test_wrong_mounts_are_refused(self, opened: Callable[..., LayerStore], kind: str) -> None:
        class Wrong(SmallestDriver):
            @hookimpl
            def mounts(self) -> Any:
                return WRONG_ANSWERS[kind]

        driver = opened(Wrong).driver
        driver.create(ID, "", {})
        with pytest.raises(
            DriverContractError, match=r"driver test: its hook mounts returned .* not a list of MountSpec"
        ):
            driver.mounts(ID, read_only=True)

    def test_a_seal_that_is_no_answer_is_refused(self, opened: Callable[..., LayerStore]) -> None:
        class Wrong(SmallestDriver):
            @hookimpl
            def seal(self) -> Any:
                return "sealed"

        driver = opened(Wrong).driver
        driver.create(ID, "", {})
        with pytest.raises(DriverContractError, match="its hook seal returned str, not bool"):
            driver.seal(ID)

    def test_a_layer_in_use_is_not_sealed(self, opened: Callable[..., LayerStore]) -> None:
        store, other = opened(Giving), opened(Giving)
        store.driver.create_read_write(ID, "", "", {})
        for user in (store.driver, other.driver):
            with user.mounted(ID), pytest.raises(OSError, match=f"layer {ID} is still mounted by a process") as busy:
                store.driver.seal(ID)
            assert busy.value.errno == errno.EBUSY
        assert store.driver.seal(ID)

    def test_hooks_of_one_layer_are_never_called_at_the_same_time(self, opened: Callable[..., LayerStore]) -> None:
        inside = threading.Semaphore(1)
        clashes: list[str] = []

        def alone(name: str) -> None:
            if not inside.acquire(blocking=False):
                clashes.append(name)
                return
            threading.Event().wait(0.002)
            inside.release()

        class Counting(Giving):
            @hookimpl
            def get(self, layer_id: str) -> str:
                alone("get")
                return str(self.home / layer_id)

            @hookimpl
            def put(self) -> None:
                alone("put")

            @hookimpl
            def mounts(self, layer_id: str, read_only: bool) -> Any:
                alone("mounts")
                return [MountSpec.bind(str(self.home / layer_id), read_only=read_only)]

            @hookimpl
            def seal(self) -> bool:
                alone("seal")
                return True

        stores = [opened(Counting), opened(Counting)]
        stores[0].driver.create_read_write(ID, "", "", {})

        def work(number: int) -> None:
            driver = stores[number % 2].driver
            if number % 3 == 0:
                driver.mounts(ID, read_only=True)
            elif number % 3 == 1:
                with driver.mounted(ID):
                    pass
            else:
                with suppress(OSError):  # another one has it mounted
                    driver.seal(ID)

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(work, range(60)))
        assert not clashes


class TestUsage:
    @pytest.mark.parametrize("answer", [7, (1, 2, 3), (1,), (-1, 0), (0, "1"), (True, 0), [1, 2]])
    def test_wrong_answers_are_refused(self, opened: Callable[..., LayerStore], answer: Any) -> None:
        class Wrong(SmallestDriver):
            @hookimpl
            def usage(self) -> Any:
                return answer

        driver = opened(Wrong).driver
        driver.create(ID, "", {})
        with pytest.raises(DriverContractError, match="driver test: its hook usage returned"):
            driver.usage(ID, "")

    def test_each_inode_counts_once(self, open_store: OpenStore, driver: str) -> None:
        bound = open_store().driver
        base, layer = "c" * 64, "d" * 64
        bound.create_read_write(base, "", "", {})
        try:
            with bound.mounted(base) as path:
                Path(path, "d").mkdir()
                Path(path, "d/old").write_bytes(b"x" * 100)
                Path(path, "gone").write_bytes(b"y" * 1000)
            assert bound.usage(base, "") == (1100, 3)
            bound.create_read_write(layer, base, "", {})
            assert bound.usage(layer, base) == (0, 0)
            with bound.mounted(layer) as path:
                Path(path, "gone").unlink()
                Path(path, "new").write_bytes(b"n" * 50)
                os.link(Path(path, "new"), Path(path, "d/twin"))
                Path(path, "link").symlink_to("new")
                os.mkfifo(Path(path, "fifo"))
            # new with its twin, link, fifo, and d, which has changed
            assert bound.usage(layer, base) == (50, 4)
            assert bound.usage(layer, "") == (150, 5)
        finally:
            for one in (layer, base):
                bound.remove(one)

    def test_an_engines_mount_is_counted_without_another_mount_of_it(self, open_store: OpenStore, driver: str) -> None:
        bound: BoundDriver = open_store().driver
        base, layer = "c" * 64, "d" * 64
        bound.create_read_write(base, "", "", {})
        bound.create_read_write(layer, base, "", {})
        try:
            first = bound.mounts(layer, read_only=False)
            assert bound.usage(layer, base) == (0, 0)
            assert bound.mounts(layer, read_only=False) == first
            assert not bound.is_mounted(layer)
        finally:
            for one in (layer, base):
                bound.remove(one)
