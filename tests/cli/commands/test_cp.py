"""`cp`: copies of an image's files on the host."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from tests.cli.conftest import Run, docker_archive, tar_of


@pytest.fixture
def image(run: Run, tmp_path: Path) -> str:
    layers = (tar_of({"etc/hosts": b"old", "etc/x:/y": b"colon"}), tar_of({"etc/hosts": b"new"}))
    run("load", docker_archive(tmp_path, "localhost:5000/app:1", layers=layers))
    return "localhost:5000/app:1"


def test_file_and_directory_are_copied(run: Run, image: str, tmp_path: Path) -> None:
    assert run("cp", f"{image}:/etc/hosts", tmp_path).text == ""
    assert (tmp_path / "hosts").read_text() == "new"
    document = run("cp", f"{image}:/etc", tmp_path / "copy", "--json").json
    assert (document["path"], document["file"]) == ("/etc", str(tmp_path / "copy"))
    assert (document["files"], document["bytes"]) == (4, 8)
    assert (tmp_path / "copy/x:/y").read_text() == "colon"
    run("cp", f"{image}:/etc/x:/y", tmp_path)
    assert (tmp_path / "y").read_text() == "colon"


def test_standard_output_gets_a_tar(run: Run, image: str) -> None:
    with tarfile.open(fileobj=io.BytesIO(run("cp", f"{image}:/etc", "-").stdout)) as tar:
        assert tar.getnames() == ["etc", "etc/hosts", "etc/x:", "etc/x:/y"]


def test_layer_is_given_by_its_digits(run: Run, image: str, tmp_path: Path) -> None:
    base = run("inspect", image, "--json").json["layers"][0]["chain_id"]
    run("cp", f"{base}:/etc/hosts", tmp_path / "a")
    run("cp", f"{base[7:17]}:/etc/hosts", tmp_path / "b")
    assert (tmp_path / "a").read_text() == (tmp_path / "b").read_text() == "old"


def test_errors_say_what_and_where(run: Run, image: str, tmp_path: Path) -> None:
    assert "is not of the form IMAGE:PATH" in run("cp", image, tmp_path, code=2).stderr
    assert "is not of the form IMAGE:PATH" in run("cp", "/etc/hosts", tmp_path, code=2).stderr
    assert "No such file or directory (in localhost:5000/app:1" in run("cp", f"{image}:/no", tmp_path, code=1).stderr
    assert "--json" in run("cp", f"{image}:/etc", "-", "--json", code=2).stderr
    missing = run("cp", f"{image}:/etc", tmp_path / "no" / "x", code=1).stderr
    assert f"{tmp_path}/no/x: its directory does not exist; make it first" in missing
    (tmp_path / "hosts").mkdir()
    stderr = run("cp", f"{image}:/etc/hosts", tmp_path, code=1).stderr
    assert stderr.startswith(f"layerstore: {tmp_path}/hosts: a file cannot replace a directory; remove it first")
    assert ".part" not in stderr


def test_errors_of_paths_of_the_host_do_not_point_into_the_image(run: Run, image: str, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    for words in (
        ("cp", f"{image}:/etc", tmp_path / "no" / "x"),
        ("cp", f"{image}:/etc/hosts", tmp_path / "full" / "x" / "y"),
        ("rootfs", image, "-o", tmp_path / "full"),
        ("rootfs", image, "-o", tmp_path / "no" / "x.tar"),
    ):
        stderr = run(*words, code=1).stderr
        assert stderr.startswith(f"layerstore: {tmp_path}/"), stderr
        assert "lists all files" not in stderr
