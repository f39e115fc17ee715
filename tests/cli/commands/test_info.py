"""`layerstore info`: counts, problems, and the source of each setting."""

from __future__ import annotations

from pathlib import Path

import pytest

from layerstore_core._version import __version__
from tests.cli.conftest import Run


def test_info_of_a_root_without_a_store_creates_none(run: Run, root: Path) -> None:
    document = run("info", "--json").json
    assert (document["exists"], document["driver"], document["layers"]) == (False, "vfs", 0)
    assert document["configuration"]["root"] == {"value": str(root), "source": "argument"}
    assert f"Root:            {root}  (no store there yet" in run("info").text
    assert not root.exists()


@pytest.mark.usefixtures("used")
def test_info_of_an_empty_store(run: Run, root: Path) -> None:
    document = run("info", "--json").json
    assert document["version"] == __version__
    assert document["exists"] is True
    assert document["root"] == str(root)
    assert document["driver"] == "vfs"
    assert (document["layers"], document["pinned"], document["rw_layers"], document["size"]) == (0, 0, 0, 0)
    assert document["problems"] == []


def test_info_counts_layers_and_adds_their_sizes(run: Run, base: Path, upper: Path) -> None:
    chain = run("register", base).text.strip()
    run("register", upper, "--parent", chain)
    run("rw", "create", "work", "--parent", chain)
    document = run("info", "--json").json
    assert (document["layers"], document["pinned"], document["rw_layers"]) == (2, 2, 1)
    assert document["size"] == 20 + 5000 + 14 + 300
    assert "Layers:          2 (2 pinned), 5.2 KiB" in run("info").lines


def test_info_shows_the_source_of_each_setting(
    run: Run, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "layerstore.toml"
    file.write_text("max_depth = 7\n")
    monkeypatch.setenv("LAYERSTORE_DURABILITY", "none")
    args = ("--root", str(root), "--driver", "vfs", "--config", str(file), "info")
    settings = run("--json", *args, store=False).json["configuration"]
    assert settings["max_depth"]["value"] == 7
    assert str(file) in settings["max_depth"]["source"]
    assert settings["durability"]["value"] == "none"
    assert "LAYERSTORE_DURABILITY" in settings["durability"]["source"]
    assert settings["root"] == {"value": str(root), "source": "argument"}
    assert settings["max_layer_size"]["source"] == "default"
    text = run(*args, store=False).text
    assert f"  max_depth = 7  [{settings['max_depth']['source']}]\n" in text


def test_a_layer_that_cannot_be_loaded_is_a_problem(run: Run, base: Path, root: Path) -> None:
    chain = run("register", base).text.strip()
    (root / "image/vfs/layerdb/sha256" / chain[7:] / "diff").write_text("")
    outcome = run("info", "--json")
    assert outcome.json["layers"] == 0
    assert [problem["path"].count(chain[7:]) for problem in outcome.json["problems"]] == [1]
    assert "Problems:        1" in run("info").text


@pytest.mark.usefixtures("used")
def test_a_driver_option_reaches_the_driver(run: Run) -> None:
    outcome = run("--driver-opt", "no_such_option=1", "info", code=1)
    assert "no_such_option" in outcome.stderr
    assert run("--json", "--driver-opt", "no_such_option=1", "info", code=1).error["type"] == "ConfigError"


def test_an_unknown_driver_is_an_error(run: Run, root: Path) -> None:
    outcome = run("--json", "--root", root, "--driver", "nosuch", "info", store=False, code=1)
    assert outcome.error["type"] == "DriverNotFound"
