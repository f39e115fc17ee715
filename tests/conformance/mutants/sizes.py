"""Mutants that return wrong sizes."""

from __future__ import annotations

import os

from layerstore_core import ChangeKind, compare_trees, hookimpl
from layerstore_core.sdk import changed_usage
from tests.conformance.mutants.base import Mutant, unpack_into


class CountsTheTar(Mutant):
    """The size of a layer is that of its tar."""

    caught_in = "sizes"

    @hookimpl
    def apply_diff(self, layer_id, diff):
        data = diff.read()
        self._apply(layer_id, data)
        return len(data)

    def _apply(self, layer_id, data):
        from layerstore_core.conformance.rig import stream_of

        return unpack_into(self, layer_id, stream_of(data))


class CountsHardLinksTwice(Mutant):
    """`diff_size` counts each name of a hard-linked file."""

    caught_in = "sizes"

    @hookimpl
    def diff_size(self, layer_id, parent_id):
        total = 0
        for change in compare_trees(self.tree(layer_id), self.tree(parent_id) if parent_id else None):
            path = os.fsencode(self.tree(layer_id)) + change.path
            if change.kind is not ChangeKind.DELETE and os.path.isfile(path) and not os.path.islink(path):
                total += os.path.getsize(path)
        return total


class CountsTheWholeTree(Mutant):
    """The size of a layer also counts its parents' files."""

    caught_in = "sizes"

    @hookimpl
    def apply_diff(self, layer_id, diff):
        unpack_into(self, layer_id, diff)
        files = (path for path in self.tree(layer_id).rglob("*") if path.is_file() and not path.is_symlink())
        return sum({path.stat().st_ino: path.stat().st_size for path in files}.values())


class CountsNamesNotFiles(Mutant):
    """`usage` counts each name of a file with several hard links."""

    caught_in = "sizes"

    @hookimpl
    def usage(self, layer_id, parent_id):
        changes = compare_trees(self.tree(layer_id), self.tree(parent_id) if parent_id else None)
        size = changed_usage(str(self.tree(layer_id)), changes)[0]
        return size, sum(change.kind is not ChangeKind.DELETE for change in changes)
