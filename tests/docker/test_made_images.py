"""Images that are made here from an image that Docker has built: Docker runs them, with their trees and configs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerstore_core import ConfigOptions, Image, Images, LayerStore
from tests.docker.daemon import Daemon, daemon, why_not

BUSYBOX = shutil.which("busybox")
pytestmark = pytest.mark.skipif(BUSYBOX is None, reason="busybox is not installed (Debian's package busybox-static)")

DOCKERFILE = """
FROM scratch
COPY busybox /bin/busybox
COPY busybox /bin/sh
ENV A=old B=old
WORKDIR /work
LABEL base=old
EXPOSE 80
HEALTHCHECK CMD true
CMD ["/bin/busybox", "env"]
"""
SHOW = ["/bin/sh", "-c", 'cd "$PWD"; echo "$A $B"; pwd; busybox cat /greeting']


@pytest.fixture
def driver() -> str:
    """The only driver of these tests."""
    return "vfs"


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with two images, `old` and `new`."""
    if reason := why_not():
        pytest.skip(reason)
    top = tmp_path_factory.mktemp("docker")
    context = top / "context"
    context.mkdir()
    assert BUSYBOX is not None
    shutil.copy(BUSYBOX, context / "busybox")
    with daemon(top / "root", "overlay2") as running:
        for name in ("old", "new"):
            (context / "Dockerfile").write_text(DOCKERFILE.replace("old", name))
            running("build", "-t", f"{name}:1", context)
        yield running


def run(docker: Daemon, image: str) -> list[str]:
    return docker.lines("run", "--rm", "--network", "none", image)


def test_docker_runs_what_each_command_makes(docker: Daemon, store: LayerStore, tmp_path: Path) -> None:
    images = Images(store)
    docker("save", "-o", tmp_path / "built.tar", "old:1", "new:1")
    images.load(tmp_path / "built.tar")
    (tmp_path / "greeting").write_text("hello\n")
    options = ConfigOptions(env={"B": "mine"}, cmd=SHOW, workdir="sub", labels={"mine": "1"}, message="why")
    made: dict[str, Image] = {}
    with images.create_rw_layer("work", "old:1") as rw:
        with rw.mounted() as root:
            shutil.copy(tmp_path / "greeting", Path(root, "greeting"))
        made["commit"] = images.commit(rw, "made/commit:1", config=options)
    made["append"] = images.append("old:1", [(tmp_path / "greeting", "/")], name="made/append:1", config=options)
    made["config"] = images.configure("made/commit:1", "made/config:1", ConfigOptions(env={"A": None, "C": "3"}))
    made["rebase"] = images.rebase("made/commit:1", "old:1", "new:1", "made/rebase:1")
    made["squash"] = images.squash("made/commit:1", name="made/squash:1", keep=1)
    assert len(made["squash"].diff_ids) == 2
    with store.get(images.get("made/commit:1").chain_id or "") as top:
        made["create"] = images.create([top], name="made/create:1")
        with store.create_rw_layer("look", top) as look, look.mounted() as root:
            made["import"] = images.import_root(root, name="made/import:1", config=ConfigOptions(cmd=SHOW))
    images.save([f"made/{name}:1" for name in made], tmp_path / "made.tar")
    docker("load", "-i", tmp_path / "made.tar")
    for name, image in made.items():
        inspected = docker.json("inspect", f"made/{name}:1")[0]
        assert inspected["Id"] == image.image_id
        steps = docker.lines("history", "--no-trunc", "--format", "{{.CreatedBy}}|{{.Comment}}", f"made/{name}:1")
        assert len(steps) == len(images.history(image))
    shown = {name: run(docker, f"made/{name}:1") for name in made if name != "create"}
    assert shown == {
        "commit": ["old mine", "/work/sub", "hello"],
        "append": ["old mine", "/work/sub", "hello"],
        "config": [" mine", "/work/sub", "hello"],
        "rebase": ["new mine", "/work/sub", "hello"],
        "squash": ["old mine", "/work/sub", "hello"],
        "import": [" ", "/", "hello"],
    }
    rebased = docker.json("inspect", "made/rebase:1")[0]["Config"]
    assert rebased["Labels"] == {"base": "new", "mine": "1"}
    assert (rebased["ExposedPorts"], rebased["Healthcheck"]) == ({"80/tcp": {}}, {"Test": ["CMD-SHELL", "true"]})
    assert docker.errors() == []


