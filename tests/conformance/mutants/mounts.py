"""Mutants that mislead an engine, or lose what an engine has written."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess

from layerstore_core import MountSpec, copy_tree, hookimpl, remove_tree
from tests.conformance.mutants.base import Correct, Mutant


class _Giving(Mutant):
    """The base of mutants that have both hooks, and would be correct without their own changes."""

    @hookimpl
    def mounts(self, layer_id, read_only):
        return [MountSpec.bind(self.get(layer_id), read_only=read_only)]

    @hookimpl
    def seal(self, layer_id):
        self.get(layer_id)
        return True


class GivesTheParent(_Giving):
    """`mounts` of a writable layer names the directory of its parent, as if they shared it."""

    caught_in = "mounts"

    @hookimpl
    def create_read_write(self, layer_id, parent_id, mount_label, storage_opt):
        super().create_read_write(layer_id, parent_id, mount_label, storage_opt)
        self.parents = {**getattr(self, "parents", {}), layer_id: parent_id}

    @hookimpl
    def mounts(self, layer_id, read_only):
        shown = getattr(self, "parents", {}).get(layer_id) or layer_id
        return [MountSpec.bind(self.get(shown), read_only=read_only)]


class GivesWritableMounts(_Giving):
    """`mounts` ignores `read_only`."""

    caught_in = "mounts"

    @hookimpl
    def mounts(self, layer_id, read_only):
        return [MountSpec.bind(self.get(layer_id), read_only=False)]


class GivesACopy(_Giving):
    """`mounts` gives a fresh copy of the layer, so what an engine writes is not in the layer."""

    caught_in = "mounts"

    @hookimpl
    def mounts(self, layer_id, read_only):
        copy = self.context.home.parent / f"copy-{secrets.token_hex(8)}"
        copy.mkdir()
        copy_tree(self.get(layer_id), copy)
        return [MountSpec.bind(str(copy), read_only=read_only)]


class GivesAnotherNameEachTime(_Giving):
    """`mounts` gives the layer by a new path each time, so an engine cannot compare it with what is mounted."""

    caught_in = "mounts"

    @hookimpl
    def mounts(self, layer_id, read_only):
        self.asked = getattr(self, "asked", 0) + 1
        return [MountSpec.bind(self.get(layer_id) + "/." * self.asked, read_only=read_only)]


class MountsByItself(_Giving):
    """`mounts` mounts the layer, and nobody unmounts it."""

    caught_in = "mounts"

    @hookimpl
    def mounts(self, layer_id, read_only):
        tree = self.get(layer_id)
        if not os.path.ismount(tree):
            subprocess.run(["mount", "--bind", tree, tree], check=True)
        return [MountSpec.bind(tree, read_only=read_only)]


class GivesUnknownLayers(_Giving):
    """`mounts` does not look whether there is such a layer."""

    caught_in = "mounts"

    @hookimpl
    def mounts(self, layer_id, read_only):
        return [MountSpec.bind(str(self.tree(layer_id)), read_only=read_only)]


class DisturbsTheMount(_Giving):
    """`get` replaces the layer's directory by a copy, so an engine's mount shows the old one."""

    caught_in = "mounts"

    @hookimpl
    def mounts(self, layer_id, read_only):
        return [MountSpec.bind(Correct.get(self, layer_id), read_only=read_only)]

    @hookimpl
    def get(self, layer_id):
        tree = self.tree(layer_id)
        os.stat(tree)
        copy = self.home / f"{layer_id}-copy"
        copy.mkdir()
        copy_tree(tree, copy)
        remove_tree(str(tree))
        copy.rename(tree)
        return str(tree)


class SealsNothing(_Giving):
    """`seal` answers True, but `check_layer` finds the layer incomplete."""

    caught_in = "mounts"

    @hookimpl
    def create_read_write(self, layer_id, parent_id, mount_label, storage_opt):
        super().create_read_write(layer_id, parent_id, mount_label, storage_opt)
        self.unsealed = {*getattr(self, "unsealed", ()), layer_id}

    @hookimpl
    def check_layer(self, layer_id, parent_id):
        return ["the layer is not complete"] if layer_id in getattr(self, "unsealed", ()) else []


class SealedLayersLoseEmptyDirectories(_Giving):
    """`seal` tidies the layer up, and removes empty directories."""

    caught_in = "mounts"

    @hookimpl
    def seal(self, layer_id):
        for where, _, _ in os.walk(self.get(layer_id), topdown=False):
            if not os.listdir(where) and where != str(self.tree(layer_id)):
                os.rmdir(where)
        return True


class SealsOnlyOnce(_Giving):
    """A second `seal` answers False, as if the layer had to be copied."""

    caught_in = "mounts"

    @hookimpl
    def seal(self, layer_id):
        self.get(layer_id)
        mark = self.context.home.parent / "layerstore" / f"sealed-{layer_id}"
        if mark.exists():
            return False
        mark.touch()
        return True


class SealsEveryName(_Giving):
    """`seal` answers True for a layer that does not exist."""

    caught_in = "mounts"

    @hookimpl
    def seal(self, layer_id):
        return True


class DeletesVolumes(Mutant):
    """`remove` deletes all that it finds below the layer's directory, also what is mounted there."""

    caught_in = "mounts"

    @hookimpl
    def remove(self, layer_id):
        shutil.rmtree(self.tree(layer_id), ignore_errors=True)
