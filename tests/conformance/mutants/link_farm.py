"""A driver whose read-only layers have hard links to their parents' files, like copies by `cp -al`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from layerstore_core import Capabilities, copy_tree, hookimpl
from tests.conformance.mutants.base import Correct


class LinkFarm(Correct):
    """A driver whose child layers have their own directories, but their parents' files."""

    @hookimpl
    def create(self, layer_id, parent_id, storage_opt):
        Correct.create(self, layer_id, "", storage_opt)
        if parent_id:
            link_tree(self.tree(parent_id), self.tree(layer_id))

    @hookimpl
    def create_read_write(self, layer_id, parent_id, mount_label, storage_opt):
        Correct.create(self, layer_id, "", storage_opt)
        if parent_id:
            copy_tree(self.tree(parent_id), self.tree(layer_id))


class DeclaredLinkFarm(LinkFarm):
    """A link farm that declares `shares_inodes`, so that core makes private copies."""

    @hookimpl
    def capabilities(self):
        return Capabilities(shares_inodes=True)


def link_tree(source: Path, target: Path) -> None:
    """Copy a tree: create its directories, and hard links to all other files."""
    for where, directories, names in os.walk(os.fsencode(source), topdown=False):
        here = os.path.join(os.fsencode(target), os.path.relpath(where, os.fsencode(source)))
        os.makedirs(here, exist_ok=True)
        for name in [*directories, *names]:
            path = os.path.join(where, name)
            if os.path.islink(path) or not os.path.isdir(path):
                os.link(path, os.path.join(here, name), follow_symlinks=False)
        status = os.stat(where)
        os.chown(here, status.st_uid, status.st_gid)
        shutil.copystat(where, here)
