"""Make images and their reports, and use the pages in a browser: what `make browser` does.

The arguments are a directory with playwright-core and axe-core, which gets the pages and screenshots, and a browser.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from layerstore_core import LayerStore
from layerstore_core.images import Images
from tests import tars
from tests.images.archives import ImageSpec, docker_archive
from tests.report.conftest import STATUS
from tests.report.figures import files, layer, load_entries, report

NAMES = (b"</script><script>alert(1)<", b"<!--x", "line\u2028sep".encode(), b"caf\xe9", "a\u202egnp.exe".encode())


def images() -> bytes:
    """Return an archive of all images but the large one."""
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


def make_store(root: Path) -> None:
    """Make a store with all images, in another process: the memory of one is counted for those that it starts."""
    with LayerStore.open(root=root, driver="vfs", durability="none", create=True) as store:
        found = Images(store)
        found.load(io.BytesIO(images()))
        load_entries(found, 100_000)
        store.create_rw_layer("work", parent=found.get("shop/app:1").chain_id).close()


def main(directory: Path, browser: str) -> int:
    """Make the pages, and use them."""
    temporary = Path(tempfile.mkdtemp())
    try:
        root = temporary / "store"
        subprocess.run([sys.executable, "-m", "tests.report.browser", "--make", root], check=True)
        report(root, "shop/app:1", page=directory / "image.html")
        report(root, "shop/app:1", "shop/app:2", page=directory / "compare.html")
        report(root, "hostile:1", page=directory / "hostile.html")
        report(root, "--store", page=directory / "store.html")
        rules = ("--max", "wasted=1%", "--max", "layers=2", "--fail-under", "efficiency=20%")
        report(root, "shop/app:1", *rules, page=directory / "rules.html", code=1)
        report(root, "entries-1:100000", page=directory / "large.html")
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
