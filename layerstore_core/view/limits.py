"""Limits of the work and the memory that merging layers of unknown origin may take."""

from __future__ import annotations

from typing import Final

from layerstore_core.errors import InvalidLayer

#: The most entries of all layers of a view, with the directories that paths imply.
MAX_ENTRIES: Final = 5_000_000
#: The most bytes of their paths, link targets and extended attributes, and of the paths of the directories that one
#: layer touches: a path of 4 KiB may have two thousand above it.
MAX_PATH_BYTES: Final = 512 << 20
#: The most components of paths and links that are looked up, of a few hundred nanoseconds each. Images of millions of
#: files take some ten million.
MAX_STEPS: Final = 100_000_000


class Budget:
    """What is left of the limits while layers are merged.

    Args:
        max_entries: see `MAX_ENTRIES`.
        max_path_bytes: see `MAX_PATH_BYTES`.
        max_steps: see `MAX_STEPS`.

    Attributes:
        layer: index of the layer that is being merged, for messages.
    """

    def __init__(
        self, max_entries: int = MAX_ENTRIES, max_path_bytes: int = MAX_PATH_BYTES, max_steps: int = MAX_STEPS
    ) -> None:
        self.layer = 0
        self._limits = max_entries, max_path_bytes, max_steps
        self._entries = max_entries
        self._bytes = max_path_bytes
        self._steps = max_steps
        self._layer_bytes = 0

    def begin_layer(self, layer: int) -> None:
        """Begin with the next layer: what was only needed for the last one is free again."""
        self.layer = layer
        self._bytes += self._layer_bytes
        self._layer_bytes = 0

    def add(self, entries: int, size: int, entry: bytes | None = None, offset: int | None = None) -> None:
        """Count entries, and the bytes that are kept of them.

        Raises:
            InvalidLayer: they are too many.
        """
        self._entries -= entries
        self._bytes -= size
        if self._entries < 0 or self._bytes < 0:
            raise InvalidLayer(self._excess(), offset=offset, entry=entry)

    def touch(self, size: int) -> None:
        """Count a path that is remembered for this layer; errors as `add`."""
        self._layer_bytes += size
        self.add(0, size)

    def walk(self, steps: int) -> None:
        """Count components of paths that are looked up.

        Raises:
            InvalidLayer: they are too many.
        """
        self._steps -= steps
        if self._steps < 0:
            raise InvalidLayer(
                f"the names and links of layer {self.layer + 1} take more than {self._limits[2]} steps to look up"
            )

    def _excess(self) -> str:
        entries, size, _ = self._limits
        what = f"more than {entries} entries (max_entries)"
        if self._entries >= 0:
            what = f"paths and attributes of more than {size} bytes (max_path_bytes)"
        return f"with layer {self.layer + 1}, the tree has {what}, counting directories that paths imply"


def clean_target(target: bytes) -> bytes:
    """Return a link's target without empty components and `.`, which lead nowhere: it may have two thousand."""
    if b"./" not in target and b"//" not in target:
        return target
    kept = b"/".join(part for part in target.split(b"/") if part not in (b"", b"."))
    return b"/" + kept if target.startswith(b"/") else kept
