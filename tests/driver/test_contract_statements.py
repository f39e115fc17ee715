"""What the contract says of calls and choices, where no other test of the store shows it."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from layerstore_core import (
    DriverContext,
    InvalidLayer,
    LayerStream,
    Snapshots,
    StoreConfig,
    check_store,
    collect_garbage,
    hookimpl,
    repair,
    unpack_layer,
)
from layerstore_core.driver.select import select_driver
from tests import tars
from tests.store.drivers import SmallestDriver, open_with
from tests.store.layers import BASE, register


class CountingDriver(SmallestDriver):
    """A driver that counts calls of `cleanup`, and what is written below `get` without its own `apply_diff`."""

    cleaned = 0

    @hookimpl
    def cleanup(self) -> None:
        type(self).cleaned += 1


@pytest.fixture
def counting() -> type[CountingDriver]:
    return type("Counting", (CountingDriver,), {"cleaned": 0})


def test_cleanup_is_called_when_someone_tidies_up_and_not_at_opening_and_closing(
    counting: type[CountingDriver], tmp_path: Path
) -> None:
    for _ in range(2):
        with open_with(counting, tmp_path / "root") as store:
            register(store, BASE).close()
            check_store(store)
    assert counting.cleaned == 0
    with open_with(counting, tmp_path / "root") as store:
        collect_garbage(store, dry_run=True)
        assert counting.cleaned == 0
        collect_garbage(store)
        assert counting.cleaned == 1
        store.cleanup()
        assert counting.cleaned == 2
        assert repair(store, []) == []
        assert counting.cleaned == 2
        with Snapshots(store) as snapshots:
            snapshots.cleanup()
        assert counting.cleaned == 3


def test_other_hooks_run_while_a_driver_cleans_up(tmp_path: Path) -> None:
    class Busy(SmallestDriver):
        @hookimpl
        def cleanup(self) -> None:
            with open_with(SmallestDriver, tmp_path / "root") as other:
                register(other, BASE).close()
                other.create_rw_layer("work").close()
                other.driver.cleanup()

    with open_with(Busy, tmp_path / "root") as store:
        store.cleanup()
        assert store.chain_ids()


def test_of_two_drivers_with_one_priority_the_first_by_name_is_chosen(install, only, tmp_path: Path) -> None:
    only("vfs")
    install(
        "acme-driver",
        "class Preferred(Driver):\n    priority = 1000\n",
        drivers="zeta = acme_driver:Preferred\nacme = acme_driver:Preferred\nunranked = acme_driver:Driver",
    )
    root = tmp_path / "root"
    assert select_driver(StoreConfig(root=root)) == "acme"
    assert select_driver(StoreConfig(root=root, driver_priority=("unranked", "acme"))) == "unranked"


def test_a_layer_is_filled_again_after_a_failure(tmp_path: Path) -> None:
    """In a writable layer, as users do it, and in the tree of a driver that another program calls again."""
    broken = tars.tar(tars.directory(b"d"), tars.entry(b"d/a", b"first"), tars.entry(b"../out", b""))
    good = tars.tar(tars.directory(b"d", mode=0o700), tars.entry(b"d/a", b"second"), tars.entry(b".wh.e"))
    with open_with(SmallestDriver, tmp_path / "root") as store, store.create_rw_layer("work") as rw:
        with pytest.raises(InvalidLayer):
            rw.apply_diff(io.BytesIO(broken))
        rw.apply_diff(io.BytesIO(good))
        with rw.mounted() as path:
            assert Path(path, "d/a").read_bytes() == b"second"
    tree = tmp_path / "tree"
    tree.mkdir()
    with pytest.raises(InvalidLayer):
        unpack_layer(LayerStream.over(io.BytesIO(broken)), str(tree))
    unpack_layer(LayerStream.over(io.BytesIO(good)), str(tree))
    assert (tree / "d/a").read_bytes() == b"second"


def test_only_the_fallback_writes_into_a_read_only_layer(tmp_path: Path) -> None:
    """A driver that fills its layers itself may show them read-only: nothing is written below `get` afterwards."""

    class Sealed(SmallestDriver):
        def __init__(self, context: DriverContext) -> None:
            super().__init__(context)
            self.filled: set[str] = set()

        @hookimpl
        def apply_diff(self, layer_id: str, diff: LayerStream) -> int:
            size = unpack_layer(diff, str(self.home / layer_id))
            self.filled.add(layer_id)
            return size

        def state(self) -> dict[str, list[tuple[str, int, int]]]:
            return {
                layer_id: [
                    (str(path), path.lstat().st_ctime_ns, path.lstat().st_ino)
                    for path in sorted((self.home / layer_id).rglob("*"))
                ]
                for layer_id in sorted(self.filled)
            }

    made: list[Sealed] = []

    def factory(context: DriverContext) -> Sealed:
        made.append(Sealed(context))
        return made[-1]

    with open_with(factory, tmp_path / "root") as store:
        layer = register(store, BASE)
        before = made[0].state()
        assert any(before.values())
        with store.create_rw_layer("work", layer.chain_id, init=lambda path: Path(path, "init").touch()) as rw:
            with rw.mounted() as path:
                Path(path, "written").touch()
            rw.changes()
        check_store(store, full=True)
        b"".join(layer.tar_stream())
        collect_garbage(store)
        assert made[0].state() == before
