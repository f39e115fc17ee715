"""The layers below a layer, made ready to be looked at or mounted."""

from __future__ import annotations

import os

from layerstore_overlay.applying import Notes, drop_idle_whiteouts, give_metadata
from layerstore_overlay.layout import Layout
from layerstore_overlay.lowers import LowerLayers, OverlayXattrs


class Chains:
    """The chains of layers in one home.

    Args:
        layout: where they are.
        xattrs: how overlayfs marks opaque directories here.
        read_only: settle nothing; where that was left to do, a mount may show a directory's metadata less well.
    """

    def __init__(self, layout: Layout, xattrs: OverlayXattrs, *, read_only: bool = False) -> None:
        self._read_only = read_only
        self._layout = layout
        self._xattrs = xattrs
        #: Of layers that have children, and so change no more: whether they hide all layers below them.
        self._settled: dict[str, bool] = {}

    def below(self, layer_id: str) -> LowerLayers:
        """The merged tree below a layer, as it stands: parents may still be on their way."""
        return LowerLayers(lambda: map(self._layout.resolve, self._layout.lower(layer_id)), self._xattrs)

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
        if self._xattrs.is_opaque(self._upper(layer_id)):
            return []
        shown = []
        for link in self._layout.lower(layer_id):
            shown.append(link)
            if self._settled[link]:
                break
        return shown

    def begin(self, layer_id: str, *, complete: bool) -> None:
        """Have the root of a new layer take the metadata of its parent's root.

        Args:
            layer_id: a layer that has a parent.
            complete: the parents are all complete. Otherwise it is done again when the layer is first used.
        """
        self._layout.write_notes(layer_id, [b"d"])
        if complete:
            self._settle(layer_id)

    def note(self, layer_id: str, notes: Notes) -> None:
        """Write down what is to be settled when all that is below is certain to be complete."""
        # The root of a layer that was in use has the metadata that it is to have.
        begun = self._layout.read_notes(layer_id) == [b"d"]
        implied = [path for path in notes.implied if path or begun]
        if implied or notes.whiteouts:
            self._layout.write_notes(layer_id, [*(b"d" + path for path in implied),
                                                *(b"w" + path for path in notes.whiteouts)])  # fmt: skip
            # Most layers are applied after their parents: then it is right at once, also for Docker.
            give_metadata(self._upper(layer_id), implied, self.below(layer_id), self._xattrs)
        else:
            self._layout.remove_notes(layer_id)

    def _settle(self, layer_id: str) -> None:
        """Settle the notes of the layer and of all below it, the lowest first."""
        for link in reversed(self._layout.lower(layer_id)):
            if link not in self._settled:
                path = self._layout.resolve(link)
                self._settle_one(os.path.basename(os.path.dirname(path)))
                self._settled[link] = self._xattrs.is_opaque(os.fsencode(path))
        self._settle_one(layer_id)

    def _settle_one(self, layer_id: str) -> None:
        notes = [] if self._read_only else self._layout.read_notes(layer_id)
        if notes:
            upper, below = self._upper(layer_id), self.below(layer_id)
            give_metadata(upper, [note[1:] for note in notes if note[:1] == b"d"], below, self._xattrs)
            drop_idle_whiteouts(upper, [note[1:] for note in notes if note[:1] == b"w"], below, self._xattrs)
            self._layout.remove_notes(layer_id)

    def _upper(self, layer_id: str) -> bytes:
        return os.fsencode(self._layout.path(layer_id, "diff"))
