"""Who takes part in what: commands that are run as a whole, and what each of them does.

A contender's `before` runs outside the measured time and makes what the command needs; `program` must be installed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Contender:
    """One program at one piece of work.

    Attributes:
        name: in tables and charts.
        does: what it does of the work, stated fairly.
        command: what is measured, in a fresh directory.
        program: what must be installed.
        before: what is to be done first, given the directory.
    """

    name: str
    does: str
    command: list[str]
    program: str = "python3"
    before: Callable[[Path], object] = field(default=lambda _: None)

    @property
    def missing(self) -> bool:
        """Whether it cannot be run here."""
        return shutil.which(self.program) is None


def layerstore(*arguments: str, driver: str = "vfs") -> list[str]:
    """A command line of this checkout's layerstore, with its store in the current directory."""
    return [sys.executable, "-m", "layerstore_core", "--root", "store", "--driver", driver, *arguments]


def _python(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", code, *arguments]


_EXTRACTALL = "import sys, tarfile; tarfile.open(sys.argv[1]).extractall('x', filter='tar')"
_COPY = "import os; from layerstore_core import copy_tree; os.mkdir('copy'); copy_tree('tree', 'copy')"
_COMPARE = "import sys; from layerstore_core import compare_trees; compare_trees(*sys.argv[1:])"


def registering(tar: Path, docker: list[str] | None, archive: Path) -> list[Contender]:
    """A tar comes in."""
    name = str(tar)
    found = [
        Contender("layerstore, vfs", "hash, tar-split, extraction, commit", layerstore("register", name)),
        Contender(
            "layerstore, overlay2",
            "hash, tar-split, extraction, commit",
            layerstore("register", name, driver="overlay2"),
        ),
        Contender("GNU tar -x", "extraction", ["tar", "-xf", name, "-C", "x"], "tar", _make("x")),
        Contender("bsdtar -x", "extraction", ["bsdtar", "-xf", name, "-C", "x"], "bsdtar", _make("x")),
        Contender("sha256sum", "hash", ["sha256sum", name], "sha256sum"),
        Contender("Python tarfile", "extraction", _python(_EXTRACTALL, name)),
        Contender(
            "containers-storage",
            "hash, tar-split, extraction",
            [
                "containers-storage",
                "--root",
                "cs",
                "--runroot",
                "run",
                "--storage-driver",
                "vfs",
                "import-layer",
                "-f",
                name,
            ],
            "containers-storage",
        ),
    ]
    if docker:
        remove = [*docker, "rmi", "-f", "bench"]
        found.append(
            Contender(
                "docker load",
                "copy, hash, tar-split, extraction",
                [*docker, "load", "-qi", str(archive)],
                "docker",
                lambda _: subprocess.run(remove, check=False, capture_output=True),
            )
        )
    return found


def exporting(store: Path, chain: str, tree: Path, docker: list[str] | None) -> list[Contender]:
    """A layer goes out, into a file."""
    export = [
        sys.executable,
        "-m",
        "layerstore_core",
        "--root",
        str(store),
        "--driver",
        "vfs",
        "export",
        chain,
        "-o",
        "o",
    ]
    found = [
        Contender("layerstore export", "reassembly, checksums, hash, writing", export),
        Contender("GNU tar -c", "packing, writing", ["tar", "-cf", "o", "-C", str(tree), "."], "tar"),
        Contender("bsdtar -c", "packing, writing", ["bsdtar", "-cf", "o", "-C", str(tree), "."], "bsdtar"),
    ]
    if docker:
        save = [*docker, "save", "-o", "o", "bench"]
        found.append(Contender("docker save", "reassembly, hash, writing", save, "docker"))
    return found


def copying(tree: Path) -> list[Contender]:
    """A tree is copied, as creating a vfs child does."""

    def link(where: Path) -> None:
        (where / "tree").symlink_to(tree)

    return [
        Contender("layerstore copy_tree", "exact copy", _python(_COPY), before=link),
        Contender("cp -a", "exact copy", ["cp", "-a", "--reflink=auto", f"{tree}/.", "copy"], "cp", _make("copy")),
    ]


def comparing(tree: Path, other: Path) -> list[Contender]:
    """Two trees are compared."""
    return [
        Contender("layerstore compare_trees", "all metadata and attributes", _python(_COMPARE, str(tree), str(other))),
        Contender(
            "rsync -an --delete",
            "size, time, mode, owner",
            ["rsync", "-an", "--delete", f"{tree}/", f"{other}/"],
            "rsync",
        ),
    ]


def _make(name: str) -> Callable[[Path], object]:
    return lambda where: (where / name).mkdir()


@contextmanager
def docker_daemon(work: Path) -> Iterator[list[str] | None]:
    """A Docker daemon of our own, and the client's command line; `None` where there is none or it does not start."""
    if shutil.which("dockerd") is None or shutil.which("docker") is None:
        yield None
        return
    home = work / "docker"
    home.mkdir()
    socket = f"unix://{home}/socket"
    options = ["--bridge=none", "--iptables=false", f"--data-root={home}/data", f"--exec-root={home}/exec"]
    options += [f"--pidfile={home}/pid", "-H", socket, "--storage-driver=overlay2"]
    with (home / "log").open("wb") as log, subprocess.Popen(["dockerd", *options], stdout=log, stderr=log) as daemon:
        client = ["docker", "-H", socket]
        try:
            for _ in range(100):
                if subprocess.run([*client, "info"], check=False, capture_output=True).returncode == 0:
                    yield client
                    return
                if daemon.poll() is not None:
                    break
                time.sleep(0.2)
            yield None
        finally:
            daemon.terminate()
