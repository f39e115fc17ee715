"""Group "concurrency": threads and processes use one home at the same time."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import ClassVar, Final, TypeVar

from layerstore_core.base.threads import Threads
from layerstore_core.conformance.base import ConformanceTests
from layerstore_core.conformance.processes import Child
from layerstore_core.conformance.rig import DriverRig, read_all
from layerstore_core.conformance.tars import directory, file, tar_of, whiteout
from layerstore_core.conformance.trees import must_be, read_tree

_T = TypeVar("_T")
_THREADS: Final = 4
_BASE: Final = [directory(b"d"), *(file(b"d/%02d" % number, b"%d" % number * 100) for number in range(20))]


class ConcurrencyTests(ConformanceTests):
    """Tests of concurrent calls, for different layers and for the same layer."""

    group: ClassVar = "concurrency"

    def test_threads_create_layers(self, bench: DriverRig) -> None:
        """Threads can create, fill, mount and compare layers of one parent at once, and all layers are correct.

        Otherwise pulling an image sometimes damages it.
        """
        base = bench.layer(_BASE)
        layers = [bench.new_id() for _ in range(3 * _THREADS)]

        def live(number: int) -> list[str]:
            layer = bench.layer(
                [file(b"own", b"%d" % number), whiteout(b"d/%02d" % number)], base, layer_id=layers[number]
            )
            with bench.driver.mounted(layer) as path:
                content = Path(path, "own").read_text()
                names = sorted(os.listdir(os.path.join(path, "d")))
            changes = [str(one) for one in bench.driver.changes(layer, base)]
            return [content, f"{len(names)}", f"{f'{number:02d}' in names}", *changes]

        for number, found in enumerate(_at_once(live, range(len(layers)))):
            assert found == [str(number), "19", "False", "C /d", f"D /d/{number:02d}", "A /own"]

    def test_threads_use_one_layer(self, bench: DriverRig) -> None:
        """A layer that threads mount, read and unmount at once stays mounted for each until it has finished.

        Otherwise readers sometimes fail because files are missing.
        """
        layer = bench.writable(bench.layer(_BASE))
        wanted = bench.tree(layer)

        def use(_: int) -> bool:
            with bench.driver.mounted(layer) as path:
                return read_tree(path) == wanted

        assert all(_at_once(use, range(10 * _THREADS))), "a tree changed while several threads were reading it"
        assert not bench.mounts(), f"after the last user there is still mounted: {bench.mounts()}"

    def test_layers_are_removed_while_others_are_read(self, bench: DriverRig) -> None:
        """While siblings are created and removed, a mounted layer stays complete.

        Otherwise a cleanup breaks running containers.
        """
        base = bench.layer(_BASE)
        reader = bench.writable(base)
        wanted = bench.tree(reader)
        path = bench.driver.get(reader)
        doomed = [bench.new_id() for _ in range(2 * _THREADS)]

        def create_and_remove(number: int) -> bool:
            if number % 2:
                return read_tree(path) == wanted
            bench.layer([file(b"x", b"x"), whiteout(b"d")], base, layer_id=doomed[number])
            bench.driver.remove(doomed[number])
            return not bench.driver.exists(doomed[number])

        assert all(_at_once(create_and_remove, range(len(doomed))))
        bench.driver.put(reader)

    def test_cleanup_while_others_work(self, bench: DriverRig) -> None:
        """`cleanup` in another instance disturbs no layer that is created, filled, mounted or removed meanwhile.

        Otherwise a cleanup at night deletes what a pull has just written.
        """
        base = bench.layer(_BASE)
        wanted = bench.tree(base)
        janitor = bench.open()
        ids = [bench.new_id() for _ in range(4 * _THREADS)]
        finished: list[int] = []

        def work(number: int) -> bool:
            while number == 0 and len(finished) < _THREADS - 1:
                janitor.cleanup()
            try:
                for layer in ids[number - 1 :: _THREADS - 1] if number else ():
                    bench.layer([file(b"own", b"%d" % number)], base, layer_id=layer)
                    tree = bench.tree(layer)
                    assert tree.pop(b"own").content == b"%d" % number
                    must_be(tree, wanted, "a layer that was created while cleanup ran", root=False)
                    bench.driver.remove(layer)
            finally:
                finished.append(number)
            return True

        assert all(_at_once(work, range(_THREADS)))
        must_be(bench.tree(base), wanted, "the parent, after cleanup ran")
        assert not bench.mounts()

    def test_threads_read_diffs_of_one_layer(self, bench: DriverRig) -> None:
        """Several diffs of one layer that are read at once are the same.

        Otherwise pushing an image to two places fails.
        """
        base = bench.layer(_BASE)
        layer = bench.layer([file(b"d/new", b"n" * 100_000), whiteout(b"d/03")], base)
        wanted = bench.diff(layer, base)
        assert all(found == wanted for found in _at_once(lambda _: bench.diff(layer, base), range(2 * _THREADS)))
        assert not bench.mounts()

    def test_threads_register_layers(self, bench: DriverRig) -> None:
        """Layers that several threads register in one store, some of them twice, are all there and exact.

        Otherwise two pulls at once lose a layer.
        """
        tars = [tar_of([file(b"f", b"%d" % (number % 6) * 1000)]) for number in range(2 * 6)]
        with bench.store() as store:
            layers = _at_once(lambda number: store.register(io.BytesIO(tars[number])), range(len(tars)))
            for tar, layer in zip(tars, layers, strict=True):
                assert read_all(layer.tar_stream()) == tar
            assert len(store.layers()) == 6
            ids = store.driver.layer_ids()
            assert ids is None or sorted(ids) == sorted(layer.cache_id for layer in store.layers().values()), (
                "layers that were registered twice are left in the driver"
            )
            for layer in layers:
                store.release(layer)

    def test_processes_create_layers(self, bench: DriverRig) -> None:
        """Several processes that create layers of one parent, each with its own instance, all get correct layers.

        Otherwise CI jobs on one machine need a lock around each of them.
        """
        base = bench.layer(_BASE)
        wanted = {b"%d" % number: bench.new_id() for number in range(_THREADS)}
        bench.close()

        def live(own: bytes) -> None:
            driver = bench.driver = bench.open()
            layer = bench.layer([file(b"own", own)], base, layer_id=wanted[own])
            for _round in range(3):
                with driver.mounted(layer) as path:
                    assert Path(path, "own").read_bytes() == own
                    assert len(os.listdir(os.path.join(path, "d"))) == 20
                with driver.mounted(base) as path:
                    assert len(os.listdir(os.path.join(path, "d"))) == 20
            driver.close()

        children = [Child(lambda _, own=own: live(own)) for own in wanted]  # type: ignore[misc]
        errors = [ended.error for ended in [child.wait() for child in children] if ended.error]
        assert not errors, errors[0]
        bench.driver = bench.open()
        for own, layer in wanted.items():
            assert bench.tree(layer)[b"own"].content == own
        assert not bench.mounts()
        must_be(bench.tree(base), bench.tree(bench.writable(base)), "the parent of all", root=False)


def _at_once(work: Callable[[int], _T], numbers: range) -> list[_T]:
    with Threads("conformance", _THREADS) as threads:
        tasks = [threads.submit(partial(work, number)) for number in numbers]
        return [task.result() for task in tasks]
