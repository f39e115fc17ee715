"""`layerstore explore` without a terminal: text and JSON, and what is missing without the extra."""

from __future__ import annotations

from pathlib import Path

import pytest

from layerstore_core.cli.commands import explore
from tests.cli.conftest import Run, docker_archive, tar_of
from tests.cli.modules import loaded

LAYERS = (tar_of({"a": b"a" * 1000, "b": b"b"}), tar_of({"a": b"A" * 500, ".wh.b": b"", "c": b"c"}))


@pytest.fixture
def loaded_image(run: Run, tmp_path: Path) -> None:
    run("load", docker_archive(tmp_path, "app:1", layers=LAYERS))


@pytest.mark.usefixtures("loaded_image")
def test_without_a_terminal_all_is_written_as_text(run: Run) -> None:
    lines = run("explore", "app:1").lines
    assert any(line.startswith("Layer 1: 501 B") and "1 added, 1 changed, 1 deleted" in line for line in lines)
    assert any(line.startswith("Wasted") and "1001 B" in line for line in lines)


@pytest.mark.usefixtures("loaded_image")
def test_the_files_of_a_layer_are_filtered(run: Run) -> None:
    assert [line.split(",")[0] for line in run("explore", "app:1", "--layer", "1").lines[-3:]] == [
        "changed file /a", "deleted file /b", "added file /c",
    ]  # fmt: skip
    assert run("explore", "app:1", "--layer", "1", "--filter", ":deleted", "--plain").lines[-1].startswith("deleted")
    files = run("explore", "app:1", "--filter", ">100", "--json").json["files"]
    assert files == [{"path": "/a", "mark": "changed", "size": 500, "moved": None}]
    assert run("explore", "app:1", "--layer", "0", "--whole").lines[-1].startswith("added file /b")


@pytest.mark.usefixtures("loaded_image")
def test_json_has_what_each_layer_does(run: Run) -> None:
    document = run("explore", "app:1", "--json").json
    assert [(one["added"], one["changed"], one["deleted"]) for one in document["layers"]] == [(2, 0, 0), (1, 1, 1)]
    assert (document["written"], document["wasted"]) == (1502, 1001)
    assert [one["path"] for one in document["offenders"]] == ["/a", "/b"]


@pytest.mark.usefixtures("loaded_image")
def test_what_is_wrong_is_explained(run: Run) -> None:
    assert "has 2 layers, and no layer 7" in run("explore", "app:1", "--layer", "7", code=2).stderr
    assert "is not a size" in run("explore", "app:1", "--filter", ">big", code=2).stderr
    assert "no image" in run("explore", "nothing:1", code=1).stderr


@pytest.mark.usefixtures("loaded_image")
def test_without_the_extra_it_says_what_to_install(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explore, "_is_terminal", lambda: True)
    monkeypatch.setattr(explore, "find_spec", lambda name: None)
    assert "pip install 'layerstore-core[explore]'" in run("explore", "app:1", code=2).stderr
    assert run("explore", "app:1", "--plain").lines


def test_text_does_without_the_extra(tmp_path: Path) -> None:
    docker_archive(tmp_path, "app:1", layers=LAYERS)
    options = ("--root", "store", "--driver", "vfs")
    loaded(tmp_path, *options, "load", "image.tar")
    assert not {"textual", "rich"} & loaded(tmp_path, *options, "explore", "app:1")
