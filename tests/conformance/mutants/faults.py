"""Mutants that lose layers, or leave files behind, after a fault."""

from __future__ import annotations

import os

from layerstore_core import copy_tree, hookimpl, remove_tree
from tests.conformance.mutants.base import Correct, Mutant, unpack_into


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


class HidesWhatItRemoves(Mutant):
    """`remove` moves a layer to a hidden name first, which a killed process leaves, and which nobody lists."""

    caught_in = "faults"

    @hookimpl
    def remove(self, layer_id):
        hidden = self.home / f".removing-{layer_id}"
        if self.tree(layer_id).is_dir():
            self.tree(layer_id).rename(hidden)
            remove_tree(str(hidden))

    @hookimpl
    def layer_ids(self):
        return [name for name in Correct.layer_ids(self) if not name.startswith(".")]


class MovesLayersToSealThem(Mutant):
    """`seal` moves a layer aside and copies it back, so a process that is killed in between loses it."""

    caught_in = "faults"

    @hookimpl
    def seal(self, layer_id):
        aside = self.home / f".sealing-{layer_id}"
        Correct.get(self, layer_id)
        self.tree(layer_id).rename(aside)
        self.tree(layer_id).mkdir()
        copy_tree(aside, self.tree(layer_id))
        remove_tree(str(aside))
        return True

    @hookimpl
    def layer_ids(self):
        return [name for name in Correct.layer_ids(self) if not name.startswith(".")]


class KeepsHalfACopy(Mutant):
    """A `create` that fails while it copies the parent leaves what it has copied."""

    caught_in = "faults"

    @hookimpl
    def create(self, layer_id, parent_id, storage_opt):
        if parent_id:
            os.stat(self.tree(parent_id))
        Correct.create(self, layer_id, "", storage_opt)
        if parent_id:
            copy_tree(self.tree(parent_id), self.tree(layer_id))


class NeedsRoomToRemove(Mutant):
    """`remove` writes a note first, which it cannot on a full disk."""

    caught_in = "faults"

    @hookimpl
    def remove(self, layer_id):
        note = self.home.parent / "layerstore" / "removing"
        if self.tree(layer_id).is_dir():
            note.write_text(layer_id)
        remove_tree(str(self.tree(layer_id)))
        note.unlink(missing_ok=True)


class RewritesLayersUnflushed(Mutant):
    """The first `get` of a layer replaces its files by copies, which nobody flushes."""

    caught_in = "faults"

    @hookimpl
    def apply_diff(self, layer_id, diff):
        size = unpack_into(self, layer_id, diff)
        (self.home / f".new-{layer_id}").touch()
        return size

    @hookimpl
    def get(self, layer_id):
        path = Correct.get(self, layer_id)
        mark, copy = self.home / f".new-{layer_id}", self.home / f".copy-{layer_id}"
        if mark.exists():
            copy.mkdir()
            copy_tree(path, copy)
            remove_tree(path)
            copy.rename(path)
            mark.unlink()
        return path

    @hookimpl
    def remove(self, layer_id):
        Correct.remove(self, layer_id)
        (self.home / f".new-{layer_id}").unlink(missing_ok=True)
        remove_tree(str(self.home / f".copy-{layer_id}"))

    @hookimpl
    def layer_ids(self):
        return [name for name in Correct.layer_ids(self) if not name.startswith(".")]
