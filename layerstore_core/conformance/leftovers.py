"""What tests leave under their roots: mounts, and files."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

from layerstore_core.tree.remove import remove_tree


def mounts_below(directory: Path) -> list[str]:
    """Return the mount points under a directory, in the order in which they were mounted."""
    top = os.path.realpath(directory) + "/"
    with open("/proc/self/mountinfo", "rb") as lines:
        points = [line.split(b" ")[4].decode("unicode_escape") for line in lines]
    return [point for point in points if point.startswith(top)]


def remove_root(root: Path) -> None:
    """Unmount what is mounted under a directory, and remove it."""
    for path in reversed(mounts_below(root)):
        subprocess.run(["umount", "--lazy", path], check=False, capture_output=True)
    remove_tree(os.fsencode(root))


def removal(root: Path) -> str:
    """Return the command for a shell that does what `remove_root` does."""
    mounts = [f"umount {shlex.quote(path)}" for path in reversed(mounts_below(root))]
    above = f"rmdir -p --ignore-fail-on-non-empty {shlex.quote(str(root.parent))}"
    return " && ".join([*mounts, f"rm -r {shlex.quote(str(root))}", above])
