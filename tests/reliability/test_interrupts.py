"""An exception at any point of an operation: it reaches the caller, nothing is lost or left, and the store works on."""

from __future__ import annotations

import gc
import io
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from layerstore_core import LayerStore, LayerStoreError, StoreConfig
from layerstore_core.base.digests import DiffID
from layerstore_core.base.threads import rest
from layerstore_core.images import Images
from layerstore_core.maintenance.check import check_store, repair
from layerstore_core.maintenance.gc import collect_garbage
from layerstore_core.store.registration.chain import LayerInput
from layerstore_core.tar import scanner
from layerstore_core.unpack import runs
from tests import tars
from tests.child_processes import children
from tests.driver_roots import mounts_below
from tests.images.archives import ImageSpec, docker_archive, sha256
from tests.in_gate import in_gate
from tests.reliability.aftermath import stale_state
from tests.reliability.injector import Injector
from tests.reliability.thorough import SEED, THOROUGH
from tests.store.layers import BASE, MIDDLE, TOP, tar_of

#: The number of points of each operation that are tried, 0 for all. There are thousands.
_POINTS = 0 if THOROUGH else 3
_MANY = tar_of({"d": None, "d/e": None, **{f"d/e/{number}": b"%d" % number * 50 for number in range(60)}})
#: It replaces and removes files of its own, whose contents are saved.
_LOSING = tars.tar(
    tars.directory(b"l"),
    *(tars.entry(b"l/%d" % number, b"%d" % number * 50) for number in range(9)),
    tars.entry(b"l/3", b"x"),
    tars.entry(b".wh.l"),
)


class Timeout(Exception):
    """An exception that a program's handler of SIGALRM may raise."""


#: No `OSError`: the store would treat it as an error of the file in use.
ERRORS: tuple[type[BaseException], ...] = (KeyboardInterrupt, Timeout, MemoryError)


class Place:
    """A store in which operations are interrupted again and again, and the files for the operations."""

    def __init__(self, config: StoreConfig, work: Path) -> None:
        self.config = config
        self.work = work
        for name, tar in (("base", BASE), ("middle", MIDDLE), ("top", TOP), ("many", _MANY)):
            (work / name).write_bytes(tar)
        (work / "image").write_bytes(docker_archive(ImageSpec([BASE, MIDDLE], names=["demo:1"])))
        (work / "other").write_bytes(docker_archive(ImageSpec([BASE, _MANY], names=["other:1"])))
        with self.open() as store:
            with store.register(work / "base") as layer:
                self.base = layer.chain_id
                store.pin(layer)
            with store.create_rw_layer("box", self.base) as box, box.mounted() as path:
                Path(path, "new").mkdir()
                for number in range(20):
                    Path(path, "new", str(number)).write_text("text")
            Images(store).load(work / "image")

    def open(self) -> LayerStore:
        return LayerStore.open(self.config)


def register(store: LayerStore, place: Place) -> None:
    store.register(place.work / "many", place.base).close()


def register_pipe(store: LayerStore, place: Place) -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    store.register(Pipe(_LOSING), place.base).close()


def register_chain(store: LayerStore, place: Place) -> None:
    tars = [BASE, MIDDLE, TOP, _MANY]
    layers = [
        LayerInput(lambda tar=tar: io.BytesIO(tar), DiffID(sha256(tar)), "layer")  # type: ignore[misc]
        for tar in tars
    ]
    store.register_chain(layers).close()


def export(store: LayerStore, place: Place) -> None:
    with store.get(place.base) as layer, layer.tar_stream() as stream:
        assert stream.read() == BASE


def copy_out(store: LayerStore, place: Place) -> None:
    with store.get(place.base) as layer:
        layer.copy_tar(lambda chunk: None, in_thread=True)


def commit(store: LayerStore, place: Place) -> None:
    with store.get_rw_layer("box") as box, box.tar_stream() as stream:
        store.register(stream, place.base).close()


def changes(store: LayerStore, place: Place) -> None:
    with store.get_rw_layer("box") as box:
        assert box.changes()


def make_writable(store: LayerStore, place: Place) -> None:
    def init(path: str) -> None:
        Path(path, "hosts").write_text("x")

    with suppress(LayerStoreError):
        store.release_rw_layer(store.get_rw_layer("new"))
    if "new" not in store.rw_layers():  # a handle that was lost to the exception may keep the layer
        store.create_rw_layer("new", place.base, init=init).close()
    with store.get_rw_layer("new") as new, new.mounted() as path:
        os.listdir(path)
        new.apply_diff(place.work / "middle")


def remove_writable(store: LayerStore, place: Place) -> None:
    with suppress(LayerStoreError):
        store.create_rw_layer("old", place.base).close()
    with store.get_rw_layer("old") as old:
        store.release_rw_layer(old)


def delete(store: LayerStore, place: Place) -> None:
    store.release(store.register(place.work / "top"))


def load(store: LayerStore, place: Place) -> None:
    Images(store).load(place.work / "other")
    Images(store).remove("other:1")


