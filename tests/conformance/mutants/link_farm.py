"""A driver whose read-only layers have their parents' files by hard links, as `cp -al` makes them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from layerstore_core import Capabilities, copy_tree, hookimpl
from tests.conformance.mutants.base import Correct


class LinkFarm(Correct):
    """Directories of its own, files of its parent."""

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
    """One that leaves the private copies to core."""

    @hookimpl
    def capabilities(self):
        return Capabilities(shares_inodes=True)


def link_tree(source: Path, target: Path) -> None:
    """Make directories anew, and everything else as a further name."""
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
