"""The peers, each started once, and images that layerstore has made."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import tars, trees
from tests.directories import new_directory
from tests.docker.contents import MTIME
from tests.docker.daemon import Daemon, daemon
from tests.driver_roots import mounts_below
from tests.peers.contents import change, make_root
from tests.peers.programs import Containers, Layerstore, why_not

OPTIONS = (
    *("--env", "PATH=/bin", "--env", "A=b c", "--entrypoint", '["/bin/sh","-c"]'),
    *("--cmd", '["id -u; id -g; pwd; echo \\"$A,$B\\"; cat read"]', "--user", "app:web", "--workdir", "/srv"),
    *("--label", "org.x=y=1", "--label", "empty=", "--expose", "80", "--expose", "53/udp", "--volume", "/data"),
    *("--stop-signal", "SIGUSR1", "--author", "Me <me@example.org>", "--message", "a message"),
    *("--healthcheck", "--interval=1s --timeout=5s --retries=2 CMD test -e /srv/read"),
)
WORK_CMD = '["cat /tmp/x; ls /var/opaque; stat -c %a,%u,%Y /tmp /home/app"]'
_WORK = ["x", "fresh", "1777,0,1700000000", "755,1234,1700000000"]
#: What containers of the images print.
PRINTED = {
    "import": ["1234", "2345", "/srv", "b c,", "read"],
    "append": ["1234", "2345", "/srv", "b c,2", "read"],
    "commit": _WORK,
    "config": ["0", "/srv/sub", ",2"],
    "rebase": ["other,2,three", "x"],
    "squash": _WORK,
    "squash-keep": _WORK,
}
IMAGES = tuple(PRINTED)
#: Whether all images go to all peers, as in `make nightly`. Else Podman and buildah get some, to save time.
ALL = os.environ.get("LAYERSTORE_TEST_PEERS") == "all"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run all tests with peers in one process, so that each peer is started once."""
    for item in items:
        if "/tests/peers/" in str(item.path):
            item.add_marker(pytest.mark.xdist_group("peers"))


@pytest.fixture(autouse=True)
def _needs_peers() -> None:
    if reason := why_not():
        pytest.skip(reason)


@dataclass(frozen=True)
class Made:
    """Images that each command has made of one root file system.

    Attributes:
        layerstore: the store that has them.
        archive: all of them, as `docker save` writes them.
        trees: their trees, by name.
        configs: their configs.
    """

    layerstore: Layerstore
    archive: Path
    trees: dict[str, trees.Snapshot]
    configs: dict[str, dict[str, Any]]


@pytest.fixture(scope="session")
def directory() -> Iterator[Path]:
    """A directory for what all tests share. Podman wants a short path, unlike pytest's."""
    if reason := why_not():
        pytest.skip(reason)
    path = new_directory(Path(tempfile.gettempdir()), "layerstore-peers-")
    yield path
    for point in mounts_below(path):
        subprocess.run(["umount", "--lazy", point], check=False, capture_output=True)
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def root_files(directory: Path) -> Path:
    return make_root(directory / "files")


@pytest.fixture(scope="session")
def made(directory: Path, root_files: Path) -> Made:
    run = Layerstore(directory / "made")
    (added := directory / "added").mkdir()
    (added / "tmp").mkdir()
    (added / "tmp" / "x").write_text("x\n")
    (added / "home" / "app").mkdir(parents=True)
    (added / "home" / "app" / "y").write_text("y")
    # Programs that keep the files of each layer apart have no file of the image below to link to.
    links = (
        tars.hard_link(b"opt/read", b"srv/read", mtime=MTIME),
        tars.hard_link(b"opt/su", b"bin/su", mode=0o4755, mtime=MTIME),
    )
    (directory / "links.tar").write_bytes(tars.tar(*links))
    run("import", root_files, "-t", "import:1", *OPTIONS, "--created", "2024-01-01T00:00:00Z")
    run(
        *(
            "append",
            "import:1",
            added,
            directory / "links.tar",
            f"{root_files / 'etc/passwd'}:/opt/deep/passwd",
            "-t",
            "append:1",
        ),
        *("--chown", "app:web", "--env", "B=2", "--label", "empty-", "--created", "2024-01-02T00:00:00Z"),
    )
    run("rw", "create", "work", "--image", "append:1")
    tree = Path(run("rw", "mount", "work"))
    change(tree)
    os.utime(tree / "tmp", ns=(0, 1_700_000_000 * 10**9))
    run("commit", "work", "commit:1", "--cmd", WORK_CMD, "--user", "", "--message", "by hand")
    run("rw", "umount", "work")
    run(
        *("config", "commit:1", "-t", "config:1", "--entrypoint", 'id -u; pwd; echo "$A,$B"', "--env", "A-"),
        *("--workdir", "sub", "--volume", "/data-", "--expose", "80-", "--healthcheck", "NONE", "--stop-signal", ""),
    )
    run(
        *("import", root_files, "-t", "other:1", "--env", "PATH=/bin", "--env", "A=other", "--env", "C=three"),
        *("--entrypoint", '["/bin/sh","-c"]', "--cmd", '["echo \\"$A,$B,$C\\"; cat /tmp/x"]', "--label", "o=1"),
    )
    run("rebase", "append:1", "--old", "import:1", "--new", "other:1", "-t", "rebase:1")
    run("squash", "commit:1", "-t", "squash:1")
    run("squash", "commit:1", "-t", "squash-keep:1", "--keep", "1")
    found: dict[str, trees.Snapshot] = {}
    for image in IMAGES:
        with run.mounted(f"{image}:1") as path:
            found[image] = trees.snapshot(path)
    names = [f"{image}:1" for image in IMAGES]
    run("save", *names, "-o", directory / "made.tar")
    return Made(run, directory / "made.tar", found, {image: run.config(f"{image}:1") for image in IMAGES})


@pytest.fixture(scope="session")
def docker(directory: Path) -> Iterator[Daemon]:
    with daemon(directory / "docker", "overlay2") as running:
        yield running


@pytest.fixture(scope="session")
def containers(directory: Path) -> Containers:
    return Containers(directory / "containers")
