"""Mutants that fail when they are opened again."""

from __future__ import annotations

import os
import subprocess

from layerstore_core import hookimpl, remove_tree
from tests.conformance.mutants.base import Correct, Mounting, Mutant


class BreaksOnReopen(Mutant):
    """The driver empties its home when it starts."""

    caught_in = "restart"

    def __init__(self, context) -> None:
        super().__init__(context)
        remove_tree(str(self.home))


class RemembersInMemory(Mutant):
    """Only the instance that has created a layer knows it."""

    caught_in = "restart"

    def __init__(self, context) -> None:
        super().__init__(context)
        self.known: set[str] = set()

    @hookimpl
    def create(self, layer_id, parent_id, storage_opt):
        Correct.create(self, layer_id, parent_id, storage_opt)
        self.known.add(layer_id)

    @hookimpl
    def remove(self, layer_id):
        Correct.remove(self, layer_id)
        self.known.discard(layer_id)

    @hookimpl
    def exists(self, layer_id):
        return layer_id in self.known


class UnmountsItsOwnOnly(Mounting):
    """`put` unmounts only what this instance has mounted."""

    caught_in = "restart"

    def __init__(self, context) -> None:
        super().__init__(context)
        self.mounted: set[str] = set()

    def mount(self, layer_id) -> None:
        super().mount(layer_id)
        self.mounted.add(layer_id)

    @hookimpl
    def put(self, layer_id):
        if layer_id in self.mounted:
            self.mounted.discard(layer_id)
            subprocess.run(["umount", self.tree(layer_id)], check=True)

    @hookimpl
    def remove(self, layer_id):
        while os.path.ismount(self.tree(layer_id)):
            subprocess.run(["umount", self.tree(layer_id)], check=True)
        remove_tree(str(self.tree(layer_id)))


class NotesEachStart(Mutant):
    """Each instance notes when it was started, also one that must write nothing."""

    caught_in = "restart"

    def __init__(self, context) -> None:
        super().__init__(context)
        if self.home.is_dir():
            (self.home / ".started").write_text("x")

    @hookimpl
    def layer_ids(self):
        return [name for name in Correct.layer_ids(self) if not name.startswith(".")]
