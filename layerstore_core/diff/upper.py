"""Names in a directory of an overlay's upper layer, compared by a kernel: see `native/src/upper.h`."""

from __future__ import annotations

from typing import Final

from layerstore_core.base.kernels import engine
from layerstore_core.diff.change import ChangeKind

_KINDS: Final = {ord("A"): ChangeKind.ADD, ord("C"): ChangeKind.MODIFY}
_OTHER: Final = ord("o")


def compare_upper(upper: int, stack: tuple[bytes, ...]) -> tuple[list[tuple[bytes, ChangeKind]], list[bytes]] | None:
    """Compare the names in a directory of an overlay's upper layer with what overlayfs would show without it.

    Args:
        upper: a descriptor of the directory.
        stack: the paths of the real directories that it is merged with, the uppermost first; none of them is hidden.

    Returns:
        The names of files that were added or changed, and the names that the caller has to compare: directories,
        whiteouts, hard links, and files whose status is that of the lower file. `None` if the caller has to compare
        all, because the kernels are not installed, or cannot read something.
    """
    kernels = engine().kernels
    if kernels is None:
        return None
    try:
        notes, _ = kernels.compare_upper(upper, stack)
    except (OSError, ValueError):
        return None
    changed = [(name, _KINDS[kind]) for kind, name, _ in notes if kind != _OTHER]
    return changed, [name for kind, name, _ in notes if kind == _OTHER]
