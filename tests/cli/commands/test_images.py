"""`load`, `save`, `images`, `history`, `tag`, `rmi`, and `rw create --image`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run, tar_of
from tests.images.archives import ImageSpec, docker_archive

LAYERS = (tar_of({"hosts": b"127.0.0.1\n"}), tar_of({"new": b"y" * 300}))
APP = ImageSpec(LAYERS, ("app:1",))


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "app.tar"
    path.write_bytes(docker_archive(APP))
    return path


@pytest.fixture
def loaded(run: Run, archive: Path) -> Path:
    assert run("load", archive).text == "app:1\n"
    return archive


def test_load_prints_names_or_ids(run: Run, tmp_path: Path) -> None:
    nameless = ImageSpec(LAYERS[:1])
    data = docker_archive(nameless, APP)
    assert run("load", "-", stdin=data).lines == [nameless.image_id, "app:1"]
    documents = run("load", "-", "--json", stdin=data).json["images"]
    assert [document["id"] for document in documents] == [nameless.image_id, APP.image_id]
    assert run("load", "-", "--name", "third:3", stdin=docker_archive(APP)).text == "third:3\n"
    assert run("load", "-", "--name", "other:2", stdin=docker_archive(nameless)).text == "other:2\n"


@pytest.mark.usefixtures("loaded")
def test_images_lists_each_name(run: Run) -> None:
    run("tag", "app:1", "app:2")
    rows = [line.split() for line in run("images").lines]
    short = APP.image_id[7:19]
    assert [row[:2] for row in rows] == [["NAME", "IMAGE"], ["app:1", short], ["app:2", short]]
    assert rows[1][2:5] == ["<none>", "linux/amd64", "2024-05-06T07:08:09"]
    assert run("images", "--json").json["images"][0]["names"] == ["app:1", "app:2"]


@pytest.mark.usefixtures("loaded")
def test_history_lists_the_steps_with_their_layers(run: Run) -> None:
    lines = run("history", "app:1").lines
    assert [line.split()[0] for line in lines[1:]] == ["none", *(run_id[7:19] for run_id in chain_ids(run)[::-1])]
    steps = run("history", APP.image_id[7:19], "--json").json["history"]
    assert [step["created_by"] for step in steps] == ["CMD", "step 1", "step 0"]


def chain_ids(run: Run) -> list[str]:
    return [layer["chain_id"] for layer in run("ls", "--json").json["layers"]]


@pytest.mark.usefixtures("loaded")
def test_layers_of_images_are_not_removed_by_rm_or_gc(run: Run) -> None:
    assert run("gc").text == ""
    top = chain_ids(run)[-1]
    assert f"used by image {APP.image_id}" in run("rm", top, code=1).stderr
    assert len(chain_ids(run)) == 2
    assert run("check").text == ""


@pytest.mark.usefixtures("loaded")
def test_rmi_prints_removed_names_images_and_layers(run: Run) -> None:
    run("tag", "app:1", "app:2")
    chains = chain_ids(run)
    assert run("rmi", "app:1").text == "name app:1\n"
    assert run("rmi", "app:2").lines == ["name app:2", f"image {APP.image_id}", *(f"layer {c}" for c in chains[::-1])]
    assert run("--json", "rmi", "app:2", code=1).error["type"] == "ImageDoesNotExist"


@pytest.mark.usefixtures("loaded")
def test_a_writable_layer_keeps_its_image(run: Run) -> None:
    run("rw", "create", "work", "--image", "app:1")
    assert (Path(run("rw", "mount", "work").text.strip()) / "new").read_bytes() == b"y" * 300
    assert run("--json", "rmi", "app:1", code=1).error["type"] == "ImageInUse"
    assert run("rw", "ls", "--json").json["rw_layers"][0]["parent"] == chain_ids(run)[-1]
    run("rw", "create", "x", "--image", "app:1", "--parent", chain_ids(run)[0], code=2)
    run("rw", "create", "x", "--image", "none", code=1)
    run("rw", "rm", "work")
    run("rmi", "-f", "app:1")


def test_save_and_load_again(run: Run, loaded: Path, tmp_path: Path) -> None:
    document = run("save", "app:1", "-o", tmp_path / "out", "--format", "oci", "--json").json
    assert (document["file"], document["format"]) == (str(tmp_path / "out"), "oci")
    assert json.loads((tmp_path / "out/oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    assert run("save", "app:1", "-o", tmp_path / "out.tar").stdout == b""
    run("rmi", "app:1")
    for saved in ("out", "out.tar"):
        assert run("load", tmp_path / saved).text == "app:1\n"
        run("rmi", "app:1")


@pytest.mark.usefixtures("loaded")
def test_wrong_arguments_of_image_commands(run: Run) -> None:
    assert "--output" in run("save", "app:1", code=2).stderr
    assert "is not a platform" in run("load", "-", "--platform", "a/b/c/d", code=2).stderr
    assert run("--json", "tag", "app:1", "No Name", code=1).error["type"] == "InvalidReference"


def test_load_of_a_bad_or_missing_archive(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.tar").write_bytes(tar_of({"x": b""}))
    assert run("--json", "load", tmp_path / "bad.tar", code=1).error["type"] == "InvalidImage"
    assert run("--json", "load", tmp_path / "none.tar", code=1).error["type"] == "FileNotFoundError"


@pytest.mark.parametrize(
    "text", ["A\ud800B", "A\udcc2\udc9b31mB", "\udc9b31m", "\u202etxt.exe", "a\nb", "\x9b2J", "\u2028"]
)
def test_text_from_an_image_is_escaped_for_a_terminal(run: Run, text: str, tmp_path: Path) -> None:
    history = [{"created": text, "created_by": text, "comment": text, "empty_layer": True}]
    image = ImageSpec((), ("app:1",), extra={"history": history, "created": text})
    (tmp_path / "i.tar").write_bytes(docker_archive(image, ImageSpec(LAYERS, ("app:2", f"x{text}"))))
    loaded = run("load", tmp_path / "i.tar")
    assert loaded.lines == ["app:1", "app:2"] and loaded.stderr.startswith("skipped x")
    refused = run("load", tmp_path / "i.tar", "--image", f"q{text}", code=1)
    printed = [loaded.stderr, run("history", "app:1").text, run("images").text, refused.stderr]
    assert all(line.isprintable() for text in printed for line in text.splitlines()) and "\u2028" not in "".join(
        printed
    )
    assert run("history", "app:1", "--json").json["history"][0]["created_by"] == text
    assert run("images", "--json").json["images"][0]["created"] == text


def test_load_lists_skipped_images_and_can_load_one_image(run: Run, tmp_path: Path) -> None:
    windows = ImageSpec(LAYERS[:1], ("win:1",), extra={"os": "windows"})
    (tmp_path / "i.tar").write_bytes(docker_archive(APP, windows))
    answer = run("load", tmp_path / "i.tar", "--json").json
    assert [image["names"] for image in answer["images"]] == [["app:1"]]
    assert [(item["what"], item["kind"]) for item in answer["skipped"]] == [("win:1", "platform")]
    assert run("load", tmp_path / "i.tar", "--image", "app:1").stderr == ""
    assert "operating system" in run("load", tmp_path / "i.tar", "--image", "win:1", code=1).stderr
