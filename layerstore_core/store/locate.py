"""Find out whether there is a store under a root, so that a mistyped name does not create one."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from layerstore_core.errors import LayerStoreError, StoreDoesNotExist, while_doing

#: One of these is under every root: Docker's records, and our own state.
_MARKS: Final = ("image", "layerstore")
_DESCRIPTORS: Final = "/proc/self/fd"


def has_store(root: Path) -> bool:
    """Return whether Docker or this package has created a store under `root`.

    Raises:
        OSError: the root cannot be looked into.
    """
    with while_doing("looking for the store"):
        return any(_is_there(root / mark) for mark in _MARKS)


def require_store(root: Path, source: str) -> None:
    """Refuse a root without a store.

    Args:
        root: the store's directory.
        source: where that setting came from, as `StoreConfig.sources` says.

    Raises:
        StoreDoesNotExist: there is no store; the message names stores nearby that are spelt alike.
        OSError: the root cannot be looked into.
    """
    if has_store(root):
        return
    why = "there is no such directory"
    if os.path.lexists(root):
        why = "this directory holds none" if root.is_dir() else "this is no directory"
    near = _spelt_alike(root)
    hint = f"did you mean {' or '.join(near)}? Otherwise name" if near else "name"
    raise StoreDoesNotExist(
        f"there is no store at {root}: {why} (setting root, from: {source}); {hint} another with --root or "
        "LAYERSTORE_ROOT, or create one with 'layerstore register' or 'layerstore rw create'"
    )


def require_proc() -> None:
    """Check that /proc is mounted: reading and creating trees needs it.

    Raises:
        LayerStoreError: it is not mounted.
    """
    if not os.path.isdir(_DESCRIPTORS):
        raise LayerStoreError(
            f"there is no {_DESCRIPTORS}: files get their owners, modes, attributes and times by their descriptors "
            "there, so that no link is followed; mount it with `mount -t proc proc /proc`, in a chroot or container "
            "too"
        )


def _is_there(path: Path) -> bool:
    """Return whether there is a directory or a link. The code that opens it reports a link."""
    try:
        mode = os.lstat(path).st_mode
        return stat.S_ISDIR(mode) or stat.S_ISLNK(mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _spelt_alike(root: Path) -> list[str]:
    """Return the stores next to `root`, or directly in it, whose names are like the one given."""
    import difflib

    try:
        near = difflib.get_close_matches(root.name, sorted(os.listdir(root.parent)), n=3)
        candidates = [root.parent / name for name in near if name != root.name]
        if root.is_dir():
            candidates += [root / name for name in sorted(os.listdir(root))[:1000]]
        return [str(path) for path in candidates if _looks_like_a_store(path)][:3]
    except OSError:  # no more than a hint
        return []


def _looks_like_a_store(path: Path) -> bool:
    try:
        return has_store(path)
    except OSError:
        return False
