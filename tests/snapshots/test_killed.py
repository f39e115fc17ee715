"""An owner that is killed at any step of any call: the call was made or was not, and nothing is left of it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from layerstore_core import LayerStore, Snapshot, SnapshotExists, Snapshots, check_store, collect_garbage
from layerstore_core.driver.bound import BoundDriver
from layerstore_core.records.snapshots.journal import SnapshotJournal
from layerstore_core.snapshots.flushes import JoinedFlushes
from tests.reliability.thorough import THOROUGH
from tests.snapshots.mounting import files_in, write
from tests.snapshots.test_interrupted import ListingDriver
from tests.store.drivers import open_with
from tests.store.layers import names_of, register, tar_of

REF = "containerd.io/snapshot.ref"
DRIVERS = ("vfs", "overlay2", "copying")

#: All that a call does to the disk, each of which is a step.
STEPS = [
    *((BoundDriver, name) for name in ("create", "create_read_write", "mounts", "seal", "usage", "remove")),
    *((BoundDriver, name) for name in ("diff", "apply_diff")),
    (SnapshotJournal, "write"),
    (JoinedFlushes, "_flush"),
]


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> str:
    if request.param == "overlay2" and os.geteuid():
        pytest.skip("overlay2 needs root")
    return request.param


@pytest.fixture
def open_root(driver: str, store_root):
    """Return a function that opens the store as another process would."""

    def open_() -> LayerStore:
        if driver == "copying":
            return open_with(ListingDriver, store_root)
        return LayerStore.open(root=store_root, driver=driver, durability="none")

    return open_


def die_at(step: int, patch: pytest.MonkeyPatch) -> None:
    """Have this process killed before, or after, the step of a number: an even one is before, an odd one after."""
    steps = count()

    def wrapped(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            before, after = next(steps), next(steps)
            if before == step:
                os.kill(os.getpid(), signal.SIGKILL)
            result = original(*args, **named)
            if after == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call

    for kind, name in STEPS:
        patch.setattr(kind, name, wrapped(getattr(kind, name)))


def killed_at(step: int, open_root: Callable[[], LayerStore], call: Callable[[Snapshots], object]) -> bool:
    """Make a call in a child that is killed at a step; return whether it came so far."""
    child = os.fork()
    if not child:
        try:
            with open_root() as store, Snapshots(store) as snapshots, pytest.MonkeyPatch.context() as patch:
                die_at(step, patch)
                call(snapshots)
        except BaseException as error:
            os.write(2, f"the child raised {error!r}\n".encode())
            os._exit(1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 0
    return os.WIFSIGNALED(status)


def state(snapshots: Snapshots, number: int) -> dict[str, Any]:
    """Return the snapshots of a step, and those that are layers of the store."""

    def of(snapshot: Snapshot) -> tuple[Any, ...]:
        return snapshot.kind, snapshot.parent, dict(snapshot.labels), snapshot.chain_id

    # The key of a snapshot of a layer of the store is made up.
    found = {snapshot.chain_id or snapshot.key: of(snapshot) for snapshot in snapshots.walk()}
    return {key: what for key, what in found.items() if key.endswith(f" {number}") or what[3]}


def tar_of_step(number: int) -> bytes:
    return tar_of({"file": b"%d" % number})


def offer(snapshots: Snapshots, layer: str) -> None:
    with suppress(SnapshotExists):
        snapshots.prepare("extract", "", {REF: layer})


#: The calls, each with keys that end with a number.
CALLS: dict[str, Callable[[Snapshots, int], object]] = {
    "prepare": lambda snapshots, number: snapshots.prepare(f"new {number}", "one", {"a": "b"}),
    "view": lambda snapshots, number: snapshots.view(f"new {number}", "one"),
    "view of nothing": lambda snapshots, number: snapshots.view(f"new {number}"),
    "commit": lambda snapshots, number: snapshots.commit(f"new {number}", f"box {number}", {"c": "d"}),
    "remove": lambda snapshots, number: snapshots.remove(f"box {number}"),
    "update": lambda snapshots, number: snapshots.update(f"box {number}", {"e": "f"}),
    "offer": lambda snapshots, number: offer(snapshots, names_of(tar_of_step(number))[0]),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_call_was_made_or_was_not(call, open_root, driver):
    """In the short form a third of the steps with each driver, in the thorough form all."""
    with open_root() as store, Snapshots(store) as snapshots:
        write(snapshots.prepare("x"), {"a": b"a"})
        snapshots.commit("one", "x")
        write(snapshots.prepare("kept", "one"), {"b": b"b"})
    seen = set()
    for step in count(0 if THOROUGH else DRIVERS.index(driver), 1 if THOROUGH else len(DRIVERS)):
        with open_root() as store, Snapshots(store) as snapshots:
            write(snapshots.prepare(f"box {step}", "one", {"k": "v"}), {"b": b"b"})
            if call == "offer":
                store.pin(register(store, tar_of_step(step)))
            before = state(snapshots, step)
        if not killed_at(step, open_root, partial(CALLS[call], number=step)):
            break
        with open_root() as store:
            if step % 2:  # gc does what the next owner would do
                collect_garbage(store)
                assert check_store(store) == []
            with Snapshots(store) as snapshots:
                after = state(snapshots, step)
                seen.add(after == before)
                rows = store.context.snapshots.rows()
                assert {row.state for row in rows} == {"ready"}
                own = sorted(row.driver_id for row in rows if row.has_own_layer)
                assert sorted(one for one in store.driver.layer_ids() or () if one.endswith("-snapshot")) == own
                if after == before:
                    CALLS[call](snapshots, step)  # it can be made again, also after the layer was sealed
                    assert state(snapshots, step) != before
                if f"new {step}" in after and call == "commit":
                    snapshots.view(f"look {step}", f"new {step}")
                    assert content_of(snapshots, f"look {step}") == {"a": b"a", "b": b"b"}
                assert content_of(snapshots, "kept") == {"a": b"a", "b": b"b"}
                assert check_store(store) == []
    if THOROUGH:
        assert seen == {True, False}
    assert seen or call in ("update", "offer")  # which have two steps


def content_of(snapshots: Snapshots, key: str) -> dict[str, bytes]:
    """Return the files of a snapshot; a bind mount is its source, so that this needs no root."""
    (spec,) = specs = snapshots.mounts(key)
    if spec.type != "bind":
        return files_in(specs)
    return {path.name: path.read_bytes() for path in Path(spec.source).iterdir()}
