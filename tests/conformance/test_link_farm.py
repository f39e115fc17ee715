"""The kit passes a driver that shares inodes between layers and declares it."""

from __future__ import annotations

from typing import ClassVar

from layerstore_core.conformance import GROUPS
from layerstore_core.conformance.base import ConformanceTests
from tests.conformance.mutants.link_farm import DeclaredLinkFarm


class TestLinkFarm(GROUPS["snapshots"], GROUPS["sizes"], ConformanceTests):  # type: ignore[misc]
    driver: ClassVar[str] = "mutant"
    factory: ClassVar[type] = DeclaredLinkFarm
