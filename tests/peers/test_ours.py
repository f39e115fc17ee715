"""Images that each command of layerstore makes: the peers have the same trees, configs and histories, and run them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests import trees
from tests.across.conftest import differences
from tests.docker.daemon import Daemon
from tests.peers.conftest import ALL, IMAGES, PRINTED, Made
from tests.peers.programs import Containers, docker_mounted, run, said, steps


@pytest.fixture(scope="session")
def in_docker(made: Made, docker: Daemon) -> Daemon:
    docker("load", "-i", made.archive)
    return docker


@pytest.fixture(scope="session")
def in_podman(made: Made, containers: Containers) -> Containers:
    containers.podman("load", "-q", "-i", made.archive)
    return containers


@pytest.mark.parametrize("image", IMAGES)
def test_docker_has_and_runs_it(made: Made, in_docker: Daemon, image: str, tmp_path: Path) -> None:
    config = made.configs[image]
    (found,) = in_docker.json("image", "inspect", f"{image}:1")
    assert said(found["Config"]) == said(config["config"])
    assert (found["Author"], found["Created"], found["Comment"]) == (
        config.get("author", ""), config["created"], config["history"][-1].get("comment", ""),
    )  # fmt: skip
    with docker_mounted(found, tmp_path / "tree") as tree:
        assert differences(trees.snapshot(tree), made.trees[image]) == []
    told = in_docker.lines("history", "--no-trunc", "--format", "{{.CreatedBy}}|{{.Comment}}", f"{image}:1")
    assert told == [f"{by}|{comment}" for by, comment, _ in reversed(steps(config["history"]))]
    assert in_docker.lines("run", "--rm", "--network=none", f"{image}:1") == PRINTED[image]


@pytest.mark.parametrize("image", IMAGES if ALL else ("append", "squash-keep"))
def test_podman_and_buildah_have_and_run_it(made: Made, in_podman: Containers, image: str) -> None:
    config = made.configs[image]
    name = f"localhost/{image}:1"
    found = in_podman.inspect(name)
    check = config["config"].get("Healthcheck")
    assert said(found["Config"]) == said({**config["config"], "Healthcheck": None})
    assert found.get("Healthcheck", found.get("HealthCheck")) == check
    assert (found["Author"], found["Created"]) == (config.get("author", ""), config["created"])
    with in_podman.mounted(name) as tree:
        assert differences(trees.snapshot(tree), made.trees[image]) == []
    theirs = json.loads(in_podman.buildah("inspect", "--type", "image", name))
    assert theirs["Docker"]["config"].get("Healthcheck") == check
    assert said(theirs["OCIv1"]["config"]) == said({**config["config"], "Healthcheck": None})
    assert steps(theirs["OCIv1"]["history"]) == steps(config["history"])
    assert in_podman.run(name) == PRINTED[image]


@pytest.mark.parametrize("image", IMAGES)
def test_umoci_unpacks_it(made: Made, image: str, tmp_path: Path) -> None:
    made.layerstore("save", f"{image}:1", "-o", tmp_path / "layout", "--format", "oci")
    config = made.configs[image]
    run("umoci", "unpack", "--image", f"{tmp_path}/layout:1", tmp_path / "bundle")
    assert differences(trees.snapshot(tmp_path / "bundle" / "rootfs"), made.trees[image]) == []
    runtime = json.loads((tmp_path / "bundle" / "config.json").read_text())
    inside = config["config"]
    process = runtime["process"]
    assert process["args"] == [*inside.get("Entrypoint", ()), *inside.get("Cmd", ())]
    assert set(inside["Env"]) <= set(process["env"])
    assert process["cwd"] == (inside.get("WorkingDir") or "/")
    owner = (1234, 2345) if inside.get("User") == "app:web" else (0, 0)
    assert (process["user"]["uid"], process["user"]["gid"]) == owner
    assert runtime["annotations"].get("org.x") == inside.get("Labels", {}).get("org.x")
    told = json.loads(run("umoci", "stat", "--json", "--image", f"{tmp_path}/layout:1"))
    assert steps(told["history"]) == steps(config["history"])
    assert json.loads(run("skopeo", "inspect", "--config", "--raw", f"oci:{tmp_path}/layout:1")) == config


def test_docker_uses_volume_healthcheck_and_stop_signal(in_docker: Daemon) -> None:
    container = in_docker.text(
        *("run", "--detach", "--network=none", "import:1"),
        "trap \"grep -c ' /data ' /proc/self/mountinfo; exit 42\" USR1; while :; do sleep 0.05; done",
    )
    try:
        state: dict[str, Any] = {}
        for _ in range(200):
            state = in_docker.json("inspect", "--format", "{{json .State}}", container)
            if state["Health"]["Status"] != "starting":
                break
            time.sleep(0.05)
        assert state["Health"]["Status"] == "healthy", state
        in_docker("stop", container)
        assert in_docker.text("inspect", "--format", "{{.State.ExitCode}}", container) == "42"
        assert in_docker.lines("logs", container) == ["1"]
    finally:
        in_docker("rm", "--force", "--volumes", container)
