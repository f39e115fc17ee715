"""`python -m benchmarks.changes`: the cost of finding 10 changes in a writable layer over 68,000 files.

The driver's native way is compared with a naive walk over the two mounted trees, on overlay2 and on btrfs (in an image
that is created and removed). The table also has the least that any naive walk does: reading the status of every file in
both trees. Needs root. All runs are warm, and alternate.

A second run lists all directories before (as `find` in the container would). Then each directory has a new time of
access, which btrfs has to distinguish from a change.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from layerstore_core import LayerStore, compare_trees
from layerstore_core.tree.walk import TreeWalk
from tests.driver_roots import btrfs_file_system, remove_root


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.changes", description=__doc__)
    parser.add_argument("--files", type=int, default=68_000)
    parser.add_argument("--changes", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    tar = layer_of(options.files)
    print(
        f"{options.changes} changes in a writable layer over {options.files:,} files; "
        f"medians of {options.rounds} runs\n"
    )
    print(f"{'driver':<18}{'native':>12}{'naive':>12}{'times':>8}{'statuses':>12}{'times':>8}{'wanted':>8}")
    with btrfs_file_system() as btrfs, tempfile.TemporaryDirectory() as disk:
        cases = [
            (*one, listed) for one in (("overlay2", Path(disk), 100), ("btrfs", btrfs, 10)) for listed in (False, True)
        ]
        for driver, place, wanted, listed in cases:
            root = place / "store"
            try:
                native, naive, least = measure(root, driver, tar, options, listed=listed)
            finally:
                remove_root(root)
            print(
                f"{driver + (', listed' if listed else ''):<18}"
                f"{native * 1e3:>9.2f} ms{naive * 1e3:>9.1f} ms{naive / native:>8.0f}"
                f"{least * 1e3:>9.1f} ms{least / native:>8.0f}{wanted:>8}"
            )


def layer_of(files: int) -> io.BytesIO:
    """Return a tar of so many small files, 100 in a directory."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for number in range(files):
            info = tarfile.TarInfo(name_of(number))
            content = f"{number}\n".encode() * (number % 50)
            info.size, info.mtime = len(content), 1_700_000_000
            tar.addfile(info, io.BytesIO(content))
    out.seek(0)
    return out


def name_of(number: int) -> str:
    """Return the path of a file by its number."""
    return f"usr/{number // 10_000}/{number // 100 % 100}/{number}"


def measure(
    root: Path, driver: str, tar: io.BytesIO, options: argparse.Namespace, *, listed: bool
) -> tuple[float, float, float]:
    """Return the median seconds of the native way, the naive walk, and of reading every status."""
    tar.seek(0)
    with LayerStore.open(root=root, driver=driver, durability="none") as store:
        layer = store.register(tar)
        rw = store.create_rw_layer("box", layer.chain_id)
        with rw.mounted() as upper, store.driver.mounted(layer.cache_id) as lower:
            if listed:
                list(Path(upper).rglob("*"))
            for change in range(options.changes):
                Path(upper, name_of(change * (options.files // options.changes))).write_bytes(b"changed")
            naive, native, least = [], [], []
            for _ in range(options.rounds):
                naive.append(seconds(lambda: compare_trees(upper, lower)))
                native.append(seconds(rw.changes))
                least.append(seconds(lambda: both(upper, lower)))
            assert rw.changes() == compare_trees(upper, lower)
        store.release_rw_layer(rw)
        store.release(layer)
    return statistics.median(native), statistics.median(naive), statistics.median(least)


def both(upper: str, lower: str) -> None:
    """Read all statuses of two trees."""
    statuses(upper)
    statuses(lower)


def statuses(root: str) -> None:
    """Read the status of every file in a tree, without changing times of access."""
    with TreeWalk(root) as tree:
        _statuses_in(tree)


def _statuses_in(tree: TreeWalk) -> None:
    with os.scandir(tree.fd) as entries:
        for entry in list(entries):
            entry.stat(follow_symlinks=False)
            if entry.is_dir(follow_symlinks=False):
                tree.down(entry.name)
                _statuses_in(tree)
                tree.up()


def seconds(work: Callable[[], object]) -> float:
    """Return the seconds that some work takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
