"""Images that Docker and buildah have built: commands show what their programs show, and make new images of them."""

from __future__ import annotations

import io
import itertools
import json
import os
import stat
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import trees
from tests.across.conftest import differences
from tests.docker.daemon import Daemon
from tests.peers.conftest import ALL
from tests.peers.contents import change
from tests.peers.programs import Containers, Layerstore, docker_mounted, run, said, steps

DOCKERFILE = """
FROM scratch
ADD root.tar /
ENV PATH=/bin A=1
RUN busybox rm -rf /var/old && echo now a file > /var/old
RUN busybox rm -rf /var/opaque && busybox mkdir /var/opaque && echo fresh > /var/opaque/fresh
RUN busybox ln /etc/group /etc/group2 && busybox rm /bin/sudo && busybox chmod 700 /srv
LABEL k=v
COPY --chown=5:6 added /opt/added
RUN busybox ln -s /etc /link && busybox mkdir -m 1777 /srv/t && busybox chown 9:9 /home && busybox mkdir -p /a/b/c
RUN busybox mv /home/su /home/su2 && busybox touch -d '2001-02-03 04:05:06' /etc/group && echo 1 > /a/b/c/d
RUN busybox rm -rf /a && busybox mkdir -p /a/b && busybox mknod /a/b/device c 5 1
HEALTHCHECK --retries=3 CMD true
ENTRYPOINT ["/bin/sh", "-c"]
CMD ["id -u"]
"""
#: Files that Docker adds to a container (moby, `daemon/initlayer`).
_OF_CONTAINERS = {"dev", "proc", "sys", ".dockerenv", "etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/mtab"}
SCRIPT = """
cd / && busybox rm -rf a home/app var/opaque link
busybox mkdir srv/op var/opaque link && busybox mkfifo ff && echo x > a && echo 2 >> etc/shadow
busybox chmod 600 etc/passwd && busybox touch -d '2002-02-02 02:02:02' srv/read && busybox mv srv/absolute absolute
"""


COPIED = ("/opt/added", "/opt/added/.", "/link", "/bin/su")


@dataclass(frozen=True)
class Built:
    """An image that a peer has built.

    Attributes:
        archive: the image with its base, `base:1`, as a docker-archive.
        name: its name in the archive.
        tree: its tree, as the peer mounts it.
        config: its execution config, as the peer shows it.
        history: its steps.
    """

    archive: Path
    name: str
    tree: trees.Snapshot
    config: dict[str, Any]
    history: list[tuple[str, str, bool]]


@pytest.fixture(scope="session")
def docker_built(docker: Daemon, directory: Path, root_files: Path) -> Built:
    (context := directory / "context").mkdir()
    run("tar", "--xattrs", "-C", root_files, "-cf", context / "root.tar", ".")
    (context / "added" / "x").mkdir(parents=True)
    (context / "added" / "x" / "f").write_text("f")
    lines = DOCKERFILE.splitlines()
    (context / "Dockerfile").write_text("\n".join(lines[:4]))
    docker("build", "-t", "base:1", context)
    (context / "Dockerfile").write_text("\n".join(lines))
    docker("build", "-t", "built:1", context)
    docker("save", "base:1", "built:1", "-o", directory / "built.tar")
    (found,) = docker.json("image", "inspect", "built:1")
    with docker_mounted(found, directory / "merged") as tree:
        files = trees.snapshot(tree)
    told = [json.loads(line) for line in docker.lines("history", "--no-trunc", "--format", "{{json .}}", "built:1")]
    history = [(step["CreatedBy"], step["Comment"], step["Size"] == "0B") for step in reversed(told)]
    return Built(directory / "built.tar", "built:1", files, found["Config"], history)


