"""What the store's tests have, too."""

from __future__ import annotations

from tests.conftest import open_directory, ordinary_user, pytest_collection_modifyitems

__all__ = ["open_directory", "ordinary_user", "pytest_collection_modifyitems"]
