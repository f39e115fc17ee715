"""Fixtures of the core's tests, for tests that the thorough mode runs alone."""

from __future__ import annotations

from tests.conftest import open_directory, ordinary_user, pytest_collection_modifyitems

__all__ = ["open_directory", "ordinary_user", "pytest_collection_modifyitems"]
