"""Tests of the group "lifecycle": what a driver leaves on the machine, and what it has of its own."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Final

import pytest

from layerstore_core.conformance.base import ConformanceTests
from layerstore_core.conformance.instruments.home import measure
from layerstore_core.conformance.instruments.orphans import processes_left
from layerstore_core.conformance.rig import DriverRig
from layerstore_core.conformance.tars import directory, file, whiteout
from layerstore_core.conformance.trees import must_be, names_of

_BASE: Final = [directory(b"d"), file(b"d/one", b"1" * 5000), file(b"two", b"2")]
#: The number of seconds that a process of a driver may take to end after its last use.
_PATIENCE: Final = 5


class HomeTests(ConformanceTests):
    """Tests of the driver's home, its processes, and of two homes."""

    group: ClassVar = "lifecycle"

    def test_nothing_grows(self, bench: DriverRig) -> None:
        """When layers have come and gone, and `cleanup` has run, the home has no more files and bytes than before.

        Otherwise a machine that builds images every day is full after some months. `remove` may leave to `cleanup` what
        no layer owns any more.
        """
        kept = bench.layer(_BASE)
        _live(bench, kept)
        bench.driver.cleanup()
        before = measure(bench.driver.home)
        for _ in range(3):
            _live(bench, kept)
        bench.driver.cleanup()
        growth = measure(bench.driver.home).growth_since(before)
        assert not growth, f"after three rounds of layers that came and went, and cleanup, the home has {growth}"

    def test_a_sound_home_needs_no_repair(self, bench: DriverRig) -> None:
        """`check_home` finds nothing wrong while layers come, are used and go, and `repair_home` changes no layer then.

        Otherwise `check` reports damage where there is none, and who repairs that loses what was sound.
        """
        base = bench.layer(_BASE)
        child = bench.layer([file(b"three", b"3" * 5000), whiteout(b"two")], base)
        writable = bench.writable(child)

        def look(moment: str) -> None:
            driver = bench.driver
            for found in (driver.check_home(full=True), driver.check_home(full=False)):
                assert not found, f"check_home finds something to do {moment}: {found[0]}"
            done = driver.repair_home()
            assert not done, f"repair_home finds something to do {moment}: {done[0]}"
            found = driver.check_home(full=True)
            assert not found, f"check_home finds something to do {moment}, after repair_home: {found[0]}"

        look("after layers were created")
        trees = {layer: bench.tree(layer) for layer in (base, child, writable)}
        with bench.driver.mounted(writable) as path, bench.driver.mounted(base):
            Path(path, "written").write_bytes(b"w")
            look("while layers are mounted")
            Path(path, "written").unlink()
        for layer, tree in trees.items():
            must_be(bench.tree(layer), tree, "a layer, after repair_home", root=layer != writable)
        bench.driver.remove(writable)
        bench.driver.remove(child)
        bench.driver.cleanup()
        look("after layers were removed")
        must_be(bench.tree(base), trees[base], "a layer, after its child was removed, and repair_home")

    def test_no_process_is_left(self, bench: DriverRig) -> None:
        """When all layers are unmounted and the process that used the driver has ended, no process of it is left.

        Otherwise each container leaves a process that runs until the machine is restarted.
        """
        base = bench.layer(_BASE)
        layers = [bench.writable(base), bench.new_id()]
        bench.close()

        def use() -> None:
            bench.driver = bench.open()
            with bench.driver.mounted(layers[0]) as path:
                Path(path, "written").write_text("x")
            bench.layer([file(b"more"), whiteout(b"two")], base, layer_id=layers[1])
            bench.diff(layers[0], base)
            bench.tree(layers[1])
            bench.driver.remove(layers[1])
            bench.close()

        left = processes_left(use, _PATIENCE)
        bench.driver = bench.open()
        assert not left, f"{_PATIENCE} seconds after the driver's last use, a process is left: {left[0]}"

    def test_two_roots_in_one_process(self, bench: DriverRig) -> None:
        """Layers of the same IDs in two roots are different layers, also if one process uses both roots at once.

        Otherwise a service for two users shows one of them the files of the other.
        """
        other = bench.another("another-root")
        with other:
            base, layer = bench.layer([file(b"first", b"1")]), bench.new_id()
            other.layer([file(b"second", b"2"), file(b"more")], layer_id=base)
            paths = []
            for rig in (bench, other):
                rig.writable(base, layer_id=layer)
                paths.append(Path(rig.driver.get(layer)))
            for number, path in enumerate(paths):
                (path / "written").write_text(str(number))
            assert [(path / "written").read_text() for path in paths] == ["0", "1"], "both roots have one layer"
            for rig, names in (bench, {b"first", b"written"}), (other, {b"second", b"more", b"written"}):
                rig.driver.put(layer)
                assert names_of(rig.tree(layer)) == names, "a layer shows the files of another root's layer of its ID"
            kept = other.tree(layer)
            bench.driver.remove(layer)
            bench.driver.remove(base)
            assert other.driver.exists(base), "remove in one root has removed a layer of another"
            must_be(other.tree(layer), kept, "a layer, after that of its ID in another root was removed")
            with pytest.raises(FileNotFoundError):
                bench.driver.get(base)
            ids = bench.layer_ids()
            assert not ids, f"layer_ids of one root names a layer of another: {ids}"
            other.driver.remove(layer)
            other.driver.remove(base)


def _live(bench: DriverRig, kept: str) -> None:
    """Do all that makes layers come and go."""
    base = bench.layer(_BASE)
    child = bench.layer([file(b"three", b"3" * 5000), whiteout(b"two")], base)
    init = bench.writable(child, layer_id=bench.new_id("-init"))
    writable = bench.writable(init)
    with bench.driver.mounted(writable) as path:
        Path(path, "written").write_bytes(b"w" * 5000)
        Path(path, "d/one").unlink()
    bench.driver.changes(writable, init)
    bench.diff(writable, child)
    bench.tree(kept)
    with suppress(FileExistsError):
        bench.driver.create(kept, "", {})
    bench.driver.seal(writable)
    for layer in (writable, init, child, base):
        bench.driver.remove(layer)
        bench.driver.remove(layer)
