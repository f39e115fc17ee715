"""Group "speed": the time of each step of a layer's life, and its growth. Figures, no verdict."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final

import pytest

from layerstore_core.conformance.base import ConformanceTests
from layerstore_core.conformance.properties import FIGURES
from layerstore_core.conformance.rig import DriverRig
from layerstore_core.conformance.tars import Item, directory, file
from layerstore_core.driver import registry
from layerstore_core.errors import DriverNotSupported

_REPEAT: Final = 3
#: The drivers that each driver is compared with, on the same file system.
_YARDSTICKS: Final = ("vfs", "overlay2")


class SpeedTests(ConformanceTests):
    """Measurements of create, apply, mount, compare and remove, next to those of vfs and overlay2."""

    group: ClassVar = "speed"

    @pytest.mark.parametrize("files", [100, 1_000, 10_000])
    def test_speed_of_each_step(self, bench: DriverRig, request: pytest.FixtureRequest, files: int) -> None:
        """Nothing is demanded: the figures show what a layer of so many files costs.

        They help in choosing a driver.
        """
        figures = {step: {"driver": value} for step, value in _measure(bench, files).items()}
        installed = {one.name for one in registry.installed_drivers()}
        for name in _YARDSTICKS:
            if name == bench.name or name not in installed:
                continue
            try:
                other = DriverRig(name, None, {}, bench.root / f"yardstick-{name}")
            except DriverNotSupported as error:
                bench.note(f"not compared with {name}: {error}")
                continue
            with other:
                for step, value in _measure(other, files).items():
                    figures[step][name] = value
        request.node.user_properties.append((FIGURES, {str(files): figures}))


def _measure(bench: DriverRig, files: int) -> dict[str, float]:
    """Measure each step several times. Return the least time of each, in milliseconds."""
    items: list[Item] = []
    for number in range(files):
        if number % 100 == 0:
            items.append(directory(b"d%03d" % (number // 100)))
        items.append(file(b"d%03d/%05d" % (number // 100, number), b"%d" % number * 20))
    found: dict[str, list[float]] = {}

    def timed(step: str, work: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = work()
        found.setdefault(step, []).append((time.perf_counter() - start) * 1000)
        return result

    driver = bench.driver
    for _ in range(_REPEAT):
        base = bench.new_id()
        driver.create(base, "", {})
        timed("apply", partial(bench.apply, base, "", items))
        layer = timed("create", partial(bench.writable, base))
        path = timed("mount", partial(driver.get, layer))
        Path(path, "d000/00000").write_text("changed")
        timed("unmount", partial(driver.put, layer))
        timed("changes", partial(driver.changes, layer, base))
        timed("diff", partial(bench.diff, layer, base))
        timed("remove", partial(driver.remove, layer))
        driver.remove(base)
    return {step: min(times) for step, times in found.items()}
