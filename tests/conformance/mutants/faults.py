"""Mutants that lose layers, or leave files behind, after a fault."""

from __future__ import annotations

from layerstore_core import hookimpl, remove_tree
from tests.conformance.mutants.base import Correct, Mutant


class LeavesALog(Mutant):
    """`create` writes a log next to the layer, which `remove` leaves, and which counts as a layer."""

    caught_in = "faults"

    @hookimpl
    def create(self, layer_id, parent_id, storage_opt):
        Correct.create(self, layer_id, parent_id, storage_opt)
        (self.home / f"{layer_id}-log").write_text("made")

    @hookimpl
    def exists(self, layer_id):
        return self.tree(layer_id).is_dir()

    @hookimpl
    def remove(self, layer_id):
        remove_tree(str(self.tree(layer_id)))


class ForgetsTheLastLayer(Mutant):
    """A layer is recorded only with the next one, so a crash loses it."""

    caught_in = "faults"

    @hookimpl
    def create(self, layer_id, parent_id, storage_opt):
        Correct.create(self, layer_id, parent_id, storage_opt)
        journal = self.home.parent / "layerstore" / "last"
        self.last = layer_id
        journal.parent.mkdir(exist_ok=True)
        journal.write_text(layer_id)

    def __init__(self, context) -> None:
        super().__init__(context)
        journal = self.home.parent / "layerstore" / "last"
        if journal.exists():
            remove_tree(str(self.tree(journal.read_text())))
            journal.unlink()
