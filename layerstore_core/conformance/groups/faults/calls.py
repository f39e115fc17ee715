"""Tests of the group "faults": each call of the driver fails in turn, and the process dies at each call in turn."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Final

import pytest

from layerstore_core.base.digests import DiffID, chain_id
from layerstore_core.conformance.base import ConformanceTests
from layerstore_core.conformance.leftovers import mounts_below
from layerstore_core.conformance.processes import Report, die, in_child
from layerstore_core.conformance.rig import DriverRig, read_all
from layerstore_core.conformance.tars import directory, file, tar_of, whiteout
from layerstore_core.conformance.watch import Watch
from layerstore_core.errors import LayerStoreError
from layerstore_core.maintenance.check import check_store
from layerstore_core.maintenance.gc import collect_garbage
from layerstore_core.store.store import LayerStore

_BASE: Final = tar_of([directory(b"d"), file(b"d/one", b"1" * 3000), file(b"d/two", b"2")])
_TOP: Final = tar_of([file(b"d/three", b"3" * 3000), whiteout(b"d/two")])
_OTHER: Final = tar_of([file(b"other", b"o" * 3000)])


class CallTests(ConformanceTests):
    """Tests of faults at the calls of the driver."""

    group: ClassVar = "faults"

    @pytest.mark.parametrize("stage", ["before", "after"])
    def test_every_call_fails(self, bench: DriverRig, stage: str) -> None:
        """If a call of the driver fails, before or after its work, committed layers stay, and nothing else is left.

        Otherwise a full disk costs layers, or space that is never freed. With `--conformance-examples N`, N calls fail.
        """

        def fail_at(number: int, root: Path, report: Report) -> None:
            count = _Countdown(number, stage, _fail)
            try:
                with bench.store(("faults", Watch(count)), root=root) as store:
                    _use_store(store, report)
            except (OSError, LayerStoreError) as error:
                report(f"failed {error}")

        for number in sampled(_count_calls(bench, stage), bench.examples):
            reported: list[str] = []
            root = bench.root / f"fail-{number}"
            fail_at(number, root, reported.append)
            _check(bench, root, reported, f"call {number} had failed {stage} its work")

    @pytest.mark.parametrize("stage", ["before", "after"])
    def test_killed_at_every_call(self, bench: DriverRig, stage: str) -> None:
        """If the process dies at a call of the driver, committed layers stay complete, and `gc` finds the rest.

        Otherwise a power cut costs layers, or space that is never freed. With `--conformance-examples N`, N calls kill.
        """
        calls = _count_calls(bench, stage)
        bench.close()

        def use(number: int, root: Path, report: Report) -> None:
            with bench.store(("faults", Watch(_Countdown(number, stage, lambda _: die()))), root=root) as store:
                _use_store(store, report)

        for number in sampled(calls, bench.examples):
            root = bench.root / f"kill-{number}"
            ended = in_child(lambda report, number=number, root=root: use(number, root, report))  # type: ignore[misc]
            assert ended.killed, (
                f"the process should have been killed {stage} call {number}, but: {ended.error or 'it lived on'}"
            )
            _check(bench, root, ended.reported, f"the process was killed {stage} call {number}")
        bench.driver = bench.open()

    @pytest.mark.parametrize("at", [600, 3000, len(_BASE) - 1])
    def test_killed_while_a_layer_is_applied(self, bench: DriverRig, at: int) -> None:
        """A process that dies in the middle of `apply_diff` leaves no layer, and `gc` finds what it had written.

        Otherwise each interrupted pull takes space forever.
        """
        bench.close()

        class KillingStream(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                if self.tell() >= at:
                    die()
                return super().read(at - self.tell())

        def use(report: Report) -> None:
            with bench.store(root=bench.root / "kill") as store:
                store.pin(store.register(io.BytesIO(_OTHER)))
                report(f"layer {chain_id(_digest(_OTHER))}")
                store.register(KillingStream(_BASE))

        ended = in_child(use)
        assert ended.killed, ended.error
        _check(bench, bench.root / "kill", ended.reported, f"the process was killed after {at} bytes of a layer")
        bench.driver = bench.open()

    @pytest.mark.parametrize("limit", ["open-files", "file-size"])
    def test_system_calls_fail(self, bench: DriverRig, limit: str) -> None:
        """If the system refuses descriptors or file sizes, the caller gets an error, and nothing is left.

        Otherwise a busy machine stores layers that lack files.
        """
        bench.close()

        def use(value: int, root: Path, report: Report) -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            kind = resource.RLIMIT_NOFILE if limit == "open-files" else resource.RLIMIT_FSIZE
            with bench.store(root=root) as store:
                if limit == "open-files":
                    value += max(int(name) for name in os.listdir("/proc/self/fd"))
                old = resource.getrlimit(kind)
                resource.setrlimit(kind, (value, old[1]))
                try:
                    _use_store(store, report)
                finally:
                    resource.setrlimit(kind, old)

        for value in range(1, 14) if limit == "open-files" else (0, 1, 1000, 2999):
            root = bench.root / f"limit-{value}"
            ended = in_child(lambda report, value=value, root=root: use(value, root, report))  # type: ignore[misc]
            _check(bench, root, ended.reported, f"the system had refused ({limit}, {value})")
        bench.driver = bench.open()


def sampled(total: int, wanted: int) -> list[int]:
    """Return so many of the numbers from 0 to `total - 1`, from the first to the last. 0: all of them."""
    if not 0 < wanted < total:
        return list(range(total))
    return sorted({round(number * (total - 1) / max(wanted - 1, 1)) for number in range(wanted)})


class _Countdown:
    """Calls `act` at one call of the driver, counted from 0."""

    def __init__(self, number: int, stage: str, act: Callable[[str], None]) -> None:
        self.left = number
        self._stage = stage
        self._act = act
        self.seen = 0

    def __call__(self, hook: str, stage: str) -> None:
        # Called once and cached. A driver whose `capabilities` fails cannot be used at all.
        if stage != self._stage or hook == "capabilities":
            return
        self.seen += 1
        self.left -= 1
        if self.left == -1:
            self._act(hook)


def _fail(hook: str) -> None:
    raise OSError(errno.EIO, f"injected into {hook}")


def _count_calls(bench: DriverRig, stage: str) -> int:
    """Return the number of the driver's calls in `_use_store` without a fault."""
    count = _Countdown(1 << 30, stage, _fail)
    root = bench.root / "count"
    reported: list[str] = []
    with bench.store(("count", Watch(count)), root=root) as store:
        _use_store(store, reported.append)
    _check(bench, root, reported, "a run without a fault")
    return count.seen


