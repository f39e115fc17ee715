"""Fixtures for running examples."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.surroundings import Surroundings, make_surroundings, remove


@pytest.fixture(scope="session")
def made_surroundings(quick_program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Surroundings]:
    """Make once what all examples with the vfs driver use."""
    here = tmp_path_factory.mktemp("surroundings") / "here"
    yield make_surroundings(here, quick_program)
    remove(here)


@pytest.fixture
def surroundings(made_surroundings: Surroundings, tmp_path: Path) -> Iterator[Surroundings]:
    """Yield a directory with the files that the examples use, and a store with the vfs driver."""
    here = tmp_path / "here"
    yield made_surroundings.copied(here)
    remove(here)
