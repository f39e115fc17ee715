"""Mutants whose faults show only after many steps."""

from __future__ import annotations

import os

from layerstore_core import copy_tree
from tests.conformance.mutants.base import Mutant


class LosesOneOfTwo(Mutant):
    """A child loses the file b of a parent that also has a file a."""

    caught_in = "model"

    def copy(self, source, target):
        copy_tree(source, target)
        if os.path.lexists(target / "a") and (target / "b").is_file():
            (target / "b").unlink()
