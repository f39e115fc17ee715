"""Layerstore opens a root that a Docker daemon has filled. Then Docker opens it again."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import pytest
from loguru import logger

from layerstore_core import LayerStore, StoreConfig
from layerstore_core.driver.prior import chosen_drivers, prior_drivers
from layerstore_core.images import Images
from layerstore_core.maintenance.check import check_store
from layerstore_core.maintenance.gc import collect_garbage
from tests import tars
from tests.docker.contents import APP, BASE, MIDDLE, MTIME, SIBLING
from tests.docker.daemon import Daemon, daemon
from tests.images.archives import docker_archive, sha256, tar_files
from tests.in_gate import in_gate

DOCKERFILE = b"""FROM app:1
ENV VARIABLE=value
COPY copied /etc/copied
COPY copied /copied
"""
FROM_SCRATCH = b"""FROM scratch
ADD data.tar /
CMD ["/bin/sh"]
"""


def fill(docker: Daemon, tmp_path: Path) -> None:
    """Create images in all ways in which a daemon gets them, and a container."""
    docker("load", stdin=docker_archive(APP, SIBLING))
    docker("import", "-", "imported:1", stdin=BASE)
    context = {"Dockerfile": DOCKERFILE, "copied": b"copied" * 100}
    docker("build", "-t", "built:1", "-", stdin=tar_files(context))
    docker("build", "-t", "scratch:1", "-", stdin=tar_files({"Dockerfile": FROM_SCRATCH, "data.tar": MIDDLE}))
    docker("create", "--name", "box", "app:1")
    added = tars.tar(
        tars.entry(b"etc/new", b"new", mtime=MTIME),
        tars.entry(b"etc/shadow", b"changed, and longer\n", mtime=MTIME),
        tars.directory(b"dir/", mtime=MTIME),
        tars.entry(b"dir/n\xe4me", b"x", mtime=MTIME),
    )
    docker("cp", "-", "box:/", stdin=added)
    docker("commit", "box", "committed:1")


def layers_of(archive: bytes) -> list[bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        (item,) = json.loads(tar.extractfile("manifest.json").read())  # type: ignore[union-attr]
        return [tar.extractfile(path).read() for path in item["Layers"]]  # type: ignore[union-attr]


def changes(store: LayerStore, name: str) -> list[str]:
    """Return the changes in the form of `docker diff`, whose JSON cannot have bytes that are not UTF-8."""
    with store.get_rw_layer(name) as rw:
        return sorted(os.fsencode(str(change)).decode("utf-8", "replace") for change in rw.changes())


@pytest.mark.parametrize("driver", in_gate("overlay2"), indirect=True)
def test_layerstore_opens_a_root_of_docker(driver: str, store_root: Path, tmp_path: Path) -> None:
    root = store_root
    names = ("app:1", "sibling:2", "imported:1", "built:1", "scratch:1", "committed:1")
    with daemon(root, driver) as docker:
        fill(docker, tmp_path)
        ids = {name: docker.text("inspect", "--format", "{{.Id}}", name) for name in names}
        all_ids = set(docker.lines("images", "--all", "--quiet", "--no-trunc"))
        assert (prior_drivers(root), chosen_drivers(root)) == ([driver], [] if driver == "vfs" else [driver])
        sizes = {name: int(docker.text("inspect", "--format", "{{.Size}}", name)) for name in names}
        saved = {name: layers_of(docker("save", name)) for name in names}
        difference = sorted(docker.lines("diff", "box"))
        container = docker.text("inspect", "--format", "{{.Id}}", "box")
        with LayerStore.open(StoreConfig(root=root, driver=driver), read_only=True) as store:
            assert changes(store, container) == difference
    assert "A /etc/new" in difference and "C /etc/shadow" in difference

    warnings: list[str] = []
    handler = logger.add(lambda message: warnings.append(str(message)), level="WARNING")
    logger.enable("layerstore_core")
    try:
        with LayerStore.open(StoreConfig(root=root, driver=driver)) as store:
            images = Images(store)
            assert store.load_problems == []
            assert check_store(store, full=True) == []
            assert collect_garbage(store) == []
            assert {image.image_id for image in images.all()} == all_ids
            for name in names:
                image = images.get(name)
                assert image.image_id == ids[name]
                assert image.size == sizes[name]
                assert list(image.diff_ids) == [sha256(layer) for layer in saved[name]]
                for chain_id, layer in zip(image.chain_ids, saved[name], strict=True):
                    with store.get(chain_id) as handle, handle.tar_stream() as stream:
                        assert stream.read() == layer
            # The container in the state in which the daemon left it, then changed by layerstore.
            assert changes(store, container) == difference
            with store.get_rw_layer(container) as rw:
                with rw.mounted() as path:
                    os.unlink(Path(path, "etc/new"))
                    os.unlink(Path(path, "top"))
                    Path(path, "ours").write_text("by us")
                ours = changes(store, container)
                with rw.tar_stream() as stream:
                    committed = store.register(stream, rw.parent.chain_id if rw.parent else "")
                store.pin(committed)
                with committed, committed.tar_stream() as stream:
                    layer = stream.read()
    finally:
        logger.remove(handler)
    assert warnings == []
    assert {"A /ours", "D /top"} <= set(ours) and "A /etc/new" not in ours
    with tarfile.open(fileobj=io.BytesIO(layer), errors="surrogateescape") as tar:
        assert {"ours", ".wh.top", "etc/shadow", "dir/n\udce4me"} <= {name.strip("/") for name in tar.getnames()}

    with daemon(root, driver) as docker:
        assert sorted(docker.lines("diff", "box")) == ours
        assert docker.text("commit", "box", "again:1")
        docker("rm", "box")
        for name in (*names, *APP.names[1:], "again:1"):
            docker("rmi", "--force", name)
        assert docker.lines("images", "--all", "--quiet") == []
    with LayerStore.open(StoreConfig(root=root, driver=driver)) as store:
        # Docker does not delete a layer that layerstore has pinned.
        assert committed.chain_id in store.layers()
        assert check_store(store, full=True) == []
