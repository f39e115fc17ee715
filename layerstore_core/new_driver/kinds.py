"""The kinds of drivers that there are templates for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of driver.

    Attributes:
        name: its name; its templates are in the folder of this name.
        keeps: how it keeps a layer, as the end of "keeps each layer as …".
        needs: what a machine needs for it.
        options: the lines of its table of options.
        modules: the templates of the Python package: that of the driver, and others.
    """

    name: str
    keeps: str
    needs: str
    modules: tuple[str, ...] = ("driver.py", "options.py")
    options: str = "| none yet | | |"


KINDS: Final = {
    kind.name: kind
    for kind in (
        Kind(
            "copy",
            "a directory that begins as a copy of its parent",
            "It needs no privileges and no feature of the kernel.",
        ),
        Kind(
            "overlay",
            "a directory of its own files, which overlayfs stacks on those of its parents",
            "It mounts: run it as root. An ordinary user's commands enter a user namespace by themselves; tests are "
            "run there by `layerstore unshare pytest`.",
            ("driver.py", "options.py", "mounts.py"),
        ),
        Kind(
            "image",
            "one compressed file, which is unpacked while the layer is used",
            "It needs no privileges and no feature of the kernel.",
            ("driver.py", "options.py", "images.py"),
            "| `level` | 1 | how hard gzip tries, from 0 to 9 |",
        ),
        Kind(
            "pool",
            "a directory of hard links to files in a pool, which has each file once",
            "It needs no privileges, and a file system with hard links.",
            ("driver.py", "options.py", "pool.py"),
            "| `smallest` | 1 | the size of the smallest files that the pool has, in bytes |",
        ),
    )
}
