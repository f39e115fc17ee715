"""Fixtures of the tests of images in registries."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def as_on_amd64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Choose among images for several platforms as on this one."""
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
