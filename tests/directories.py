"""Temporary directories with names that programs accept as parts of other names."""

from __future__ import annotations

import secrets
from pathlib import Path


def new_directory(top: Path, prefix: str) -> Path:
    """Make a directory with a random name.

    Clients take paths of layouts for names of images, which cannot have `-_` or `___` as `tempfile` makes them.
    Names are short: the path of a socket has at most 107 bytes.
    """
    directory = top / f"{prefix}{secrets.token_hex(4)}"
    directory.mkdir(mode=0o700)
    return directory
