"""Make images and their reports, measure that, and use the pages in a browser: what `make browser` does.

The arguments are a directory with playwright-core and axe-core, which gets the pages and screenshots, and a browser.
"""

from __future__ import annotations

import io
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from layerstore_core import LayerStore
from layerstore_core.images import Images
from tests import tars
from tests.images.archives import ImageSpec, docker_archive
from tests.report.conftest import STATUS

LIBRARIES = ("core", "server", "model", "views", "static", "assets", "locale", "crypto", "network")
NAMES = (b"</script><script>alert(1)<", b"<!--x", "line\u2028sep".encode(), b"caf\xe9", "a\u202egnp.exe".encode())


def files(number: int, seed: int, *, top: str = "usr") -> dict[str, int]:
    """Return the sizes of files as a distribution has them: most are small, a few are large."""
    rng = random.Random(seed)
    found = {}
    for one in range(number):
        words = [rng.choice(LIBRARIES) for _ in range(rng.randrange(1, 4))]
        found[f"{top}/{'/'.join(words)}/{rng.choice(LIBRARIES)}{one}.so"] = int(rng.paretovariate(1.05) * 400) % 300_000
    return found


def layer(sizes: dict[str, int], more: Iterable[bytes] = ()) -> bytes:
    """Return the tar of a layer."""
    rng = random.Random(7)
    return tars.tar(*(tars.entry(name.encode(), rng.randbytes(size)) for name, size in sizes.items()), *more)


def images() -> bytes:
    """Return an archive of all images but the measured ones."""
    packages = b"".join(STATUS % (b"%d" % number, b"package-%d" % number) for number in range(20))
    status = tars.entry(b"var/lib/dpkg/status", packages.replace(b"base-files", b"base", 19))
    base, app = files(2500, 1), files(600, 2, top="srv/app")
    other = {
        name: size * 2 if number % 5 == 0 else size for number, (name, size) in enumerate(app.items()) if number % 9
    }
    other |= files(40, 3, top="srv/app/new")
    steps = ["ADD rootfs.tar /", "RUN apt-get install -y everything && rm -rf /var/lib/apt/lists/*", "COPY . /srv/app"]
    history = [
        {"created_by": step, "created": "2026-11-02T10:00:00Z"}
        for step in [*steps, "RUN chown -R app /srv", "RUN rm -r /usr/crypto"]
    ]
    first = [layer(base, [status]), layer(files(900, 4)), layer(app)]
    again = layer({name: size for name, size in app.items() if "static" in name})
    gone = tars.tar(tars.entry(b"usr/.wh.crypto"))
    hostile = tars.tar(*(tars.entry(name, b"x" * 900) for name in NAMES))
    return docker_archive(
        ImageSpec([*first, again, gone], ["shop/app:1"], extra={"history": history}),
        ImageSpec([*first[:2], layer(other)], ["shop/app:2"], extra={"history": history[:3]}),
        ImageSpec([hostile], ["hostile:1"]),
    )


def report(store: Path, *words: str, code: int = 0) -> tuple[float, float, int]:
    """Run `layerstore report` in a new process; return its seconds, those of the processor, and its bytes of memory."""
    start = time.monotonic()
    pid = subprocess.Popen(
        [sys.executable, "-m", "layerstore_core", "report", *words],
        env={**os.environ, "LAYERSTORE_ROOT": str(store), "LAYERSTORE_DRIVER": "vfs"},
    ).pid
    _, status, usage = os.wait4(pid, 0)
    assert os.waitstatus_to_exitcode(status) == code, words
    return time.monotonic() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss << 10


def make_store(root: Path) -> None:
    """Make a store with all images, in another process: the memory of one is counted for those that it starts."""
    with LayerStore.open(root=root, driver="vfs", durability="none", create=True) as store:
        found = Images(store)
        found.load(io.BytesIO(images()))
        for number in (1000, 10_000, 100_000):
            small = {name: size % 4096 for name, size in files(number, 5).items()}
            found.load(io.BytesIO(docker_archive(ImageSpec([layer(small)], [f"entries:{number}"]))))
        store.create_rw_layer("work", parent=found.get("shop/app:1").chain_id).close()


def main(directory: Path, browser: str) -> int:
    """Make the pages, and use them."""
    temporary = Path(tempfile.mkdtemp())
    try:
        root = temporary / "store"
        subprocess.run([sys.executable, "-m", "tests.report.browser", "--make", root], check=True)
        report(root, "shop/app:1", "-o", str(directory / "image.html"))
        report(root, "shop/app:1", "shop/app:2", "-o", str(directory / "compare.html"))
        report(root, "hostile:1", "-o", str(directory / "hostile.html"))
        report(root, "--store", "-o", str(directory / "store.html"))
        rules = ("--max", "wasted=1%", "--max", "layers=2", "--fail-under", "efficiency=20%")
        report(root, "shop/app:1", *rules, "-o", str(directory / "rules.html"), code=1)
        for number in (1000, 10_000, 100_000):
            path = directory / f"entries-{number}.html"
            seconds, busy, memory = report(root, f"entries:{number}", "-o", str(path))
            times = f"{seconds:.2f} s ({busy:.2f} s of the processor)"
            print(f"{number:7,} files: {times}, {memory >> 20} MiB, {path.stat().st_size:,} bytes", flush=True)
        shutil.copy(directory / "entries-100000.html", directory / "large.html")
    finally:
        shutil.rmtree(temporary)
    program = shutil.which(browser)
    if program is None:
        print(f"there is no {browser}; on Debian: apt install chromium", file=sys.stderr)
        return 1
    driver = Path(__file__).with_name("drive.mjs")
    return subprocess.run(["node", driver, directory.absolute(), program], cwd=directory, check=False).returncode


if __name__ == "__main__":
    if sys.argv[1] == "--make":
        make_store(Path(sys.argv[2]))
    else:
        sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