def _use_store(store: LayerStore, report: Report) -> None:
    """Use all that a store can do. Report a line for each operation that has succeeded and must not be lost."""
    base = store.register(io.BytesIO(_BASE))
    store.pin(base)
    report(f"layer {base.chain_id}")
    top = store.register(io.BytesIO(_TOP), base.chain_id)
    store.pin(top)
    report(f"layer {top.chain_id}")
    rw = store.create_rw_layer("work", top.chain_id, init=_init)
    report("writable work")
    with rw.mounted() as path:
        Path(path, "written").write_bytes(b"w" * 3000)
        Path(path, "d/one").unlink()
    report("written work")
    rw.changes()
    rw.size()
    with rw.tar_stream() as stream:
        committed = store.register(stream, top.chain_id)
    store.pin(committed)
    report(f"layer {committed.chain_id}")
    spare = store.create_rw_layer("spare", base.chain_id)
    report("deleting spare")
    store.release_rw_layer(spare)
    report("deleted spare")
    doomed = store.register(io.BytesIO(_OTHER), base.chain_id)
    store.release(doomed)
    report(f"deleted {doomed.chain_id}")
    read_all(top.tar_stream())


def _init(path: str) -> None:
    Path(path, "init").write_bytes(b"by the engine")


def _check(bench: DriverRig, root: Path, reported: list[str], after: str) -> None:
    """Open the root again, collect garbage, and check that all that was reported is there, and nothing else."""
    with bench.store(root=root) as store:
        collect_garbage(store)
        layers = store.layers()
        for line in reported:
            what, _, name = line.partition(" ")
            if what == "layer":
                assert name in layers, f"after {after}: the layer {name} is lost, though its registration had returned"
            elif what == "writable":
                assert name in store.rw_layers(), f"after {after}: the writable layer {name!r} is lost"
            elif what == "written":
                with store.get_rw_layer(name) as rw, rw.mounted() as path:
                    assert Path(path, "written").read_bytes() == b"w" * 3000, f"after {after}: written data are lost"
                    assert not Path(path, "d/one").exists(), f"after {after}: a deleted file is back"
            elif what == "deleted":
                assert name not in layers and name not in store.rw_layers(), f"after {after}: {name} is back"
        # A deletion that has failed may be half done: the record is still there for another attempt.
        deleting = {
            f"writable layer {line.removeprefix('deleting ')!r}" for line in reported if line.startswith("deleting ")
        }
        findings = [finding for finding in check_store(store, full=True) if finding.subject not in deleting]
        assert not findings, f"after {after}, and gc: {findings[0]}"
        _nothing_is_left(store, after)
        mounts = mounts_below(root)
        assert not mounts, f"after {after}: still mounted: {mounts}"
        _remove_all(store)
        _nothing_is_left(store, f"{after}, and all layers were removed")


def _nothing_is_left(store: LayerStore, after: str) -> None:
    """Check that the driver has the layers of the store, those of its writable layers, and nothing else."""
    found = store.driver.layer_ids()
    if found is None:
        return
    wanted = {layer.cache_id for layer in store.layers().values()}
    writable: set[str] = set()
    for name in store.rw_layers():
        record = store.context.db.read_mount(name)
        writable |= {record.mount_id, *([record.init_id] if record.init_id else [])}
    stray, lost = sorted(set(found) - wanted - writable), sorted(wanted - set(found))
    assert not stray, f"after {after}, and gc: the driver still has {stray[0]}, which no record names"
    assert not lost, f"after {after}: the driver does not have {lost[0]}, which a record names"


def _remove_all(store: LayerStore) -> None:
    for name in store.rw_layers():
        store.release_rw_layer(store.get_rw_layer(name))
    for pin in store.pins():
        store.unpin(pin)
    collect_garbage(store)
    assert store.layers() == {}, "layers without a reference are left"


def _digest(tar: bytes) -> DiffID:
    return DiffID.from_hex(hashlib.sha256(tar).hexdigest())
