"""`layerstore push`: its output, its progress, and its errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run, docker_archive
from tests.registry.fake_registry import FakeRegistry


@pytest.fixture
def loaded(run: Run, tmp_path: Path) -> None:
    run("load", docker_archive(tmp_path, "app:1"))


@pytest.mark.usefixtures("loaded")
def test_the_digest_is_printed_and_the_states_go_to_standard_error(run: Run, fake_registry: FakeRegistry) -> None:
    outcome = run("push", "app:1", f"{fake_registry.host}/app:1")
    assert outcome.lines == [fake_registry.repository("app").tags["1"]]
    states = [line.split()[1:3] for line in outcome.stderr.splitlines()]
    assert states == [["config", "done"], ["layer", "done"], ["manifest", "done"]]
    outcome = run("push", "-q", "app:1", f"{fake_registry.host}/app:1")
    assert (outcome.lines, outcome.stderr) == ([fake_registry.repository("app").tags["1"]], "")


@pytest.mark.usefixtures("loaded")
def test_the_answer_in_json(run: Run, fake_registry: FakeRegistry) -> None:
    outcome = run("push", "--json", "app:1", f"{fake_registry.host}/team/app")
    assert outcome.json["name"] == f"{fake_registry.host}/team/app:latest"
    assert outcome.json["digest"] == fake_registry.repository("team/app").tags["latest"]
    assert [(blob["kind"], blob["state"]) for blob in outcome.json["blobs"]] == [
        ("layer", "uploaded"),
        ("config", "uploaded"),
    ]
    assert outcome.json["sent"] == sum(blob["size"] for blob in outcome.json["blobs"])
    events = [json.loads(line) for line in outcome.stderr.splitlines()]
    assert {event["event"] for event in events} == {"blob"}
    assert [event["state"] for event in events if event["kind"] == "config"] == ["uploading", "done"]


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("app:2", "HOST/app:1"), 1, "there is no image 'app:2'"),
        (("app:1", "HOST/App"), 1, "cannot name an image"),
        (("app:1", "HOST/app:1", "--compression", "xz"), 2, "'xz' is not a compression"),
        (("app:1", "HOST/app:1", "--platform", "linux/arm64"), 1, "for linux/arm64"),
        (("app:1", "HOST/app:1", "more"), 2, "more"),
        (("app:1", f"HOST/app@sha256:{'0' * 64}"), 1, "would have the digest"),
    ],
)
def test_errors_say_what_is_wrong(
    run: Run, fake_registry: FakeRegistry, words: tuple[str, ...], code: int, text: str
) -> None:
    outcome = run("push", "-q", *(word.replace("HOST", fake_registry.host) for word in words), code=code)
    assert (text in outcome.stderr, outcome.stdout) == (True, b"")
    assert "Traceback" not in outcome.stderr
    assert not fake_registry.log.count("PUT .*/manifests")
