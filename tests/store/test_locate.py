"""Finding a store at a root, and opening one only where it exists or can be created."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from layerstore_vfs.driver import VfsDriver

from layerstore_core import ConfigError, DriverNotFound, DriverNotSupported, LayerStore, StoreDoesNotExist
from layerstore_core.store.locate import has_store, require_store


@pytest.mark.parametrize("mark", ["image", "layerstore"])
def test_a_root_with_records_or_state_of_layerstore_is_a_store(tmp_path: Path, mark: str) -> None:
    assert not has_store(tmp_path)
    (tmp_path / mark).touch()
    assert not has_store(tmp_path)
    (tmp_path / mark).unlink()
    (tmp_path / mark).mkdir()
    assert has_store(tmp_path)
    require_store(tmp_path, "argument")


def test_opening_without_create_creates_nothing(tmp_path: Path) -> None:
    root = tmp_path / "store"
    with pytest.raises(StoreDoesNotExist, match=f"no store at {root}: there is no such directory"):
        LayerStore.open(create=False, root=root, driver="vfs")
    assert not root.exists()
    LayerStore.open(root=root, driver="vfs").close()
    LayerStore.open(create=False, root=root, driver="vfs").close()


def test_the_message_says_what_is_wrong_and_where_the_setting_came_from(tmp_path: Path) -> None:
    with pytest.raises(
        StoreDoesNotExist, match=r"this directory holds none \(setting root, from: environment LAYERSTORE_ROOT\)"
    ):
        require_store(tmp_path, "environment LAYERSTORE_ROOT")
    (tmp_path / "file").touch()
    with pytest.raises(StoreDoesNotExist, match="this is no directory"):
        require_store(tmp_path / "file", "argument")


def test_a_store_with_a_similar_path_is_suggested(tmp_path: Path) -> None:
    home = tmp_path / "home"  # beside it there is nothing; beside `tmp_path` are those of other tests
    (home / "layers" / "image").mkdir(parents=True)
    (home / "layer" / "other").mkdir(parents=True)
    with pytest.raises(StoreDoesNotExist, match=f"did you mean {home}/layers\\?"):
        require_store(home / "leyers", "argument")
    with pytest.raises(StoreDoesNotExist, match=f"did you mean {home}/layers\\?"):
        require_store(home, "argument")
    with pytest.raises(StoreDoesNotExist) as caught:
        require_store(home / "nothing-like-it", "argument")
    assert "did you mean" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"driver": "nosuch"}, DriverNotFound),
        ({"driver": "vfs", "drivers": {"vfs": {"nosuch": 1}}}, ConfigError),
    ],
)
def test_no_store_is_created_if_the_driver_cannot_be_used(
    tmp_path: Path, settings: dict[str, object], error: type[Exception]
) -> None:
    root = tmp_path / "store"
    with pytest.raises(error):
        LayerStore.open(**{"root": root, **settings})
    assert not root.exists()


def test_no_store_is_created_if_the_driver_is_not_supported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(context: object) -> None:
        raise DriverNotSupported("not on this file system")

    monkeypatch.setattr(VfsDriver, "probe", fail, raising=False)
    with pytest.raises(DriverNotSupported, match="not on this file system"):
        LayerStore.open(root=tmp_path / "store", driver="vfs")
    assert not (tmp_path / "store").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: to unmount /proc")
@pytest.mark.parametrize("command", [["register", "layer.tar"], ["ls"]])
def test_without_proc_the_message_says_that_it_is_missing(tmp_path: Path, command: list[str]) -> None:
    """Earlier a valid tar was refused as invalid: the target of a hard link was not found by its descriptor."""
    with tarfile.open(tmp_path / "layer.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("f"))
        link = tarfile.TarInfo("g")
        link.type, link.linkname = tarfile.LNKTYPE, "f"
        tar.addfile(link)
    (tmp_path / "root" / "layerstore").mkdir(parents=True)
    run = [sys.executable, "-m", "layerstore_core", "--root", "root", "--driver", "vfs", *command]
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", 'umount -l /proc && exec "$@"', "sh", *run],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "there is no /proc/self/fd" in done.stderr
    assert "mount -t proc proc /proc" in done.stderr
    assert not (tmp_path / "root" / "image").exists()
