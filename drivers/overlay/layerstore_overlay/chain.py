"""The layers below a layer, made ready to be looked at or mounted."""

from __future__ import annotations

import os
from collections.abc import Sequence

from layerstore_overlay.applying import settle_implied
from layerstore_overlay.layout import Layout
from layerstore_overlay.lowers import LowerLayers, OverlayXattrs


class Chains:
    """The chains of layers in one home.

    Args:
        layout: where they are.
        xattrs: how overlayfs marks opaque directories here.
    """

    def __init__(self, layout: Layout, xattrs: OverlayXattrs) -> None:
        self._layout = layout
        self._xattrs = xattrs
        #: Of layers that have children, and so change no more: whether they hide all layers below them.
        self._settled: dict[str, bool] = {}

    def below(self, layer_id: str) -> LowerLayers:
        """The merged tree below a layer, as it stands: parents may still be on their way."""
        return self._merged(self._layout.lower(layer_id))

    def settled_below(self, layer_id: str) -> LowerLayers:
        """The merged tree below a layer, as a mount shows it, once the layer and its parents are complete."""
        self._settle(layer_id)
        return self.below(layer_id)

    def shown_below(self, layer_id: str) -> list[str]:
        """The short names of the layers below that a mount of the layer shows, the nearest first.

        overlayfs does not look for the mark of an opaque directory on the roots of layers: those that such
        a root hides are left out here.
        """
        self._settle(layer_id)
        if self._xattrs.is_opaque(os.fsencode(self._layout.path(layer_id, "diff"))):
            return []
        shown = []
        for link in self._layout.lower(layer_id):
            shown.append(link)
            if self._settled[link]:
                break
        return shown

    def note_implied(self, layer_id: str, paths: Sequence[bytes]) -> None:
        """Give the directories that a layer's tar left out their metadata.

        What is below may not be complete yet: it is done again when the layer is settled.
        """
        if not paths:
            return
        self._layout.write_implied(layer_id, paths)
        self._give(layer_id, paths)

    def _settle(self, layer_id: str) -> None:
        """See that the layer, and all below it, have what their tars left out; the lowest layer first."""
        for link in reversed(self._layout.lower(layer_id)):
            if link not in self._settled:
                path = self._layout.resolve(link)
                self._settle_one(os.path.basename(os.path.dirname(path)))
                self._settled[link] = self._xattrs.is_opaque(os.fsencode(path))
        self._settle_one(layer_id)

    def _settle_one(self, layer_id: str) -> None:
        paths = self._layout.read_implied(layer_id)
        if paths:
            self._give(layer_id, paths)
            self._layout.remove_implied(layer_id)

    def _give(self, layer_id: str, paths: Sequence[bytes]) -> None:
        upper = os.fsencode(self._layout.path(layer_id, "diff"))
        settle_implied(upper, paths, self.below(layer_id), self._xattrs)

    def _merged(self, links: Sequence[str]) -> LowerLayers:
        return LowerLayers([self._layout.resolve(link) for link in links], self._xattrs)