def save(store: LayerStore, place: Place) -> None:
    Images(store).save(["demo:1"], place.work / "saved")
    (place.work / "saved").unlink()


def collect(store: LayerStore, place: Place) -> None:
    register(store, place)
    collect_garbage(store)


def check(store: LayerStore, place: Place) -> None:
    assert not check_store(store, full=True)


def repair_store(store: LayerStore, place: Place) -> None:
    missing = "sha256:" + "ab" * 32
    pins = store.root / "layerstore" / "pins" / store.driver_name
    (pins / missing.partition(":")[2]).touch()
    assert not repair(store, check_store(store))


def open_again(store: LayerStore, place: Place) -> None:
    with place.open() as other:
        other.layers()


OPERATIONS = (
    register,
    register_pipe,
    register_chain,
    export,
    copy_out,
    commit,
    changes,
    make_writable,
    remove_writable,
    delete,
    load,
    save,
    collect,
    check,
    repair_store,
    open_again,
)


@pytest.fixture
def place(driver: str, store_root: Path, tmp_path: Path) -> Place:
    work = tmp_path / "work"
    work.mkdir()
    # Each test runs the collector ten times. What the tests before have left alive need not be walked each time.
    gc.collect()
    gc.freeze()
    return Place(StoreConfig(root=store_root, driver=driver, durability="none"), work)


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Fail if the `with` block takes longer than some seconds."""

    def handler(*_: object) -> None:
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, handler)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def opened() -> dict[str, str]:
    """Return the open descriptors, and the files that they refer to."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the descriptor of the listing itself
            found[name] = os.readlink(f"/proc/self/fd/{name}")
    return found


def interrupt(
    place: Place, operation: Callable[[LayerStore, Place], None], injector: Injector, error: type[BaseException]
) -> list[str]:
    """Do an operation with an exception, then again without one. Return descriptions of what is wrong afterwards."""
    wrong: list[str] = []
    rest()
    before, threads, processes = opened(), threading.active_count(), children()
    with place.open() as store:
        try:
            with time_limit(30), injector.tracing():
                operation(store, place)
        except BaseException as found:
            # An error while a driver starts becomes the cause of a `DriverContractError`.
            if injector.where and error not in (type(found), type(found.__cause__)):
                wrong.append(f"{found!r} reached the caller instead")
            if not injector.where:
                raise
        gc.collect()
        with time_limit(30):
            operation(store, place)
            with suppress(LayerStoreError):
                store.release_rw_layer(store.get_rw_layer("new"))
            (place.work / "saved").unlink(missing_ok=True)
    gc.collect()
    with time_limit(60), place.open() as store:
        for name in {"new", "old"} & set(store.rw_layers()):  # the handle was lost to the exception
            store.release_rw_layer(store.get_rw_layer(name))
        collect_garbage(store)
        wrong += map(str, check_store(store, full=True))
        wrong += stale_state(store)
        assert store.has_layer(place.base)
    wrong += [f"{mount} is mounted" for mount in mounts_below(place.config.root)]
    wrong += [f"descriptor {number} is open: {name}" for number, name in opened().items() - before.items()]
    rest()
    if threading.active_count() != threads:
        wrong.append(f"threads are left: {threading.enumerate()}")
    if children() - processes:
        wrong.append("a process is left")
    return wrong


@pytest.fixture
def small_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give threads small layers in several pieces."""
    monkeypatch.setattr(scanner, "_RUN_ENTRIES", 3)
    monkeypatch.setattr(runs, "_MAX_DIRECTORIES", 2)


# A file that was not closed because of the exception closes itself, with a warning.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.timeout(14400 if THOROUGH else 300)
@pytest.mark.parametrize("driver", in_gate("overlay2"), indirect=True)
@pytest.mark.parametrize("operation", OPERATIONS, ids=[operation.__name__ for operation in OPERATIONS])
@pytest.mark.usefixtures("small_jobs")
def test_an_exception_at_any_point(place: Place, operation: Callable[[LayerStore, Place], None], driver: str) -> None:
    counting = Injector()
    with place.open() as store:
        operation(store, place)  # what is done only the first time is not counted
        with suppress(LayerStoreError):
            store.release_rw_layer(store.get_rw_layer("new"))
        with counting.tracing():
            operation(store, place)
        with suppress(LayerStoreError):
            store.release_rw_layer(store.get_rw_layer("new"))
        collect_garbage(store)
    first: dict[object, int] = {}
    for number, point in enumerate(counting.points, 1):
        first.setdefault(point, number)
    chance = random.Random(f"{SEED} {driver} {operation.__name__}")
    numbers = list(first.values())
    chosen = chance.sample(numbers, _POINTS) if _POINTS and len(numbers) > _POINTS else numbers
    wrong = []
    for number in sorted(chosen):
        error = chance.choice(ERRORS)
        injector = Injector(number, error)
        found = interrupt(place, operation, injector, error)
        wrong += [f"{error.__name__} at point {number}, {injector.where}: {what}" for what in found]
    assert not wrong, "\n".join(wrong)
