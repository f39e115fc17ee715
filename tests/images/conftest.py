"""Fixtures for tests of images."""

from __future__ import annotations

import pytest

from layerstore_core import LayerStore
from layerstore_core.images import Images


@pytest.fixture(params=["vfs"])
def driver(request: pytest.FixtureRequest) -> str:
    """The only driver of these tests: images do not depend on the driver."""
    name: str = request.param
    return name


@pytest.fixture
def images(store: LayerStore) -> Images:
    return Images(store)
