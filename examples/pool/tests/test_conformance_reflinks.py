"""The kit once more, with reflinks, on btrfs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import pytest

from layerstore_core.conformance import DriverConformance

from .conftest import btrfs_file_system


class TestReflinks(DriverConformance):
    driver: ClassVar = "pool"
    options: ClassVar = {"sharing": "reflinks"}

    @contextmanager
    def make_root(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
        with btrfs_file_system() as root:
            yield root