@pytest.fixture(scope="session")
def buildah_built(containers: Containers, directory: Path, root_files: Path) -> Built:
    buildah = containers.buildah
    names = "localhost/base:1", "localhost/built:1"
    buildah("from", "--name", "work", "scratch")
    buildah("copy", "--quiet", "work", root_files, "/")
    buildah("config", "--env", "PATH=/bin", "work")
    buildah("commit", "--quiet", "--format", "docker", "work", names[0])
    buildah("from", "--name", "more", "--pull-never", names[0])
    change(Path(buildah("mount", "more")))
    options = ("--env", "A=1", "--label", "k=v", "--entrypoint", '["/bin/sh", "-c"]', "--cmd", "id", "--port", "80")
    buildah(
        "config", *options, "--healthcheck", "true", "--user", "app", "--workingdir", "/srv", "--volume", "/v", "more"
    )
    buildah("commit", "--quiet", "--format", "docker", "more", names[1])
    buildah("rm", "--all")
    containers.podman("save", "--multi-image-archive", "-q", "-o", directory / "buildah.tar", *names)
    found = json.loads(buildah("inspect", "--type", "image", names[1]))["Docker"]
    with containers.mounted(names[1]) as tree:
        files = trees.snapshot(tree)
    return Built(directory / "buildah.tar", names[1], files, found["config"], steps(found["history"]))


@pytest.fixture(scope="session", params=["docker", "buildah"])
def built(request: pytest.FixtureRequest) -> Built:
    found: Built = request.getfixturevalue(f"{request.param}_built")
    return found


