"""Mutants that fail if several threads use them."""

from __future__ import annotations

import os

from layerstore_core import copy_tree, hookimpl, remove_tree, unpack_layer
from tests.conformance.mutants.base import Mutant


class ExtractsInOneDirectory(Mutant):
    """All layers are extracted in the same scratch directory, which is then renamed."""

    caught_in = "concurrency"

    @hookimpl
    def apply_diff(self, layer_id, diff):
        from layerstore_core.conformance.rig import stream_of

        data = diff.read()
        scratch = self.context.home.parent / "layerstore" / "scratch"
        if scratch.exists():
            remove_tree(str(scratch))
        copy = scratch
        copy.mkdir()
        copy_tree(self.tree(layer_id), copy)
        size = unpack_layer(stream_of(data), str(copy))
        remove_tree(str(self.tree(layer_id)))
        os.rename(copy, self.tree(layer_id))
        return size


class ShowsOneLayerAtATime(Mutant):
    """`get` returns the same path for every layer, a link to the layer of the last `get`."""

    caught_in = "concurrency"

    @hookimpl
    def get(self, layer_id):
        used = self.home.parent / "layerstore" / "in-use"
        while used.is_symlink():
            used.unlink(missing_ok=True)
        os.stat(self.tree(layer_id))
        used.symlink_to(self.tree(layer_id))
        return str(used)
