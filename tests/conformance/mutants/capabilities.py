"""Drivers that are wrong about what the driver says of itself."""

from __future__ import annotations

from layerstore_core import Capabilities, hookimpl
from tests.conformance.mutants.base import Mutant


class LiesAboutExactDiffs(Mutant):
    """It declares `reproduces_exact_diffs`, and packs its files."""

    caught_in = "capabilities"

    @hookimpl
    def capabilities(self):
        return Capabilities(reproduces_exact_diffs=True)


class LiesAboutParallelApply(Mutant):
    """It declares `parallel_apply`, and copies the parent when the child is made."""

    caught_in = "capabilities"

    @hookimpl
    def capabilities(self):
        return Capabilities(parallel_apply=True)


class LiesAboutQuota(Mutant):
    """It declares `quota`, and takes a size without effect."""

    caught_in = "capabilities"

    @hookimpl
    def capabilities(self):
        return Capabilities(quota=True)

    @hookimpl
    def create_read_write(self, layer_id, parent_id, mount_label, storage_opt):
        self.create(layer_id, parent_id, {})


class ChangesItsMind(Mutant):
    """It declares something else each time."""

    caught_in = "capabilities"

    @hookimpl
    def capabilities(self):
        self.asked = getattr(self, "asked", 0) + 1
        return Capabilities(max_depth=100 + self.asked)
