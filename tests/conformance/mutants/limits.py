"""Mutants that fail with deep chains or long names."""

from __future__ import annotations

import os

from layerstore_core import copy_tree, hookimpl
from tests.conformance.mutants.base import Mutant, unpack_into
from tests.conformance.mutants.pooling import Pooling


class ForgetsDeepParents(Mutant):
    """A chain of more than 50 layers loses files of its base."""

    caught_in = "limits"

    def copy(self, source, target):
        copy_tree(source, target)
        depth = (
            int((self.home.parent / "layerstore" / f"depth-{source.name}").read_text()) if self._depth(source) else 0
        )
        self._note(target, depth + 1)
        if depth > 50:
            (target / "of-the-base").unlink(missing_ok=True)

    def _depth(self, tree):
        return (self.home.parent / "layerstore" / f"depth-{tree.name}").exists()

    def _note(self, tree, depth):
        (self.home.parent / "layerstore" / f"depth-{tree.name}").write_text(str(depth))


class ManglesLongNames(Mutant):
    """Names are cut off after 200 bytes when a parent is copied."""

    caught_in = "limits"

    def copy(self, source, target):
        copy_tree(source, target)
        for where, _, names in os.walk(target):
            for name in names:
                if len(os.fsencode(name)) > 200:
                    os.rename(os.path.join(where, name), os.path.join(where, name[:200]))


class NeedsOneMoreName(Pooling):
    """Each file is kept once, as hard links. When it has as many names as possible, a layer with it is refused."""

    caught_in = "limits"

    @hookimpl
    def apply_diff(self, layer_id, diff):
        inherited = self.files(layer_id)
        size = unpack_into(self, layer_id, diff)
        self.pool(layer_id, inherited)
        return size
