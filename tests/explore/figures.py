"""Time and memory of the program for images of 1,000, 10,000 and 100,000 entries: `python -m tests.explore.figures`.

Each figure is the best of three processes. "Opened" is the time from the start of the process until the tree is on the
screen, and the time of processors that this took; "all opened" is the time of the key that opens all directories;
"page" is the mean time of one page of scrolling, the screen drawn.
"""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests import tars

COUNTS = (1000, 10_000, 100_000)
_PAGES = 100


def entries_of(count: int) -> list[bytes]:
    """Return so many entries: directories of 49 files each."""
    found: list[bytes] = []
    number = 0
    while len(found) < count:
        directory = b"usr/lib/d%03d/s%02d" % divmod(number, 20)
        found.append(tars.directory(directory))
        found += [tars.entry(directory + b"/file%03d.py" % one, b"x" * (40 + one)) for one in range(49)]
        number += 1
    return found[:count]


def measure(root: str, name: str) -> None:
    """Measure the program on an image in this process, and print the figures as JSON."""
    from layerstore_core import Images, LayerStore
    from layerstore_core.explore.start import image_app

    # The process itself has been running for some time: the clock began when it was started.
    with open("/proc/self/stat") as stat, open("/proc/uptime") as uptime:
        ticks = int(stat.read().rpartition(")")[2].split()[19])
        before = float(uptime.read().split()[0]) - ticks / 100
    began = time.perf_counter() - before
    gc.set_threshold(60_000, 20, 100)  # as the command line does
    figures: dict[str, float] = {}

    async def run() -> None:
        with LayerStore.open(root=root, driver="vfs") as store:
            app = image_app(store, Images(store).get(name), name)
            with app.opened:
                async with app.run_test(size=(120, 40)) as pilot:
                    await app.workers.wait_for_complete()
                    await pilot.pause()
                    figures["opened"] = time.perf_counter() - began
                    figures["processor"] = time.process_time()
                    await pilot.press("tab")
                    start = time.perf_counter()
                    await pilot.press("z")
                    await pilot.pause()
                    figures["all opened"] = time.perf_counter() - start
                    start = time.perf_counter()
                    for _ in range(_PAGES):
                        app.screen.query_one("#tree").action_page(1)  # type: ignore[attr-defined]
                        app.screen._compositor.render_strips()
                        await asyncio.sleep(0)
                    figures["page"] = (time.perf_counter() - start) / _PAGES
                    figures["rows"] = app.screen.query_one("#tree").count  # type: ignore[attr-defined]

    asyncio.run(run())
    # What getrusage says is at least what the process had from which this one was forked.
    status = Path("/proc/self/status").read_text()
    figures["MiB"] = int(status.partition("VmHWM:")[2].split()[0]) / 1024
    print(json.dumps(figures))


def main() -> None:
    """Make the images, and print a table."""
    from layerstore_core import Images, LayerStore
    from tests.images.archives import ImageSpec, docker_archive

    print("| entries | opened, s | of it processor, s | all opened, s | page, ms | memory, MiB |")
    print("| --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as directory:
        with LayerStore.open(root=f"{directory}/store", driver="vfs", durability="none", create=True) as store:
            for count in COUNTS:
                archive = Path(directory, "image.tar")
                archive.write_bytes(docker_archive(ImageSpec([tars.tar(*entries_of(count))], [f"entries:{count}"])))
                Images(store).load(archive)
        for count in COUNTS:
            command = [sys.executable, "-m", "tests.explore.figures", f"{directory}/store", f"entries:{count}"]
            found = []
            for _ in range(3):
                done = subprocess.run(command, capture_output=True, check=True)
                found.append(json.loads(done.stdout.splitlines()[-1]))
            best = {key: min(one[key] for one in found) for key in found[0]}
            assert best["rows"] > count, "all rows are there"
            times = f"{best['opened']:.2f} | {best['processor']:.2f} | {best['all opened']:.2f}"
            print(f"| {count:,} | {times} | {best['page'] * 1000:.1f} | {best['MiB']:.0f} |", flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(*sys.argv[1:3])
    else:
        main()
