"""The commands that make images with another config, from a writable layer, or on another base."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run, docker_archive

AT = ("--created", "2024-05-06T07:08:09Z")


@pytest.fixture
def app(run: Run, tmp_path: Path) -> str:
    """An image that is loaded, `app:1`."""
    return run("load", docker_archive(tmp_path, "app:1")).text.strip()


def config_of(run: Run, name: str) -> Any:
    return json.loads(run("inspect", name, "--raw").stdout)


def test_config_takes_all_options(run: Run, app: str) -> None:
    made = run(
        "config", app, "-t", "app:2", *AT, "--env", "A=1", "--entrypoint", '["a"]', "--cmd", "b c", "--user", "u:g",
        "--workdir", "w", "--label", "l=1", "--annotation", "x=y", "--expose", "53/udp", "--volume", "/v",
        "--stop-signal", "9", "--healthcheck", "CMD true", "--message", "m", "--author", "me",
    ).text.strip()  # fmt: skip
    found = config_of(run, "app:2")
    assert run("inspect", "app:2", "--json").json["id"] == made
    assert found["config"] | {
        "Env": ["A=1"], "Entrypoint": ["a"], "Cmd": ["/bin/sh", "-c", "b c"], "User": "u:g", "WorkingDir": "/w",
        "Labels": {"l": "1"}, "ExposedPorts": {"53/udp": {}}, "Volumes": {"/v": {}}, "StopSignal": "9",
        "Healthcheck": {"Test": ["CMD-SHELL", "true"]},
    } == found["config"]  # fmt: skip
    assert (found["created"], found["author"]) == (AT[1], "me")
    assert found["history"][-1]["comment"] == "m"
    assert run("config", "app:2", "-t", "app:3", *AT, "--env", "A-", "--user", "", "--json").json["names"] == ["app:3"]
    assert "User" not in config_of(run, "app:3")["config"]
    assert "Env" not in config_of(run, "app:3")["config"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "nothing is to be changed"),
        (("--env", "A"), "'--env': 'A' is no pair; write KEY=VALUE, or KEY- to remove the key"),
        (("--expose", "x"), "'--expose': 'x' is not a port"),
        (("--created", "soon"), "'soon' is not a time"),
        (("--healthcheck", "x"), "is not a healthcheck"),
        (("--stop-signal", "SIGFOO"), "is not a signal"),
    ],
)
def test_wrong_options_are_wrong_usage(run: Run, app: str, words: tuple[str, ...], message: str) -> None:
    assert message in run("config", app, "-t", "app:2", *words, code=2).stderr
    assert len(run("images", "--json").json["images"]) == 1


def test_source_date_epoch_has_to_be_set(run: Run, app: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    words = ("config", app, "-t", "app:2", "--created", "SOURCE_DATE_EPOCH")
    assert "SOURCE_DATE_EPOCH is not set" in run(*words, code=1).stderr
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    run(*words)
    assert config_of(run, "app:2")["created"] == "1970-01-01T00:00:00Z"


def test_commit_continues_the_image(run: Run, app: str) -> None:
    run("rw", "create", "work", "--image", app)
    (Path(run("rw", "mount", "work").text.strip()) / "new").write_text("new")
    made = run("commit", "work", "app:2", "--message", "hello", "--env", "A=1", *AT, "--json").json
    assert (made["names"], len(made["diff_ids"])) == (["app:2"], 2)
    assert run("cat", "app:2", "new").stdout == b"new"
    assert run("history", "app:2", "--json").json["history"][1]["comment"] == "hello"
    assert config_of(run, "app:2")["config"]["Env"] == ["A=1"]
    run("rw", "umount", "work")
    assert run("commit", "work", "app:2", "--message", "hello", "--env", "A=1", *AT).text.strip() == made["id"]


def test_commit_with_a_time_for_all_files(run: Run, app: str) -> None:
    run("rw", "create", "work", "--image", app)
    path = Path(run("rw", "mount", "work").text.strip()) / "new"
    made = []
    for content in ("same", "same", "other"):
        path.write_text(content)
        os.utime(path, (len(made), len(made)))
        made.append(run("commit", "work", "app:2", *AT, "--mtime", "1700000000").text)
    assert made[0] == made[1] != made[2]
    assert "'--mtime': 'x' is not a time" in run("commit", "work", "app:2", "--mtime", "x", code=2).stderr


def test_commit_asks_which_image(run: Run, app: str) -> None:
    run("config", app, "-t", "other", "--user", "me")
    run("rw", "create", "work", "--parent", run("inspect", app, "--json").json["chain_id"])
    assert "say which one (--base)" in run("commit", "work", "x", code=1).stderr
    run("commit", "work", "x", "--base", "other")
    assert config_of(run, "x")["config"]["User"] == "me"
    run("rw", "create", "sure", "--parent", "other")
    run("commit", "sure", "y")
    assert config_of(run, "y")["config"]["User"] == "me"


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (("commit", "none", "x"), "MountDoesNotExist"),
        (("commit", "work", "UPPER"), "InvalidReference"),
        (("commit", "work", "x", "--base", "none"), "ImageDoesNotExist"),
        (("config", "none", "-t", "x", "--user", "u"), "ImageDoesNotExist"),
        (("config", "app:1", "-t", "x@sha256:" + "1" * 64, "--user", "u"), "InvalidReference"),
        (("rebase", "app:1", "--old", "empty", "--new", "none", "-t", "x"), "ImageDoesNotExist"),
        (("rebase", "empty", "--old", "app:1", "--new", "app:1", "-t", "x"), "InvalidImage"),
    ],
)
def test_errors_leave_the_store_as_it_was(run: Run, words: tuple[str, ...], kind: str) -> None:
    run("rw", "create", "work")
    run("commit", "work", "empty")
    before = run("images", "--json").json
    assert run("--json", *words, code=1).error["type"] == kind
    assert run("images", "--json").json == before


def test_rebase(run: Run, app: str) -> None:
    run("config", app, "-t", "base:2", "--label", "base=2")
    run("rw", "create", "work", "--image", app)
    (Path(run("rw", "mount", "work").text.strip()) / "new").write_text("new")
    run("commit", "work", "mine", "--user", "me")
    made = run("rebase", "mine", "--old", app, "--new", "base:2", "-t", "mine", *AT).text.strip()
    found = config_of(run, "mine")
    assert run("inspect", "mine", "--json").json["id"] == made
    assert (found["config"]["User"], found["config"]["Labels"], found["created"]) == ("me", {"base": "2"}, AT[1])
    words = ("rebase", "mine", "--old", "base:2", "--new", app, "-t", "x")
    assert "is not a time" in run(*words, "--created", "x", code=2).stderr
