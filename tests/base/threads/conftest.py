"""Lanes of both kinds, and a pool of one thread."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from layerstore_core.base.threads import rest


@pytest.fixture(params=[False, True], ids=["pool", "own thread"])
def waits(request: pytest.FixtureRequest) -> bool:
    """Whether lanes have threads of their own."""
    return bool(request.param)


@pytest.fixture
def one_core(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the pool have one thread."""
    rest()
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0})
    yield
    rest()
