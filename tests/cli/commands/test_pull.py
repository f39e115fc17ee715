"""`layerstore pull`: what it prints, and that processes that are killed, or pull at once, receive nothing twice."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from layerstore_core.images.remote.receive.leftovers import downloads_directory
from layerstore_core.images.remote.receive.partial_file import read_table
from tests.cli.conftest import Run
from tests.conftest import needs_root
from tests.images.archives import sha256
from tests.images.remote.published import layer, publish, sent, spec
from tests.registry.fake_registry import FakeRegistry

APP = spec(layer(1, 2_000_000), layer(2, 2_000_000))
TOTAL = sum(map(len, APP.blobs))


@pytest.fixture
def name(fake_registry: FakeRegistry) -> str:
    """The name of an image in the registry."""
    publish(fake_registry, APP, "1")
    return f"{fake_registry.host}/app:1"


@pytest.fixture
def begin(command: list[str]) -> Callable[..., subprocess.Popen[str]]:
    """Begin a pull in a new process."""

    def begin_(*args: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*command, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    return begin_


def on_disk(root: Path) -> int:
    """Return how many bytes of the image's layers were received and not used."""
    found = 0
    for blob in APP.blobs:
        path = downloads_directory(root) / sha256(blob).replace(":", "/")
        if path.exists():
            fd = os.open(path, os.O_RDONLY)
            found += sum(end - start for start, end in read_table(fd, len(blob)) or ())
            os.close(fd)
    return found


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_the_digest_is_printed(run: Run, fake_registry: FakeRegistry, name: str) -> None:
    digest = fake_registry.repository("app").tags["1"]
    outcome = run("pull", name)
    assert outcome.lines == [digest]
    assert [line.split()[:3] for line in outcome.stderr.splitlines()] == [
        [sha256(blob)[7:19], "layer", "done"] for blob in APP.blobs
    ]
    quiet = run("pull", "-q", name)
    assert (quiet.lines, quiet.stderr) == ([digest], "")
    assert run("images", "-q").lines == [APP.image_id[7:19]]


def test_json_has_a_line_for_each_state_and_the_document_at_the_end(run: Run, name: str) -> None:
    outcome = run("--json", "pull", name)
    events = [json.loads(line) for line in outcome.stderr.splitlines()]
    assert {event["event"] for event in events} == {"blob"}
    last = {event["name"]: event for event in events}
    assert [last[sha256(blob)]["state"] for blob in APP.blobs] == ["done", "done"]
    document = outcome.json
    assert (document["fetched"], document["downloaded"]) == (TOTAL, [sha256(blob) for blob in APP.blobs])
    assert run("--json", "pull", name).json["present"] == [sha256(blob) for blob in APP.blobs]


def test_an_image_that_was_pulled_by_its_digest_has_this_name(run: Run, fake_registry: FakeRegistry, name: str) -> None:
    digest = fake_registry.repository("app").tags["1"]
    by_digest = f"{fake_registry.host}/app@{digest}"
    assert run("pull", "-q", by_digest).lines == [digest]
    assert run("images", "--format", "{{.Name}} {{.Digest}}").lines == [f"{by_digest} {digest}"]
    assert run("--json", "inspect", by_digest).json["id"] == APP.image_id
    run("rmi", by_digest)
    assert run("images", "-q").lines == []


def test_errors_say_where_and_what(run: Run, fake_registry: FakeRegistry, name: str) -> None:
    outcome = run("--json", "pull", f"{fake_registry.host}/app:2", code=1)
    assert outcome.error["type"] == "NotInRegistry"
    assert outcome.stdout == b""
    assert "'UPPER' cannot name an image" in run("pull", "UPPER", code=1).stderr
    assert run("images", "-q").lines == []


