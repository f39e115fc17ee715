"""Rights of an ordinary user, as for the store's tests."""

from __future__ import annotations

from tests.store.conftest import open_directory, ordinary_user

__all__ = ["open_directory", "ordinary_user"]
