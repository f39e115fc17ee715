"""References of BuildKit's cache to layers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from layerstore_core.base import inside
from layerstore_core.base.digests import ChainID
from layerstore_core.records.buildkit import BuildKitCache

ONE, TWO = (ChainID.of(text) for text in (b"one", b"two"))


def test_a_root_without_a_buildkit_cache_has_no_references(tmp_path: Path) -> None:
    assert BuildKitCache(tmp_path).references_to(ONE) == []
    (tmp_path / "buildkit").write_text("no directory")
    inside.guard(tmp_path)
    [bad] = BuildKitCache(tmp_path).unreadable()  # the layers that it may keep are not known
    assert "it is a regular file, not" in str(bad)


@pytest.mark.parametrize("offset", [0, 37, (1 << 20) - 71, (1 << 20) - 70, (1 << 20) - 1, (1 << 20) + 5])
def test_layers_named_in_the_buildkit_database_are_referenced(tmp_path: Path, offset: int) -> None:
    (tmp_path / "buildkit").mkdir()
    database = tmp_path / "buildkit" / "snapshots.db"
    database.write_bytes(os.urandom(offset) + b"chainID" + ONE.encode() + b"\0committed")
    cache = BuildKitCache(tmp_path)
    assert (cache.references_to(ONE), cache.references_to(TWO)) == (["BuildKit's cache"], [])
    database.write_bytes(TWO.encode() * 2)
    assert (cache.references_to(ONE), cache.references_to(TWO)) == ([], ["BuildKit's cache"])
