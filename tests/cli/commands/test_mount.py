"""`layerstore mount` and `umount`. `tests/store/mounts` tests what a mount shows and keeps."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Run, tar_of
from tests.images.archives import ImageSpec, docker_archive

APP = ImageSpec([tar_of({"hosts": b"h"}), tar_of({"app": b"a"})], ["app:1"])


@pytest.fixture
def loaded(run: Run) -> Iterator[None]:
    run("load", "-", stdin=docker_archive(APP))
    yield
    for mount in run("mount", "--json").json["mounts"]:
        run("umount", mount["path"])


@pytest.mark.needs_root
@pytest.mark.usefixtures("loaded")
def test_an_image_is_mounted_in_one_process_and_unmounted_in_another(
    run: Run, spawn: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dir").mkdir()
    path = spawn("mount", "app:1").text.rstrip("\n")
    assert sorted(os.listdir(path)) == ["app", "hosts"]
    assert run("mount", APP.image_id[7:17]).text.rstrip("\n") == path
    assert run("mount", "app:1", "dir").text == f"{tmp_path}/dir\n"
    listed = run("mount").lines
    assert listed[0].split() == ["CHAIN", "ID", "PATH"] and len(listed) == 3
    assert run("umount", "dir").text == f"{tmp_path}/dir\n"
    assert run("umount", "app:1", "--json").json == {"paths": [path]}
    assert run("umount", "app:1").text == run("mount").text == ""


@pytest.mark.needs_root
@pytest.mark.usefixtures("loaded")
def test_layers_of_a_mounted_image_stay(run: Run) -> None:
    path = run("mount", "app:1").text.rstrip("\n")
    chain = run("mount", "--json").json["mounts"][0]["chain_id"]
    assert run("rmi", "app:1").lines == ["name app:1", f"image {APP.image_id}"]
    assert f"used by the mount at {path}" in run("rm", chain, code=1).stderr
    assert run("gc").text == ""
    assert run("umount", chain).text == f"{path}\n"
    assert len(run("gc").lines) == 2


@pytest.mark.needs_root
@pytest.mark.usefixtures("loaded")
def test_a_mount_in_use_is_an_error(run: Run) -> None:
    path = run("mount", "app:1").text.rstrip("\n")
    with open(Path(path, "app"), "rb"):
        outcome = run("umount", "app:1", code=1)
    assert "busy" in outcome.stderr and path in outcome.stderr and outcome.stdout == b""
    assert os.listdir(path)


@pytest.mark.usefixtures("loaded")
def test_words_that_mean_no_mount(run: Run, tmp_path: Path) -> None:
    assert "'layerstore mount' lists the mounts" in run("umount", tmp_path, code=2).stderr
    assert run("--json", "umount", "none:1", code=1).error["type"] == "ImageDoesNotExist"
    assert "is not a chain ID" in run("umount", "", code=2).stderr


@pytest.mark.needs_root
@pytest.mark.usefixtures("loaded")
def test_a_mount_point_has_to_be_a_directory(run: Run, root: Path, tmp_path: Path) -> None:
    assert "No such file" in run("mount", "app:1", tmp_path / "none", code=1).stderr
    assert "cannot be a mount point" in run("mount", "app:1", root, code=1).stderr
    assert run("mount").text == ""
