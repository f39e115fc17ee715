"""Where examples run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.surroundings import Surroundings, make_surroundings, remove


@pytest.fixture
def surroundings(tmp_path: Path) -> Iterator[Surroundings]:
    """A directory with what the examples speak of, on a store with the vfs driver."""
    here = tmp_path / "here"
    yield make_surroundings(here)
    remove(here)
