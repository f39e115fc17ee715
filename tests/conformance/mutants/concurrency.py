"""Mutants that fail if several threads use them."""

from __future__ import annotations

import os
import time

from layerstore_core import copy_tree, hookimpl, remove_tree, unpack_layer
from tests.conformance.mutants.base import Correct, Mutant


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


class CleansUpNewLayers(Mutant):
    """`cleanup` takes a layer that is being created for one that was never finished."""

    caught_in = "concurrency"

    @hookimpl
    def create(self, layer_id, parent_id, storage_opt):
        if self.tree(layer_id).exists():
            raise FileExistsError(layer_id)
        Correct.create(self, f"new-{layer_id}", parent_id, storage_opt)
        time.sleep(0.005)
        self.tree(f"new-{layer_id}").rename(self.tree(layer_id))

    @hookimpl
    def cleanup(self):
        for path in self.home.glob("new-*"):
            remove_tree(str(path))
