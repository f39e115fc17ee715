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
from typing import ClassVar

import pytest

from layerstore_core.base.digests import DiffID, chain_id
from layerstore_core.conformance.base import ConformanceTests
from layerstore_core.conformance.groups.faults.workload import BASE, OTHER, check_root, use_store
from layerstore_core.conformance.processes import Report, die, in_child
from layerstore_core.conformance.rig import DriverRig
from layerstore_core.conformance.watch import Watch
from layerstore_core.errors import LayerStoreError


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
                    use_store(store, report)
            except (OSError, LayerStoreError) as error:
                report(f"failed {error}")

        for number in sampled(_count_calls(bench, stage), bench.examples):
            reported: list[str] = []
            root = bench.root / f"fail-{number}"
            fail_at(number, root, reported.append)
            check_root(bench, root, reported, f"call {number} had failed {stage} its work")

    @pytest.mark.parametrize("stage", ["before", "after"])
    def test_killed_at_every_call(self, bench: DriverRig, stage: str) -> None:
        """If the process dies at a call of the driver, committed layers stay complete, and `gc` finds the rest.

        Otherwise a power cut costs layers, or space that is never freed. With `--conformance-examples N`, N calls kill.
        """
        calls = _count_calls(bench, stage)
        bench.close()

        def use(number: int, root: Path, report: Report) -> None:
            with bench.store(("faults", Watch(_Countdown(number, stage, lambda _: die()))), root=root) as store:
                use_store(store, report)

        for number in sampled(calls, bench.examples):
            root = bench.root / f"kill-{number}"
            ended = in_child(lambda report, number=number, root=root: use(number, root, report))  # type: ignore[misc]
            assert ended.killed, (
                f"the process should have been killed {stage} call {number}, but: {ended.error or 'it lived on'}"
            )
            check_root(bench, root, ended.reported, f"the process was killed {stage} call {number}")
        bench.driver = bench.open()

    @pytest.mark.parametrize("at", [600, 3000, len(BASE) - 1])
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
                store.pin(store.register(io.BytesIO(OTHER)))
                report(f"layer {chain_id(_digest(OTHER))}")
                store.register(KillingStream(BASE))

        ended = in_child(use)
        assert ended.killed, ended.error
        check_root(bench, bench.root / "kill", ended.reported, f"the process was killed after {at} bytes of a layer")
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
                    use_store(store, report)
                finally:
                    resource.setrlimit(kind, old)

        for value in range(1, 14) if limit == "open-files" else (0, 1, 1000, 2999):
            root = bench.root / f"limit-{value}"
            ended = in_child(lambda report, value=value, root=root: use(value, root, report))  # type: ignore[misc]
            check_root(bench, root, ended.reported, f"the system had refused ({limit}, {value})")
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
    """Return the number of the driver's calls in `use_store` without a fault."""
    count = _Countdown(1 << 30, stage, _fail)
    root = bench.root / "count"
    reported: list[str] = []
    with bench.store(("count", Watch(count)), root=root) as store:
        use_store(store, reported.append)
    check_root(bench, root, reported, "a run without a fault")
    return count.seen


def _digest(tar: bytes) -> DiffID:
    return DiffID.from_hex(hashlib.sha256(tar).hexdigest())
