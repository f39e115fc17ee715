"""The correct driver, of which each mutant is a small change."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import ClassVar

from layerstore_core import ConfigError, copy_tree, hookimpl, remove_tree, unpack_layer


class Correct:
    """A correct driver, the base of all mutants."""

    driver_name = "mutant"

    def __init__(self, context) -> None:
        self.context = context
        self.home: Path = context.home

    def tree(self, layer_id) -> Path:
        return self.home / layer_id

    @hookimpl
    def create(self, layer_id, parent_id, storage_opt):
        if storage_opt:
            raise ConfigError(f"unknown options {sorted(storage_opt)}")
        if parent_id:
            os.stat(self.tree(parent_id))
        self.home.mkdir(mode=0o710, parents=True, exist_ok=True)
        self.tree(layer_id).mkdir()
        try:
            self.fill(layer_id, parent_id)
        except BaseException:
            remove_tree(str(self.tree(layer_id)))
            raise

    def fill(self, layer_id, parent_id) -> None:
        tree = self.tree(layer_id)
        tree.chmod(0o755)
        if os.geteuid() == 0:
            os.chown(tree, *self.context.id_mapping.root_pair())
        if parent_id:
            self.copy(self.tree(parent_id), tree)

    def copy(self, source: Path, target: Path) -> None:
        copy_tree(source, target)

    @hookimpl
    def create_read_write(self, layer_id, parent_id, mount_label, storage_opt):
        if mount_label:
            raise ConfigError("no files can be labelled")
        self.create(layer_id, parent_id, storage_opt)

    @hookimpl
    def remove(self, layer_id):
        remove_tree(str(self.tree(layer_id)))

    @hookimpl
    def get(self, layer_id):
        os.stat(self.tree(layer_id))
        return str(self.tree(layer_id))

    @hookimpl
    def put(self, layer_id):
        pass

    @hookimpl
    def exists(self, layer_id):
        return self.tree(layer_id).is_dir()

    @hookimpl
    def layer_ids(self):
        return sorted(os.listdir(self.home)) if self.home.is_dir() else []


class Mutant(Correct):
    """The base of all mutants.

    Attributes:
        caught_in: the group in which a driver's author would look for the fault.
    """

    caught_in: ClassVar[str] = ""


class Mounting(Mutant):
    """The base of mutants that mount a layer on itself while the layer is in use."""

    @hookimpl
    def get(self, layer_id):
        tree = self.tree(layer_id)
        os.stat(tree)
        if not os.path.ismount(tree):
            self.mount(layer_id)
        return str(tree)

    def mount(self, layer_id) -> None:
        tree = self.tree(layer_id)
        subprocess.run(["mount", "--bind", tree, tree], check=True)


def unpack_into(self, layer_id, diff) -> int:
    """Extract a layer's tar as a correct driver would. Return the layer's size."""
    return unpack_layer(diff, str(self.tree(layer_id)), id_mapping=self.context.id_mapping)
