"""Directories to unpack into, and what must not change beside them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from .trees import everything

needs_root = pytest.mark.needs_root


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("needs_root") and os.geteuid():
            item.add_marker(pytest.mark.skip(reason="needs the rights of root: owners, devices"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    return path


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """A directory outside the root, which must be the same afterwards in every respect."""
    outside = tmp_path / "outside"
    (outside / "dir").mkdir(parents=True)
    (outside / "file").write_bytes(b"canary")
    (outside / "dir" / "inner").write_bytes(b"inner canary")
    (outside / "link").symlink_to("file")
    before = everything(outside)
    yield outside
    assert everything(outside) == before
