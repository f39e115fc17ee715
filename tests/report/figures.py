"""Time and memory of reports on images of 1,000, 10,000 and 100,000 files: `python -m tests.report.figures`.

Each figure is the best of three processes of `layerstore report IMAGE -o FILE`, from their start to their end. The
files are of one layer, and of ten.
"""

from __future__ import annotations

import io
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from layerstore_core import LayerStore
from layerstore_core.images import Images
from tests import tars
from tests.images.archives import ImageSpec, docker_archive

COUNTS = (1000, 10_000, 100_000)
LAYERS = (1, 10)
_NAMES = ("core", "server", "model", "views", "static", "assets", "locale", "crypto", "network")


class Figures(NamedTuple):
    """What a process took.

    Attributes:
        seconds: from its start to its end.
        busy: the seconds of processors.
        memory: the most bytes that it had.
        size: the bytes of the page.
    """

    seconds: float
    busy: float
    memory: int
    size: int


def files(number: int, seed: int, *, top: str = "usr") -> dict[str, int]:
    """Return the sizes of files as a distribution has them: most are small, a few are large."""
    rng = random.Random(seed)
    found = {}
    for one in range(number):
        words = [rng.choice(_NAMES) for _ in range(rng.randrange(1, 4))]
        found[f"{top}/{'/'.join(words)}/{rng.choice(_NAMES)}{one}.so"] = int(rng.paretovariate(1.05) * 400) % 300_000
    return found


def layer(sizes: dict[str, int], more: Iterable[bytes] = ()) -> bytes:
    """Return the tar of a layer with files of these sizes."""
    rng = random.Random(7)
    return tars.tar(*(tars.entry(name.encode(), rng.randbytes(size)) for name, size in sizes.items()), *more)


def load_entries(images: Images, number: int, layers: int = 1) -> str:
    """Make an image with so many small files, spread over so many layers; return its name."""
    sizes = [(name, size % 4096) for name, size in files(number, 5).items()]
    parts = [layer(dict(sizes[one::layers])) for one in range(layers)]
    name = f"entries-{layers}:{number}"
    images.load(io.BytesIO(docker_archive(ImageSpec(parts, [name]))))
    return name


def report(store: Path, *words: str, page: Path, code: int = 0) -> Figures:
    """Run `layerstore report` in a new process, and write a page."""
    start = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "layerstore_core", "report", *words, "-o", str(page)],
        env={**os.environ, "LAYERSTORE_ROOT": str(store), "LAYERSTORE_DRIVER": "vfs"},
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == code, words
    seconds = time.monotonic() - start
    return Figures(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss << 10, page.stat().st_size)


def make(root: Path) -> None:
    """Make a store with the images."""
    with LayerStore.open(root=root, driver="vfs", durability="none", create=True) as store:
        for number in COUNTS:
            for layers in LAYERS:
                load_entries(Images(store), number, layers)


def main() -> None:
    """Make the images, and print a table."""
    print("| files | layers | s | of processors, s | memory, MiB | page, kB |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory, "store")
        # In another process: what this one has would count for those that it starts.
        subprocess.run([sys.executable, "-m", "tests.report.figures", root], check=True)
        for number in COUNTS:
            for layers in LAYERS:
                page = Path(directory, "page.html")
                runs = [report(root, f"entries-{layers}:{number}", page=page) for _ in range(3)]
                seconds, busy, memory, size = (min(values) for values in zip(*runs, strict=True))
                figures = f"{seconds:.2f} | {busy:.2f} | {memory >> 20} | {size // 1000}"
                print(f"| {number:,} | {layers} | {figures} |", flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        make(Path(sys.argv[1]))
    else:
        main()
