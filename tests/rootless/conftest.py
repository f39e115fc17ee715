"""Ordinary users, each with a directory, for tests that run scripts as them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ordinary_users import OrdinaryUsers, why_no_users


@pytest.fixture
def users() -> Iterator[OrdinaryUsers]:
    """Yield two users with subordinate IDs."""
    if reason := why_no_users():
        pytest.skip(reason)
    directory = Path(tempfile.mkdtemp(prefix="layerstore-"))
    directory.chmod(0o755)
    yield OrdinaryUsers(directory)
    shutil.rmtree(directory)