#: Changes that Docker's commit and ours know, and what they do to the object `Config`.
CHANGES = [
    ({"entrypoint": '["/bin/sh"]'}, ['ENTRYPOINT ["/bin/sh"]']),
    ({"entrypoint": "/bin/sh x"}, ["ENTRYPOINT /bin/sh x"]),
    ({"cmd": '["a"]', "entrypoint": '["/bin/sh"]'}, ['CMD ["a"]', 'ENTRYPOINT ["/bin/sh"]']),
    ({"cmd": "a  b"}, ["CMD a  b"]),
    ({"env": ["A=1", "NEW=x y", "B="]}, ["ENV A=1", 'ENV NEW="x y"', "ENV B="]),
    ({"workdir": "../z"}, ["WORKDIR ../z"]),
    ({"expose": ["90", "91/UDP", "100-102"]}, ["EXPOSE 90 91/UDP 100-102"]),
    ({"volumes": ['["/a", "b"]', "/c"]}, ['VOLUME ["/a", "b"]', "VOLUME /c"]),
    ({"user": "u:g", "labels": ["base=1", "l=2"]}, ["USER u:g", "LABEL base=1 l=2"]),
    ({"healthcheck": "--timeout=0.5s --retries=3 CMD x"}, ["HEALTHCHECK --timeout=0.5s --retries=3 CMD x"]),
]
KEYS = ("Env", "Entrypoint", "Cmd", "WorkingDir", "ExposedPorts", "Volumes", "User", "Labels", "Healthcheck")


def test_options_do_what_docker_commit_does(docker: Daemon, store: LayerStore, tmp_path: Path) -> None:
    images = Images(store)
    docker("save", "-o", tmp_path / "old.tar", "old:1")
    images.load(tmp_path / "old.tar")
    container = docker.text("create", "old:1")
    for options, changes in CHANGES:
        words = [word for change in changes for word in ("--change", change)]
        theirs = docker.json("inspect", docker.text("commit", *words, container))[0]["Config"]
        ours = images.configure("old:1", None, ConfigOptions.parse(**options)).config.document["config"]
        assert {key: ours.get(key) or None for key in KEYS} == {key: theirs.get(key) or None for key in KEYS}, changes


def test_commands_that_docker_commit_refuses_are_refused(docker: Daemon) -> None:
    container = docker.text("create", "old:1")
    for command in ("[1]", '["a", 1]', '[["a"]]', "[null]"):
        with pytest.raises(AssertionError, match="arrays must be comprised of strings only"):
            docker("commit", "--change", f"CMD {command}", container)
        with pytest.raises(ValueError, match="JSON array"):
            ConfigOptions(cmd=command)


def test_what_docker_notes_about_its_build_is_not_inherited(docker: Daemon, store: LayerStore, tmp_path: Path) -> None:
    """Docker's commit has those of its own container, not of the base."""
    images = Images(store)
    container = docker.text("create", "old:1")
    docker("commit", container, "theirs:1")
    docker("save", "-o", tmp_path / "both.tar", "old:1", "theirs:1")
    images.load(tmp_path / "both.tar")
    base, theirs = (images.get(name).config.document for name in ("old:1", "theirs:1"))
    ours = images.configure("old:1", None, ConfigOptions(labels={"a": "b"})).config.document
    for key in ("container", "container_config"):
        assert base.get(key) != theirs.get(key)
    assert not {"container", "container_config", "docker_version"} & ours.keys()
