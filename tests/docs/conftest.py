"""Fixtures for running examples."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.surroundings import Surroundings, make_surroundings, remove


@pytest.fixture
def surroundings(tmp_path: Path) -> Iterator[Surroundings]:
    """Yield a directory with the files that the examples use, and a store with the vfs driver."""
    here = tmp_path / "here"
    yield make_surroundings(here)
    remove(here)
