"""Making EROFS images with the program mkfs.erofs, which is in Debian's package erofs-utils."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

PROGRAM = "mkfs.erofs"
#: In bytes. mkfs.erofs up to 1.5 (Debian 12) fails on a name of 255 bytes, which the format and the kernel allow.
_LONGEST_NAME = 254


def name_beyond_mkfs(tree: Path) -> str:
    """Return a name in a tree that is too long for `mkfs.erofs`; empty if there is none."""
    for _, directories, names in os.walk(tree):
        for name in (*directories, *names):
            if len(os.fsencode(name)) > _LONGEST_NAME:
                return name
    return ""


def make_image(tree: Path, image: Path, compression: str) -> None:
    """Write a directory tree into a new image, with the marks by which overlayfs deletes names.

    After a failure there is no image, not even a part of one.

    Args:
        tree: the directory tree.
        image: the path of the new image.
        compression: an argument of `mkfs.erofs -z`; empty for no compression.

    Raises:
        OSError: the program is missing or fails.
    """
    scratch = image.with_suffix(".partial")
    command = [PROGRAM, "--quiet", "--preserve-mtime", "-Eforce-inode-extended"]
    if compression:
        command.append(f"-z{compression}")
    try:
        done = subprocess.run([*command, scratch, tree], capture_output=True, text=True, check=False)
        if done.returncode:
            raise OSError(errno.EIO, f"{PROGRAM} failed: {done.stderr.strip()[-500:]}", str(image))
        os.replace(scratch, image)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
