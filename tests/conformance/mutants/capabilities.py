"""Mutants that declare wrong capabilities."""

from __future__ import annotations

import os
import stat

from layerstore_core import Capabilities, hookimpl
from tests.conformance.mutants.base import Mutant


class LiesAboutExactDiffs(Mutant):
    """The driver declares `reproduces_exact_diffs`, but packs its files."""

    caught_in = "capabilities"

    @hookimpl
    def capabilities(self):
        return Capabilities(reproduces_exact_diffs=True)


class LiesAboutParallelApply(Mutant):
    """The driver declares `parallel_apply`, but copies the parent when the child is created."""

    caught_in = "capabilities"

    @hookimpl
    def capabilities(self):
        return Capabilities(parallel_apply=True)


class LiesAboutQuota(Mutant):
    """The driver declares `quota`, but a size has no effect."""

    caught_in = "capabilities"

    @hookimpl
    def capabilities(self):
        return Capabilities(quota=True)

    @hookimpl
    def create_read_write(self, layer_id, parent_id, mount_label, storage_opt):
        self.create(layer_id, parent_id, {})


class ChangesItsCapabilities(Mutant):
    """The driver declares other capabilities each time."""

    caught_in = "capabilities"

    @hookimpl
    def capabilities(self):
        self.asked = getattr(self, "asked", 0) + 1
        return Capabilities(max_depth=100 + self.asked)


class LiesAboutUserNamespaces(Mutant):
    """The driver declares `user_namespace`, but makes a device, which only the machine's root may do."""

    caught_in = "capabilities"
    user_namespace = True

    @hookimpl
    def create(self, layer_id, parent_id, storage_opt):
        super().create(layer_id, parent_id, storage_opt)
        device = self.home / f".{layer_id}"
        os.mknod(device, stat.S_IFCHR | 0o600, os.makedev(1, 3))
        device.unlink()
