"""Load: 64 threads and 8 processes mount, write, diff and release at once. Nothing fails, and nothing is left.

`LAYERSTORE_TEST_LOAD` is the number of turns of each thread; each process takes four times as many.
"""

from __future__ import annotations

import io
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from layerstore_core import LayerStore
from layerstore_core.maintenance.check import check_store
from layerstore_core.maintenance.gc import collect_garbage
from tests.driver_roots import mounts_below
from tests.in_gate import in_gate
from tests.store.layers import BASE, MIDDLE, TOP, chain, export, tree, warm
from tests.store.other_process import OtherProcess

THREADS = 64
PROCESSES = 8
TIMES = int(os.environ.get("LAYERSTORE_TEST_LOAD", "1"))


def turn(store: LayerStore, name: str) -> None:
    """Use a store for one turn: common layers, an own and a common writable layer, a diff, a commit, a release."""
    layers = chain(store, BASE, MIDDLE, TOP)
    rw = store.create_rw_layer(name, layers[-1].chain_id)
    with rw.mounted() as path:
        Path(path, "etc/hosts").write_text(name)
        Path(path, name).write_bytes(name.encode() * 100)
        Path(path, "bin/sh").unlink()
    assert [str(change) for change in rw.changes()] == sorted(
        ["C /bin", "D /bin/sh", "C /etc", "C /etc/hosts", f"A /{name}"], key=lambda line: line[2:]
    )
    with rw.tar_stream() as stream:
        tar = stream.read()
    commit = store.register(io.BytesIO(tar), layers[-1].chain_id)
    assert export(commit) == tar
    with commit.tar_stream_from(layers[-1].chain_id) as stream:
        assert stream.read(1)
    common = store.get_rw_layer("common")
    with common.mounted() as path:
        Path(path, f"by-{name}").touch()
    for layer in (*layers, commit):
        store.release(layer)
    store.release_rw_layer(rw)
    common.close()


@pytest.mark.parametrize("driver", in_gate("overlay2"), indirect=True)
def test_threads_and_processes_use_a_store_at_once(store: LayerStore, store_root: Path, driver: str) -> None:
    warm(store)
    before, ids = tree(store_root), store.driver.layer_ids()
    base = chain(store, BASE)[0]
    common = store.create_rw_layer("common", base.chain_id)

    def threads(number: int) -> None:
        for time in range(TIMES):
            turn(store, f"thread-{number}-{time}")

    with ExitStack() as stack:
        others = [stack.enter_context(OtherProcess(store_root, driver)) for _ in range(PROCESSES)]
        for number, other in enumerate(others):
            other.start(
                "from tests.across.test_load import turn\n"
                "for time in range(times): turn(store, f'process-{number}-{time}')",
                number=number,
                times=4 * TIMES,
            )
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(threads, range(THREADS)))
        for other in others:
            other.answer()

    with common.mounted() as path:
        written = {name for name in os.listdir(path) if name.startswith("by-")}
    assert len(written) == TIMES * (THREADS + 4 * PROCESSES)
    store.release_rw_layer(common)
    store.release(base)
    assert mounts_below(store_root) == []
    assert collect_garbage(store) == []
    assert check_store(store, full=True) == []
    assert (store.layers(), store.rw_layers(), store.driver.layer_ids()) == ({}, [], ids)
    assert tree(store_root) == before