@pytest.fixture(scope="session")
def loaded(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Layerstore:
    layerstore = Layerstore(tmp_path_factory.mktemp("theirs") / "store")
    layerstore("load", built.archive)
    return layerstore


def test_trees_configs_and_histories_are_those_of_the_peer(built: Built, loaded: Layerstore, tmp_path: Path) -> None:
    config = loaded.config(built.name)
    assert config["config"] == built.config
    assert loaded.json("inspect", built.name)["config"] == config
    shown = loaded.json("history", built.name)["history"][::-1]
    assert [(step["created_by"], step["comment"]) for step in shown] == [step[:2] for step in built.history]
    assert [step["chain_id"] is None for step in shown] == [empty for _, _, empty in steps(config["history"])]
    assert all(empty for step, (_, _, empty) in zip(shown, built.history, strict=True) if step["chain_id"] is None)
    with loaded.mounted(built.name) as tree:
        assert differences(trees.snapshot(tree), built.tree) == []
    loaded("rootfs", built.name, "-o", tmp_path / "rootfs")
    assert differences(trees.snapshot(tmp_path / "rootfs"), built.tree) == []
    loaded("cp", f"{built.name}:/.", tmp_path / "copy")
    assert differences(trees.snapshot(tmp_path / "copy"), built.tree) == []


def test_files_and_cat_show_what_the_peer_has(built: Built, loaded: Layerstore) -> None:
    found = {entry["path"]: entry for entry in loaded.json("files", built.name, "-R")["files"]}
    found.pop("/", None)
    assert set(found) == {"/" + os.fsdecode(path) for path in built.tree}
    for path, (mode, uid, gid, mtime, content, xattrs, names) in built.tree.items():
        entry = found["/" + os.fsdecode(path)]
        assert (entry["mode"], entry["uid"], entry["gid"]) == (f"{stat.S_IMODE(mode):04o}", uid, gid), path  # type: ignore[str-bytes-safe]
        assert entry["mtime_ns"] == mtime, path
        assert set(entry["xattrs"]) == set(xattrs), path  # type: ignore[call-overload]
        links = ["/" + os.fsdecode(name) for name in names or ()]  # type: ignore[attr-defined]
        assert entry["hard_links"] == (links if len(links) > 1 else []), path
        if stat.S_ISLNK(mode):  # type: ignore[arg-type]
            assert entry["target"] == os.fsdecode(content)  # type: ignore[arg-type]
        elif stat.S_ISREG(mode):  # type: ignore[arg-type]
            assert loaded.bytes("cat", built.name, "/" + os.fsdecode(path)) == content


def test_which_names_the_steps_of_a_dockerfile(docker_built: Built, tmp_path: Path) -> None:
    layerstore = Layerstore(tmp_path / "store")
    layerstore("load", docker_built.archive)
    for path, changes in {
        "/var/old": [("changed", "rm -rf /var/old"), ("added", "ADD file")],
        "/var/old/one": [("deleted", "rm -rf /var/old"), ("added", "ADD file")],
        "/var/opaque/sub/x": [("deleted", "rm -rf /var/opaque"), ("added", "ADD file")],
        "/bin/sudo": [("deleted", "rm /bin/sudo"), ("added", "ADD file")],
        "/home/su2": [("added", "mv /home/su")],
        "/a/b/c/d": [("deleted", "mknod"), ("added", "echo 1")],
        "/link/group2": [("added", "ln /etc/group")],
        "/opt/added/x/f": [("added", "COPY")],
    }.items():
        found = layerstore.json("which", "built:1", path)["steps"]
        assert [step["change"] for step in found] == [kind for kind, _ in changes], path
        assert all(words in step["created_by"] for step, (_, words) in zip(found, changes, strict=True)), path


@pytest.mark.parametrize("built", ["docker", "buildah"] if ALL else ["docker"], indirect=True)
def test_commands_go_on_from_the_image(
    request: pytest.FixtureRequest, built: Built, loaded: Layerstore, root_files: Path, tmp_path: Path
) -> None:
    base = built.name.replace("built", "base")
    loaded("append", built.name, f"{root_files / 'etc/shadow'}:/tmp/deep/s", "-t", "on/append:1", "--env", "B=2")
    loaded("rw", "create", "on", "--image", "on/append:1")
    tree = Path(loaded("rw", "mount", "on"))
    (tree / "etc/group2").unlink()
    (tree / "home/app/new").write_text("new")
    loaded("rw", "umount", "on")
    loaded("commit", "on", "on/commit:1", "--label", "l=2", "--message", "more")
    loaded("rw", "rm", "on")
    loaded("config", "on/commit:1", "-t", "on/config:1", "--user", "0", "--cmd", '["id -u; pwd; echo $A,$B"]')
    loaded("squash", "on/config:1", "-t", "on/squash:1", "--keep", "1")
    loaded("import", root_files, "-t", "on/other:1", "--env", "PATH=/bin", "--env", "C=3")
    loaded("rebase", "on/config:1", "--old", base, "--new", "on/other:1", "-t", "on/rebase:1")
    names = [f"on/{name}:1" for name in ("append", "commit", "config", "squash", "rebase")]
    loaded("save", *names, "-o", tmp_path / "on.tar")
    assert loaded.config("on/commit:1")["history"][: len(built.history)] == loaded.config(built.name)["history"]
    peer = request.getfixturevalue("docker" if built.name == "built:1" else "containers")
    (peer if isinstance(peer, Daemon) else peer.podman)("load", "-q", "-i", tmp_path / "on.tar")
    for name in names:
        config = loaded.config(name)["config"]
        with loaded.mounted(name) as tree:
            ours = trees.snapshot(tree)
        if isinstance(peer, Daemon):
            (found,) = peer.json("image", "inspect", name)
            assert said(found["Config"]) == said(config)
            with docker_mounted(found, tmp_path / name.replace("/", "-")) as tree:
                theirs = trees.snapshot(tree)
        else:
            name = f"localhost/{name}"
            assert said(peer.inspect(name)["Config"]).items() <= config.items()
            with peer.mounted(name) as tree:
                theirs = trees.snapshot(tree)
        assert differences(theirs, ours) == []
    directory = "/" if isinstance(peer, Daemon) else "/srv"
    if isinstance(peer, Daemon):
        assert peer.lines("run", "--rm", "--network=none", "on/squash:1") == ["0", directory, "1,2"]
    else:
        assert peer.run("localhost/on/squash:1") == ["0", directory, "1,2"]


def entries(data: bytes, *, times: bool = True) -> dict[str, tuple[object, ...]]:
    """Return the entries of a tar without those that Docker adds to containers."""
    found: dict[str, tuple[object, ...]] = {}
    with tarfile.open(fileobj=io.BytesIO(data), errors="surrogateescape") as tar:
        for member in tar:
            name = member.name.removeprefix("./").strip("/")
            if name in {"", ".", "etc"} or _OF_CONTAINERS & {name, name.split("/")[0]}:
                continue
            file = tar.extractfile(member) if member.isreg() else None
            link = member.linkname.removeprefix("./").removeprefix("/") if member.islnk() else member.linkname
            found[name] = (
                *(member.type, member.mode & 0o7777, member.uid, member.gid, int(member.mtime) if times else 0, link),
                *(file.read() if file else b"", member.pax_headers.get("SCHILY.xattr.security.capability")),
            )
    return found


@pytest.fixture(scope="session")
def ours(docker_built: Built, directory: Path) -> Layerstore:
    layerstore = Layerstore(directory / "of-docker")
    layerstore("load", docker_built.archive)
    return layerstore


def test_cp_and_rootfs_give_the_tars_of_docker(docker: Daemon, ours: Layerstore, tmp_path: Path) -> None:
    container = docker.text("create", "built:1")
    for path in (
        "/srv",
        "/srv/.",
        "/var",
        "/home/app",
        "/link",
        "/link/group",
        "/srv/relative",
        "/srv/null",
        "/bin/ping",
    ):
        assert entries(ours.bytes("cp", f"built:1:{path}", "-")) == entries(docker("cp", f"{container}:{path}", "-")), (
            path
        )
    assert entries(ours.bytes("rootfs", "built:1", "-o", "-")) == entries(docker("export", container))
    for number, (path, place) in enumerate(itertools.product(COPIED, ("dir", "dir/new", "file"))):
        results = []
        for who in ("docker", "ours"):
            here = tmp_path / f"{who}{number}"
            (here / "dir").mkdir(parents=True)
            (here / "file").write_text("old")
            os.utime(here / "file", (0, 0))
            try:
                if who == "docker":
                    docker("cp", f"{container}:{path}", here / place)
                else:
                    ours("cp", f"built:1:{path}", here / place)
                done = True
            except AssertionError:
                done = False
            found = trees.snapshot(here, directory_times=False)
            # Docker does not keep owners, and root's cp does.
            results.append((done, {name: (mode, *rest) for name, (mode, _, _, *rest) in found.items()}))
        assert results[0] == results[1], (path, place)
    docker("rm", container)


def test_changes_and_commit_are_those_of_docker(docker: Daemon, ours: Layerstore, tmp_path: Path) -> None:
    docker("run", "--name", "changed", "--network=none", "built:1", SCRIPT)
    ours("rw", "create", "changed", "--image", "built:1")
    tree = ours("rw", "mount", "changed")
    subprocess.run(
        ["chroot", tree, "/bin/sh", "-c", SCRIPT], check=True, env={**os.environ, "PATH": "/bin:" + os.environ["PATH"]}
    )
    ours("rw", "umount", "changed")
    changed = sorted(docker.lines("diff", "changed"), key=lambda line: line[2:])
    assert ours("rw", "changes", "changed").splitlines() == changed
    differ = ours.json("diff", "built:1", "changed")["changes"]
    # Docker also lists directories of which only a file has changed.
    assert set(changed) - {f"{change['kind']} {change['path']}" for change in differ} == {"C /etc"}
    assert len(differ) == len(changed) - 1
    docker(
        *("commit", "--message", "why", "--author", "Me", "--change", "ENV A=2", "--change", 'CMD ["x"]'),
        *("changed", "committed:1"),
    )
    docker("rm", "changed")
    ours("commit", "changed", "committed:1", "--message", "why", "--author", "Me", "--env", "A=2", "--cmd", '["x"]')
    docker("save", "committed:1", "-o", tmp_path / "theirs.tar")
    theirs = Layerstore(tmp_path / "theirs")
    theirs("load", tmp_path / "theirs.tar")
    layers = [
        entries(
            store.bytes("export", store.json("inspect", "committed:1")["layers"][-1]["chain_id"], "-o", "-"),
            times=False,
        )
        for store in (ours, theirs)
    ]
    # Docker's overlay2 hides all of a directory that was made anew; vfs deletes each name.
    marks = [{name for name in layer if name.rpartition("/")[2].startswith(".wh.")} for layer in layers]
    assert marks[1] - marks[0] == {"link/.wh..wh..opq", "var/opaque/.wh..wh..opq"}
    assert marks[0] - marks[1] == {"var/opaque/.wh.fresh"}
    plain = [
        {name: entry for name, entry in layer.items() if name not in mark}
        for layer, mark in zip(layers, marks, strict=True)
    ]
    assert plain[0] == plain[1]
    configs = [store.config("committed:1") for store in (ours, theirs)]
    of_containers = {"Hostname": "", "Image": "", "AttachStdout": None, "AttachStderr": None}
    one, other = (said({**config["config"], **of_containers}) for config in configs)
    assert one == other
    assert configs[0]["author"] == configs[1]["author"] == "Me"
    # Docker describes the container here; the parts of ours that described the one of the last step are gone.
    assert not {"container", "container_config", "docker_version"} & set(configs[0])
    told = [[comment for _, comment, empty in steps(config["history"]) if not empty] for config in configs]
    assert told[0] == told[1]
    assert told[0][-1] == "why"
    ours("rw", "rm", "changed")
