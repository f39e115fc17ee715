"""Fixtures of the tests of images in registries."""

from __future__ import annotations

import pytest

from layerstore_core import LayerStore
from layerstore_core.images import Images
from tests.registry.fake_registry import FakeRegistry


@pytest.fixture(autouse=True)
def as_on_amd64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Choose among images for several platforms as on this one."""
    monkeypatch.setattr("platform.machine", lambda: "x86_64")


@pytest.fixture
def driver() -> str:
    """The only driver of these tests: what is received does not depend on it."""
    return "vfs"


@pytest.fixture
def images(store: LayerStore) -> Images:
    return Images(store)


@pytest.fixture
def fake(fake_registry: FakeRegistry) -> FakeRegistry:
    """A registry for everyone, empty."""
    return fake_registry