def test_a_killed_pull_is_gone_on_with(
    run: Run, root: Path, fake_registry: FakeRegistry, name: str, begin: Callable[..., subprocess.Popen[str]]
) -> None:
    slow = fake_registry.faults.on("GET .*/blobs/sha256").slow(100_000, 0.02)
    process = begin("pull", name)
    wait_for(lambda: on_disk(root) > 1_000_000)
    process.kill()
    process.communicate()
    there = on_disk(root)
    assert slow.hits >= 2
    assert 0 < there < TOTAL
    assert run("images", "-q").lines == []
    assert run("--json", "check").json["findings"] == []
    fake_registry.faults.clear()
    fake_registry.log.clear()
    document = run("--json", "pull", name).json
    assert document["fetched"] == sent(fake_registry, APP.blobs) == TOTAL - there
    assert run("--json", "check", "--full").json["findings"] == []
    assert not [path for path in downloads_directory(root).rglob("*") if path.is_file()]
    assert run("--json", "gc").json["removed"] == []


def test_two_pulls_at_once_receive_once(
    fake_registry: FakeRegistry, name: str, begin: Callable[..., subprocess.Popen[str]]
) -> None:
    held = fake_registry.faults.on(f"GET .*/blobs/{sha256(APP.blobs[1])}").hold()
    first = begin("pull", name)
    assert held.reached.wait(30)
    second = begin("--json", "pull", name)
    assert second.stderr is not None
    wait_for(lambda: '"elsewhere"' in second.stderr.readline())  # type: ignore[union-attr]
    held.release()
    (out, errors), (document, events) = first.communicate(), second.communicate()
    assert (first.returncode, second.returncode) == (0, 0), errors + events
    assert out.strip() == json.loads(document)["digest"]
    assert sent(fake_registry, APP.blobs) == TOTAL
    assert json.loads(document)["fetched"] == 0
    assert '"exists"' in events


def test_a_pull_takes_over_from_one_that_dies(
    root: Path, fake_registry: FakeRegistry, name: str, begin: Callable[..., subprocess.Popen[str]]
) -> None:
    held = fake_registry.faults.on(f"GET .*/blobs/{sha256(APP.blobs[1])}", times=1).hold()
    first = begin("pull", name)
    wait_for(lambda: held.reached.is_set() and on_disk(root) == len(APP.blobs[0]))
    second = begin("--json", "pull", name)
    assert second.stderr is not None
    wait_for(lambda: '"elsewhere"' in second.stderr.readline())  # type: ignore[union-attr]
    first.kill()
    first.communicate()
    document, errors = second.communicate()
    held.release()
    assert second.returncode == 0, errors
    assert json.loads(document)["fetched"] == len(APP.blobs[1])
    assert sent(fake_registry, APP.blobs[:1]) == len(APP.blobs[0])


def test_pulls_of_images_with_a_common_layer_receive_it_once(
    fake_registry: FakeRegistry, name: str, begin: Callable[..., subprocess.Popen[str]]
) -> None:
    publish(fake_registry, spec(APP.layers[0], layer(3, 1000)), "2")
    held = fake_registry.faults.on(f"GET .*/blobs/{sha256(APP.blobs[0])}").hold()
    first = begin("pull", name)
    assert held.reached.wait(30)
    second = begin("--json", "pull", f"{fake_registry.host}/app:2")
    assert second.stderr is not None
    wait_for(lambda: '"elsewhere"' in second.stderr.readline())  # type: ignore[union-attr]
    held.release()
    errors = first.communicate()[1] + second.communicate()[1]
    assert (first.returncode, second.returncode) == (0, 0), errors
    assert sent(fake_registry, APP.blobs[:1]) == len(APP.blobs[0])


def test_an_interrupted_pull_ends_at_once(
    root: Path, fake_registry: FakeRegistry, name: str, begin: Callable[..., subprocess.Popen[str]]
) -> None:
    held = fake_registry.faults.on("GET .*/blobs/sha256", skip=1).hold()
    process = begin("pull", name)
    assert held.reached.wait(30)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    held.release()
    assert process.returncode == 130
    assert time.monotonic() - began < 15  # the limit of a server's silence is 30 s
    assert "Traceback" not in errors


@needs_root
def test_a_full_disk_is_an_error_that_names_the_directory(
    command: list[str], tmpfs: Callable[[str], Path], fake_registry: FakeRegistry, name: str
) -> None:
    words = [*command, "pull", name]
    words[words.index("--root") + 1] = str(tmpfs("size=1m") / "store")
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.search(r"/layerstore/downloads: No space left on device: \d+ bytes are needed", done.stderr)
    assert "Traceback" not in done.stderr
