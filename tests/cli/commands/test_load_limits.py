"""Limits on sizes: every way into a store keeps them, and the error names the setting."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from tests import tars
from tests.cli.conftest import Run, tar_of
from tests.images.archives import ImageSpec, docker_archive

SMALL, LARGE = tar_of({"small": b"1"}), tar_of({"large": bytes(8 << 20)})
ARCHIVE = docker_archive(ImageSpec((SMALL,), ("small:1",)), ImageSpec((LARGE,), ("large:1",)))


@pytest.mark.parametrize("how", ["file", "compressed", "pipe", "compressed pipe"])
def test_an_image_with_a_layer_over_the_limit_is_skipped(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setenv("LAYERSTORE_MAX_LAYER_SIZE", "1M")
    data = gzip.compress(ARCHIVE, 1) if "compressed" in how else ARCHIVE
    (tmp_path / "i.tar").write_bytes(data)
    loaded = run("load", "-", stdin=data) if "pipe" in how else run("load", tmp_path / "i.tar")
    assert loaded.lines == ["small:1"]
    assert "setting max_layer_size, from environment LAYERSTORE_MAX_LAYER_SIZE" in loaded.stderr


@pytest.mark.parametrize("verb", ["load", "register"])
def test_the_size_of_spooled_input_is_limited(
    run: Run, spawn: Run, monkeypatch: pytest.MonkeyPatch, verb: str, tmp_path: Path
) -> None:
    monkeypatch.setenv("LAYERSTORE_MAX_SPOOL_SIZE", "1M")
    # Nothing of a layer in a pipe is spooled, unless the layer replaces files of its own.
    data = ARCHIVE if verb == "load" else tars.tar(tars.entry(b"a", bytes(8 << 20)), tars.entry(b"a"))
    refused = spawn(verb, "-", stdin=data, code=1)
    assert "1048576 bytes (setting max_spool_size, from environment LAYERSTORE_MAX_SPOOL_SIZE)" in refused.stderr
    (tmp_path / "i.tar").write_bytes(data)
    run(verb, tmp_path / "i.tar")  # read in place


def test_info_shows_the_default_of_max_spool_size(run: Run) -> None:
    assert run("info", "--json").json["configuration"]["max_spool_size"] == {"value": 64 << 30, "source": "default"}
