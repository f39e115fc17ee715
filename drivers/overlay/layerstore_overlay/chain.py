"""The lower layers of a layer, and the notes that must be applied before they are read or mounted."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from layerstore_overlay.layout import Layout
from layerstore_overlay.lowers import LowerLayers, OverlayXattrs

if TYPE_CHECKING:
    from layerstore_overlay.unpack import Notes


class LowerChains:
    """The lower layers of all layers in one home.

    Args:
        layout: the driver's files.
        xattrs: how overlayfs marks opaque directories here.
        read_only: apply no notes. Then a mount may show wrong metadata of directories for which a layer has a note.
    """

    def __init__(self, layout: Layout, xattrs: OverlayXattrs, *, read_only: bool = False) -> None:
        self._read_only = read_only
        self._layout = layout
        self._xattrs = xattrs
        #: The short names of lower layers whose notes were applied. They have children, so they do not change any more.
        #: The value is whether the layer's root is opaque, and hides all layers below it.
        self._applied: dict[str, bool] = {}

    def lowers(self, layer_id: str) -> LowerLayers:
        """Return the merged tree of the lower layers as it is now: some may be incomplete."""
        return LowerLayers(lambda: map(self._layout.resolve, self._layout.lower(layer_id)), self._xattrs)

    def complete_lowers(self, layer_id: str) -> LowerLayers:
        """Return the merged tree of the lower layers as a mount shows it. The layer and they must be complete."""
        self._apply_notes(layer_id)
        return self.lowers(layer_id)

    def shown_lowers(self, layer_id: str) -> list[str]:
        """Return the short names of the lower layers that a mount of the layer shows, the uppermost first.

        overlayfs ignores the opaque mark on the roots of layers. So layers that an opaque root hides are left out here.
        """
        self._apply_notes(layer_id)
        if self._xattrs.is_opaque(self._upper(layer_id)):
            return []
        shown = []
        for link in self._layout.lower(layer_id):
            shown.append(link)
            if self._applied[link]:
                break
        return shown

    def begin(self, layer_id: str, *, complete: bool) -> None:
        """Let the root of a new layer inherit the metadata of its parent's root.

        Args:
            layer_id: a layer that has a parent.
            complete: the lower layers are all complete, so this is done at once. Otherwise it is noted, and done when
                the layer is first used.
        """
        if not complete:
            self._layout.write_notes(layer_id, [b"d"])
            return
        from layerstore_overlay.unpack import inherit_metadata

        self._apply_notes(layer_id)
        inherit_metadata(self._upper(layer_id), [b""], self.lowers(layer_id), self._xattrs)

    def note(self, layer_id: str, notes: Notes) -> None:
        """Write the notes of a layer, to be applied when all lower layers are complete."""
        # If there is no note of `begin`, the layer is writable or was in use: its root has the right metadata.
        begun = self._layout.read_notes(layer_id) == [b"d"]
        implied = [path for path in notes.implied if path or begun]
        if implied or notes.whiteouts:
            self._layout.write_notes(layer_id, [*(b"d" + path for path in implied),
                                                *(b"w" + path for path in notes.whiteouts)])  # fmt: skip
            from layerstore_overlay.unpack import inherit_metadata

            # Most layers are applied after their parents. Then the metadata is right at once, also for Docker.
            inherit_metadata(self._upper(layer_id), implied, self.lowers(layer_id), self._xattrs)
        else:
            self._layout.remove_notes(layer_id)

    def _apply_notes(self, layer_id: str) -> None:
        """Apply the notes of the lower layers and of the layer, the lowest first."""
        for link in reversed(self._layout.lower(layer_id)):
            if link not in self._applied:
                path = self._layout.resolve(link)
                self._apply_notes_of(os.path.basename(os.path.dirname(path)))
                self._applied[link] = self._xattrs.is_opaque(os.fsencode(path))
        self._apply_notes_of(layer_id)

    def _apply_notes_of(self, layer_id: str) -> None:
        notes = [] if self._read_only else self._layout.read_notes(layer_id)
        if notes:
            from layerstore_overlay.unpack import inherit_metadata, remove_idle_whiteouts

            upper, lowers = self._upper(layer_id), self.lowers(layer_id)
            inherit_metadata(upper, [note[1:] for note in notes if note[:1] == b"d"], lowers, self._xattrs)
            remove_idle_whiteouts(upper, [note[1:] for note in notes if note[:1] == b"w"], lowers, self._xattrs)
            self._layout.remove_notes(layer_id)

    def _upper(self, layer_id: str) -> bytes:
        return os.fsencode(self._layout.path(layer_id, "diff"))
