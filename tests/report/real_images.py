"""Reports on real root file systems with planted waste: by mmdebstrap and our layers, by buildah, and by Docker.

It takes minutes and a mirror of Debian, so it is no part of the suite: `make engines` runs it. In each image the same
steps waste on purpose; most bytes of all are a cache that is removed, then files whose owner is changed, then a file
that is replaced. The reports name them in this order, before all else.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from layerstore_core import LayerStore, StoreConfig
from tests.docker import daemon
from tests.images.archives import ImageSpec, docker_archive

pytestmark = [pytest.mark.needs_root, pytest.mark.timeout(1800)]

SUITE = os.environ.get("LAYERSTORE_TEST_SUITE", "bookworm")
MIB = 1 << 20
FILL = "head -c {}M /dev/urandom"
#: The commands of the layers on the root file system.
STEPS = (
    f"mkdir /srv/app && {FILL.format(16)} >/opt/data.bin && for n in 1 2 3 4 5; do {FILL.format(4)} >/srv/app/$n; done",
    f"mkdir /var/cache/planted && for n in 1 2 3 4 5 6; do {FILL.format(4)} >/var/cache/planted/$n; done",
    "chown -R daemon /srv/app",
    f"{FILL.format(15)} >/opt/data.bin",
    "rm -r /var/cache/planted",
)
#: The path of each place, its bytes, those that were overwritten, and whether it was by the same contents.
PLANTED = [
    ("/var/cache/planted/", 24 * MIB, 0, False),
    ("/srv/app/", 20 * MIB, 20 * MIB, True),
    ("/opt/data.bin", 16 * MIB, 16 * MIB, False),
]
DOCKERFILE = "\n".join(["FROM scratch", "ADD root.tar /", 'CMD ["bash"]', *(f"RUN {step}" for step in STEPS)])


def run(*command: str | Path) -> str:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, (command, done.stdout[-2000:], done.stderr[-4000:])
    return done.stdout


def needs(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with Debian's smallest root file system as a tar, and a Dockerfile that makes the image of it."""
    needs("mmdebstrap")
    directory = tmp_path_factory.mktemp("context")
    run("mmdebstrap", "--quiet", "--variant=minbase", SUITE, directory / "root.tar")
    (directory / "Dockerfile").write_text(DOCKERFILE)
    return directory


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The root of a store with the driver overlay2."""
    root = tmp_path / "store"
    LayerStore.open(StoreConfig(root=root, driver="overlay2")).close()
    return root


def layerstore(root: Path, *words: str | Path) -> str:
    return run(sys.executable, "-m", "layerstore_core", "--root", root, "--driver", "overlay2", *words)


def check_report(root: Path, image: str) -> None:
    """Check what the reports say of an image that the steps have made."""
    found: dict[str, Any] = json.loads(layerstore(root, "report", image, "--json"))["image"]
    places = [(one["path"], one["size"], one["overwritten"], one["repeated"]) for one in found["places"]]
    assert places[:3] == PLANTED
    *_, written, planted, owned, replaced, removed = range(found["layer_count"])
    by = [(one["layers"], one["hidden_by"]) for one in found["places"][:3]]
    assert by == [([planted], [removed]), ([written], [owned]), ([written], [replaced])]
    # What tools write on their own, such as files of /etc that they mount, is next to nothing.
    assert 60 * MIB <= found["overwritten"] + found["deleted"] < 61 * MIB
    assert found["deleted"] >= 24 * MIB
    assert found["package_count"] > 50
    steps = [one["created_by"] for one in found["layers"]]
    assert "chown -R daemon" in steps[owned]
    assert "rm -r /var/cache/planted" in steps[removed]
    lines = layerstore(root, "report", image, "--markdown").splitlines()
    begin = lines.index("**Where the wasted bytes are**") + 4
    assert [line.split("`")[1] for line in lines[begin : begin + 3]] == [path for path, *_ in PLANTED]
    print(f"\n{image}: {found['entries']} files, {found['layer_count']} layers, places: {places[:4]}")


def test_a_debian_by_mmdebstrap(context: Path, store: Path) -> None:
    layers = [(context / "root.tar").read_bytes()]
    with LayerStore.open(StoreConfig(root=store, driver="overlay2")) as opened:
        parent = opened.register(io.BytesIO(layers[0]))
        for number, step in enumerate(STEPS):
            rw = opened.create_rw_layer(f"step{number}", parent.chain_id)
            with rw.mounted() as path:
                run("chroot", path, "sh", "-c", step)
            with rw.tar_stream() as stream:
                layers.append(stream.read())
            parent = opened.register(io.BytesIO(layers[-1]), parent.chain_id)
    history = [{"created_by": step} for step in ("ADD root.tar /", *STEPS)]
    archive = context / "ours.tar"
    archive.write_bytes(docker_archive(ImageSpec(layers, ("by/mmdebstrap:1",), extra={"history": history})))
    layerstore(store, "load", archive)
    check_report(store, "by/mmdebstrap:1")


def test_an_image_by_buildah(context: Path, store: Path, tmp_path: Path) -> None:
    needs("buildah")
    where = ("--root", tmp_path / "graph", "--runroot", tmp_path / "run", "--storage-driver", "overlay")
    built = ("--layers", "--isolation", "chroot", "--tag", "localhost/by/buildah:1")
    run("buildah", *where, "build", *built, "--file", context / "Dockerfile", context)
    archive = tmp_path / "buildah.tar"
    run("buildah", *where, "push", "localhost/by/buildah:1", f"docker-archive:{archive}:by/buildah:1")
    run("buildah", *where, "rmi", "--all", "--force")
    layerstore(store, "load", archive)
    check_report(store, "by/buildah:1")


def test_an_image_by_docker(context: Path, store: Path, tmp_path: Path) -> None:
    if reason := daemon.why_not():
        pytest.skip(reason)
    archive = tmp_path / "docker.tar"
    with daemon.daemon(tmp_path / "docker", "overlay2") as docker:
        docker("build", "--tag", "by/docker:1", context, seconds=900)
        docker("save", "by/docker:1", "--output", archive, seconds=300)
    layerstore(store, "load", archive)
    check_report(store, "by/docker:1")
