"""Mutants whose children differ from their parents, or change them."""

from __future__ import annotations

import io
import os
import stat
import tarfile

from layerstore_core import LayerStream, copy_tree, hookimpl, remove_tree
from layerstore_core.verify.check_tree import check_tree
from layerstore_core.verify.unpack_rights import UnpackRights
from tests.conformance.mutants.base import Correct, Mutant, unpack_into
from tests.conformance.mutants.link_farm import LinkFarm, link_tree
from tests.conformance.mutants.pooling import Pooling, without_links


class SharesHardLinksWithTheParent(Mutant):
    """A child's files are hard links to the parent's, so a write changes both."""

    caught_in = "snapshots"

    def copy(self, source, target):
        link_tree(source, target)


class SharesInodesWithReadOnlyChildren(Mutant):
    """A read-only child has undeclared hard links to the parent's files, so hard-link entries change both."""

    caught_in = "snapshots"
    create = LinkFarm.create
    create_read_write = LinkFarm.create_read_write


class ForgetsTheRoot(Mutant):
    """The root of a child has the metadata of a new base layer."""

    caught_in = "snapshots"

    def copy(self, source, target):
        copy_tree(source, target)
        target.chmod(0o755)


class FollowsNoLinks(Mutant):
    """A layer's directories replace its parent's links to directories."""

    caught_in = "snapshots"

    @hookimpl
    def apply_diff(self, layer_id, parent_id, diff):
        tar = diff.read()
        tree = self.tree(layer_id)
        with tarfile.open(fileobj=io.BytesIO(tar)) as entries:
            for entry in entries:
                top = tree / entry.name.split("/")[0]
                if parent_id and "/" in entry.name and top.is_symlink():
                    top.unlink()
        return unpack_into(self, layer_id, LayerStream.over(io.BytesIO(tar)))


class ChildrenAreTheParent(Mutant):
    """A child is its parent's own tree."""

    caught_in = "snapshots"

    @hookimpl
    def create(self, layer_id, parent_id, storage_opt):
        if not parent_id:
            Correct.create(self, layer_id, parent_id, storage_opt)
            return
        os.stat(self.tree(parent_id))
        os.symlink(os.path.realpath(self.tree(parent_id)), self.tree(layer_id))


class ForgetsEmptyDirectories(Mutant):
    """The copy of a parent lacks its empty directories."""

    caught_in = "snapshots"

    def copy(self, source, target):
        copy_tree(source, target)
        for where, directories, names in os.walk(target, topdown=False):
            if not directories and not names and where != str(target):
                os.rmdir(where)


class RemovesTheParent(Mutant):
    """`remove` of a child also removes its parent."""

    caught_in = "snapshots"

    @hookimpl
    def create(self, layer_id, parent_id, storage_opt):
        Correct.create(self, layer_id, parent_id, storage_opt)
        self.parents = {**getattr(self, "parents", {}), layer_id: parent_id}

    @hookimpl
    def remove(self, layer_id):
        remove_tree(str(self.tree(layer_id)))
        if parent := getattr(self, "parents", {}).get(layer_id):
            remove_tree(str(self.tree(parent)))


class RepeatsTheRecordedParent(Mutant):
    """`parent_of` returns the parent that it is asked for, and so never disagrees with a record."""

    caught_in = "snapshots"

    @hookimpl
    def parent_of(self, layer_id, parent_id):
        return parent_id


class ReportsUndamagedTrees(Mutant):
    """`check_tree` compares a child's tree with its tar alone, and reports inherited files as differences."""

    caught_in = "snapshots"

    @hookimpl
    def check_tree(self, layer_id, parent_id, entries):
        return check_tree(
            str(self.tree(layer_id)), None, entries, rights=UnpackRights(self.home), id_mapping=self.context.id_mapping
        )


class LosesTheOwnerOfTheRoot(Mutant):
    """An entry for `/` in a tar sets its mode, time and attributes, but not its owner."""

    caught_in = "snapshots"

    @hookimpl
    def apply_diff(self, layer_id, diff):
        tree = self.tree(layer_id)
        before = tree.stat()
        size = unpack_into(self, layer_id, diff)
        mode = tree.stat().st_mode
        os.chown(tree, before.st_uid, before.st_gid)
        tree.chmod(stat.S_IMODE(mode))
        return size


class LinksPooledFiles(Pooling):
    """Each file is kept once, as hard links, and a hard-link entry changes the metadata of this one file."""

    caught_in = "snapshots"

    @hookimpl
    def apply_diff(self, layer_id, diff):
        tar = diff.read()
        plain, links = without_links(tar)
        inherited = self.files(layer_id)
        size = unpack_into(self, layer_id, LayerStream.over(io.BytesIO(plain)))
        self.pool(layer_id, inherited)
        unpack_into(self, layer_id, LayerStream.over(io.BytesIO(links)))
        return size
