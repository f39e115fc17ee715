"""The same input and time give the same image, with each driver, as root and as an ordinary user."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

import pytest

from layerstore_core import ConfigOptions, LayerStore, StoreConfig
from layerstore_core.images import Images, Platform
from layerstore_core.images.image_config import ImageConfig
from tests import tars

OPTIONS: Final = ConfigOptions(created="2024-05-06T07:08:09Z", entrypoint=["/bin/app"], env={"A": "b"})
ROOT: Final = tars.tar(tars.directory(b"usr"), tars.directory(b"usr/bin"), tars.symlink(b"bin", b"usr/bin"))
#: What `make` returns, wherever it runs.
EXPECTED: Final = [
    "sha256:ce06bbcd980a0e75ed8af99593c5e4cef963c97a7f0bf7f09ded8707eaf397a8",
    "sha256:b75507ceb5d09346c9bde5d75d71cebdd235233ff22d59c6ed9b8c76b1b1bcb2",
]


@pytest.fixture
def sources(open_directory: Path) -> Path:
    directory = open_directory / "sources"
    (directory / "etc").mkdir(parents=True, mode=0o755)
    (directory / "app").write_bytes(b"#!/bin/sh\n")
    (directory / "etc" / "conf").write_bytes(b"x=1\n")
    (directory / "root.tar").write_bytes(ROOT)
    for path in (directory / "app", directory / "etc" / "conf", directory / "etc", directory):
        path.chmod(0o755)
        os.utime(path, (1000, 1000))
    return directory


def make(images: Images, sources: Path) -> list[str]:
    """Make images in each way; return their IDs."""
    base = images.import_root(sources / "root.tar", name="base:1", config=OPTIONS)
    app = images.append(base, [(sources / "app", "/bin/"), (sources / "etc", "/etc")], name="app:1", config=OPTIONS)
    return [base.image_id, app.image_id]


@pytest.fixture(autouse=True)
def one_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make images for one platform, on any machine."""
    real = ImageConfig.scratch
    monkeypatch.setattr(ImageConfig, "scratch", lambda: real(Platform.parse("linux/amd64")))


def test_each_driver_gives_the_same_images(store: LayerStore, sources: Path) -> None:
    assert make(Images(store), sources) == EXPECTED


def test_an_ordinary_user_makes_the_same_images(
    ordinary_user: Callable[[], AbstractContextManager[None]], open_directory: Path, sources: Path, tmp_path: Path
) -> None:
    with LayerStore.open(root=tmp_path / "warm", driver="vfs", durability="none") as store:
        make(Images(store), sources)  # this user may not be able to read Python's modules: they are imported before
    config = StoreConfig(root=open_directory / "store", driver="vfs", durability="none")
    with ordinary_user(), LayerStore.open(config) as store:
        assert make(Images(store), sources) == EXPECTED
