"""Tests of the group "faults": the process dies inside a hook, or the disk is full from some step of it on."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import pytest

from layerstore_core.conformance.base import ConformanceTests
from layerstore_core.conformance.groups.faults.calls import sampled
from layerstore_core.conformance.groups.lifecycle.layers import raw_get, raw_put
from layerstore_core.conformance.instruments import audit_events, system_calls
from layerstore_core.conformance.instruments.home import Home, measure
from layerstore_core.conformance.instruments.system_calls import Run
from layerstore_core.conformance.processes import Report
from layerstore_core.conformance.rig import DriverRig, stream_of
from layerstore_core.conformance.tars import directory, file, hard_link, tar_of, whiteout
from layerstore_core.conformance.trees import Tree, must_be
from layerstore_core.driver.bound import BoundDriver
from layerstore_core.errors import LayerStoreError

_BASE: Final = [directory(b"d"), file(b"d/one", b"1" * 3000), hard_link(b"d/twin", b"d/one"), file(b"two", b"2")]
_TOP: Final = tar_of([file(b"d/three", b"3" * 3000), whiteout(b"two"), directory(b"e"), file(b"e/four", b"4")])
#: The number of steps of each hook at which the process is killed, without `--conformance-examples`.
_KILLS: Final = 4
_KINDS: Final = {"audit-events": audit_events.stop_at, "system-calls": system_calls.stop_at}


@dataclass(frozen=True, slots=True)
class _Case:
    """A call of one hook.

    Attributes:
        prepare: makes what the call needs. Called with the rig, the base layer and the layer's ID.
        call: the call. Called with the driver, the base layer and the layer's ID.
        keeps: whether the layer has to be the same afterwards. Otherwise it is one that was to come or to go.
    """

    prepare: Callable[[DriverRig, str, str], object]
    call: Callable[[BoundDriver, str, str], object]
    keeps: bool = False


def _nothing(*_: object) -> None:
    """Need no layer."""


def _written(bench: DriverRig, base: str, layer: str) -> None:
    bench.writable(base, layer_id=layer)
    with bench.driver.mounted(layer) as path:
        Path(path, "written").write_bytes(b"w" * 3000)
        Path(path, "d/one").unlink()
        Path(path, "empty").mkdir()


def _mounted(bench: DriverRig, base: str, layer: str) -> None:
    _written(bench, base, layer)
    raw_get(bench, layer)


def _get(driver: BoundDriver, _: str, layer: str) -> None:
    driver.plugins.hook.get(layer_id=layer, mount_label="")


_CASES: Final = {
    "create": _Case(_nothing, lambda driver, base, layer: driver.create(layer, base, {})),
    "create_read_write": _Case(_nothing, lambda driver, base, layer: driver.create_read_write(layer, base, "", {})),
    "apply_diff": _Case(
        lambda bench, base, layer: bench.driver.create(layer, base, {}),
        lambda driver, base, layer: driver.apply_diff(layer, base, stream_of(_TOP)),
    ),
    "get": _Case(_written, _get, keeps=True),
    "put": _Case(_mounted, lambda driver, _, layer: driver.plugins.hook.put(layer_id=layer), keeps=True),
    "seal": _Case(_written, lambda driver, _, layer: driver.seal(layer), keeps=True),
    "remove": _Case(
        lambda bench, base, layer: bench.layer(_TOP, base, layer_id=layer),
        lambda driver, _, layer: driver.remove(layer),
    ),
    "remove-a-writable-layer": _Case(_written, lambda driver, _, layer: driver.remove(layer)),
}


class InsideTests(ConformanceTests):
    """Tests of faults in the middle of a hook."""

    group: ClassVar = "faults"

    @pytest.mark.parametrize("steps", _KINDS)
    @pytest.mark.parametrize("hook", _CASES)
    def test_killed_inside_a_hook(self, bench: DriverRig, hook: str, steps: str) -> None:
        """If the process dies inside a hook, the layer can be used or removed, and then nothing is left.

        Otherwise a crash costs layers, or space that is never freed: `layer_ids` has to name a layer of which a part is
        left, or `cleanup` has to release the part. Some steps are tried; with `--conformance-examples N`, N of them.
        """
        if steps == "system-calls" and (reason := system_calls.why_not()):
            pytest.skip(f"kills at system calls: {reason}")
        scene = _Scene(bench)
        case = _CASES[hook]
        total = scene.run(case, _KINDS[steps], 0).steps
        for at in (1 + number for number in sampled(total, bench.examples or _KILLS)):
            run = scene.run(case, _KINDS[steps], at)
            assert not run.ended.error, run.ended.error
            scene.check(case, f"the process was killed in {hook}, at step {at} of {total} ({run.last})")

    @pytest.mark.parametrize("hook", _CASES)
    def test_the_disk_becomes_full_inside_a_hook(self, bench: DriverRig, hook: str) -> None:
        """If the disk is full from some step of a hook on, the hook succeeds or raises OSError, and leaves nothing.

        Otherwise a full disk damages layers. `create` that raises leaves nothing, and `remove` needs no room: otherwise
        nothing can be removed from a full disk.
        """
        if reason := system_calls.why_not():
            pytest.skip(f"a disk that becomes full inside a hook: {reason}")
        scene = _Scene(bench)
        case = _CASES[hook]
        total = scene.run(case, system_calls.stop_at, 0).steps
        for at in (1 + number for number in sampled(total, bench.examples or _KILLS)):
            run = scene.run(case, system_calls.stop_at, at, errno.ENOSPC)
            assert not run.ended.error, f"on a disk that is full, {hook} failed: {run.ended.error}"
            where = f"the disk was full in {hook}, from step {at} of {total} on ({run.last})"
            raised = [line for line in run.ended.reported if line != "done"]
            assert not raised or not hook.startswith("remove"), f"{where}: it raised {raised[0]}"
            scene.check(case, where, raised=bool(raised) and hook.startswith("create"))


class _Scene:
    """A base layer with a writable child, to which nothing must happen, and the calls of a child process.

    Args:
        bench: the rig.
    """

    def __init__(self, bench: DriverRig) -> None:
        self._bench = bench
        self._base = bench.layer(_BASE)
        self._sibling = bench.writable(self._base)
        self._layer = ""
        # What a driver makes once, it makes now.
        for case in _CASES.values():
            layer = bench.new_id()
            case.prepare(bench, self._base, layer)
            bench.driver.remove(layer)
        self._trees = [bench.tree(self._base), bench.tree(self._sibling)]
        self._before: Tree = {}
        bench.driver.cleanup()
        self._home = self._measure()

    def run(self, case: _Case, stop_at: Callable[..., Run], at: int, code: int = 0) -> Run:
        """Call a hook in a child process, which is stopped at a step. Without a step, remove the layer again."""
        bench = self._bench
        self._layer = layer = bench.new_id()
        case.prepare(bench, self._base, layer)
        self._before = bench.tree(layer) if case.keeps and case.prepare is not _mounted else {}
        bench.close()

        def use(report: Report, begin: Callable[[], None]) -> None:
            driver = bench.open()
            begin()
            try:
                case.call(driver, self._base, layer)
                report("done")
            except (OSError, LayerStoreError) as error:
                report(f"{type(error).__name__}: {error}".replace("\n", " "))

        run = stop_at(use, at, code)
        bench.driver = bench.open()
        if not at:
            assert not run.ended.error and run.ended.reported == ["done"], run.ended.error or run.ended.reported
            bench.driver.remove(layer)
        return run

    def check(self, case: _Case, after: str, *, raised: bool = False) -> None:
        """Check what is left after a fault, remove the layer, and check that nothing is left.

        Args:
            case: the call.
            after: the fault, in words.
            raised: whether a `create` has raised, and so must have removed the layer itself.
        """
        bench, layer = self._bench, self._layer
        if case.keeps:
            self._check_kept(after)
        elif raised:
            assert not bench.driver.exists(layer), f"{after}: it raised, but the layer exists"
            self._nothing_more(f"{after}, and it raised")
        raw_put(bench, layer)
        ids = bench.layer_ids()
        if ids is not None and layer not in ids:
            # The store removes what `layer_ids` names. It does not know of anything else.
            assert not bench.driver.exists(layer), f"{after}: layer_ids does not name the layer, which exists"
            bench.driver.cleanup()
            self._nothing_more(f"{after}: layer_ids does not name the layer, and cleanup has run")
        bench.driver.remove(layer)
        bench.driver.cleanup()
        assert not bench.driver.exists(layer), f"{after}, and the layer was removed: it still exists"
        self._nothing_more(f"{after}, and the layer was removed")
        for of, tree, name in zip(
            (self._base, self._sibling), self._trees, ("the parent", "another layer"), strict=True
        ):
            must_be(bench.tree(of), tree, f"{name}, after {after}")
        bench.driver.create(layer, self._base, {})
        must_be(bench.tree(layer), self._trees[0], f"a new layer of the same ID, after {after}")
        bench.driver.remove(layer)

    def _check_kept(self, after: str) -> None:
        bench, layer = self._bench, self._layer
        assert bench.driver.exists(layer), f"{after}: the layer is lost"
        raw_put(bench, layer)
        found = bench.tree(layer)
        must_be(found, self._before or found, f"the layer, after {after}")
        assert found[b"written"].content.startswith(b"3000 bytes") and b"d/one" not in found, (
            f"{after}: what was written into the layer is lost"
        )
        bench.driver.seal(layer)
        problems: Any = bench.driver.check_layer(layer, self._base)
        assert not problems, f"{after}, and seal: check_layer finds {problems[0]}"
        must_be(bench.tree(layer), found, f"the layer after seal, after {after}")

    def _nothing_more(self, after: str) -> None:
        growth = self._measure().growth_since(self._home)
        assert not growth, f"{after}: the driver's home has more than before: {growth}"
        mounts = self._bench.mounts()
        assert not mounts, f"{after}: still mounted: {mounts}"

    def _measure(self) -> Home:
        return measure(self._bench.driver.home)
