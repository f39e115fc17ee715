"""Small work, which is mostly the start of a program: each contender is one process, or four."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Final

from benchmarks import inputs
from benchmarks.contenders import Contender, PreparationError, absent, inside, program, run, shell
from benchmarks.workshop import Workshop

#: The entries of a tar of 10 KB.
_ENTRIES: Final = 10
NOTHING: Final = "python -c pass"
FOUR: Final = "create, mount, umount, rm"
_CYCLES: Final = 20


def starting(shop: Workshop) -> list[Contender]:
    """Return the contenders for small work: ours and podman's. A Python that does nothing is the reference."""
    tar, root = shop.work / "tiny.tar", shop.work / "started"
    inputs.even_files(tar, _ENTRIES)
    driver = "vfs" if os.geteuid() else "overlay2"
    chain = run(program("register", str(tar), root=root, driver=driver))
    new = Path("store")  # in the directory of the run
    four = [
        ["rw", "create", "work", "--parent", chain],
        *(["rw", what, "work"] for what in ("mount", "umount", "rm")),
    ]
    # The words of the program are the shell's `$@`, to which each command adds its own.
    script = "; ".join(f'"$@" {" ".join(words)}' for words in four)
    return [
        Contender(NOTHING, "the interpreter alone", [sys.executable, "-c", "pass"]),
        Contender("layerstore --version", "", program("--version", root=root)),
        Contender("layerstore ls", "a store of one layer", program("ls", root=root, driver=driver)),
        Contender(
            "layerstore register",
            "a tar of 10 KB; a new store",
            program("register", str(tar), root=new, driver=driver),
        ),
        Contender(
            f"layerstore rw {FOUR}",
            "four processes, a writable layer",
            shell(script, *program(root=root, driver=driver)),
        ),
        Contender(
            "layerstore, in one process",
            f"{FOUR} through the API; one of {_CYCLES} times",
            inside("cycle", str(root), driver, chain, str(_CYCLES)),
            prints_seconds=True,
        ),
        *_podman(shop, tar),
    ]


def _podman(shop: Workshop, tar: Path) -> list[Contender]:
    if shutil.which("podman") is None or os.geteuid():
        return [Contender(f"podman {FOUR}", "", ["podman"], "podman", needs_root=True)]
    archive = shop.archive_of([(tar, inputs.digest_of(tar))], "tiny")
    root = shop.work / "podman"
    podman = ["podman", "--root", str(root), "--runroot", str(root / "run"), "--storage-driver", "overlay"]
    try:
        run([*podman, "load", "-qi", str(archive)])
    except PreparationError:
        return [absent(f"podman {FOUR}", "", "podman")]
    made = 'id=$("$@" create bench-tiny true)'
    four = f'{made}; for what in mount umount rm; do "$@" $what $id; done'
    load = ["podman", "--root", "cs", "--runroot", "run", "--storage-driver", "overlay", "load", "-qi", str(archive)]
    return [
        Contender("podman --version", "", ["podman", "--version"], "podman"),
        Contender("podman images", "a store of one image", [*podman, "images"], "podman"),
        Contender("podman load", "an image of that layer; a new store", load, "podman"),
        Contender(f"podman {FOUR}", "four processes, a container that never runs", shell(four, *podman), "podman"),
    ]
