"""A Docker daemon opens a root that layerstore has filled. Then layerstore opens it again."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from layerstore_core import LayerStore, StoreConfig
from layerstore_core.errors import ReadOnlyStore, RootInUse
from layerstore_core.images import Images
from layerstore_core.maintenance.check import check_store
from layerstore_core.maintenance.gc import collect_garbage
from tests import tars
from tests.docker.contents import APP, DEEP_CHAIN, IMAGES, MTIME, REPEATED, SIBLING, SPARE
from tests.docker.daemon import Daemon, daemon
from tests.images.archives import docker_archive, sha256
from tests.in_gate import in_gate


def open_store(root: Path, driver: str, **options: bool) -> LayerStore:
    return LayerStore.open(StoreConfig(root=root, driver=driver), **options)


def saved_layers(archive: bytes) -> list[bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        (item,) = json.loads(tar.extractfile("manifest.json").read())  # type: ignore[union-attr]
        return [tar.extractfile(path).read() for path in item["Layers"]]  # type: ignore[union-attr]


#: Commands that change nothing.
READING = (
    ["images"], ["history", "app:1"], ["save", "app:1", "-o", "/dev/null"], ["ls"], ["info"], ["check"],
    ["rw", "ls"], ["rw", "changes", "ours"],
)  # fmt: skip
#: The files that Docker creates in the init layer of a container (moby, `daemon/initlayer`).
_INIT = re.compile(r"\.?|(dev|proc|sys|\.dockerenv)(/.*)?|etc/(hosts|hostname|resolv\.conf|mtab)")


def names_in(tree: bytes) -> dict[str, tuple[str, int, int, int, int, str]]:
    """Return the metadata of the files in a tree's tar, by name."""
    with tarfile.open(fileobj=io.BytesIO(tree), errors="surrogateescape") as tar:
        return {
            m.name.strip("/"): (m.type.decode(), m.mode & 0o7777, m.uid, m.gid, m.size, m.linkname if m.issym() else "")
            for m in tar
            if not _INIT.fullmatch(m.name.strip("/"))
        }


@pytest.mark.parametrize("driver", in_gate("overlay2"), indirect=True)
def test_docker_opens_a_root_of_layerstore(driver: str, store_root: Path) -> None:
    root = store_root
    with open_store(root, driver) as store:
        images = Images(store)
        images.load(io.BytesIO(docker_archive(*IMAGES)))
        sizes = {image.image_id: image.size for image in images.all()}
        rw = store.create_rw_layer("ours", images.get("app:1").chain_id or "")
        tree = b""
        with rw.mounted() as path:
            Path(path, "written").write_text("by us")
        with store.get(images.get("app:1").chain_id or "") as top, top.tar_stream_from("") as stream:
            tree = stream.read()
        rw.close()

    with daemon(root, driver) as docker:
        listed = docker.lines("images", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}")
        assert sorted(listed) == sorted(f"{name} {image.image_id}" for image in IMAGES for name in image.names)
        for image in IMAGES:
            (found,) = docker.json("inspect", image.names[0])
            assert found["RootFS"]["Layers"] == [sha256(layer) for layer in image.layers]
            assert found["Size"] == sizes[image.image_id]
            steps = docker.lines("history", "--no-trunc", "--format", "{{.CreatedBy}}", image.names[0])
            assert steps == ["CMD", *(f"step {n}" for n in reversed(range(len(image.layers))))]
            assert saved_layers(docker("save", image.names[0])) == list(image.layers)
        container = docker.text("create", "app:1")
        assert names_in(docker("export", container)) == names_in(tree)
        docker("rm", container)
        assert_root_cannot_be_written_while_docker_runs(docker)
        # Docker changes the store: it adds an image on one of our layers, and deletes one of our images.
        container = docker.text("create", "sibling:2")
        docker("cp", "-", f"{container}:/", stdin=tars.tar(tars.entry(b"added", b"by Docker", mtime=MTIME)))
        docker("commit", container, "theirs:1")
        docker("rm", container)
        docker("rmi", "spare:1")
        docker("tag", "app:1", "retagged:1")
        assert docker.errors() == []

    with open_store(root, driver) as store:
        images = Images(store)
        assert store.load_problems == []
        assert check_store(store, full=True) == []
        assert {name for image in images.all() for name in image.names} == {
            *APP.names, *SIBLING.names, *DEEP_CHAIN.names, *REPEATED.names, "theirs:1", "retagged:1",
        }  # fmt: skip
        theirs = images.get("theirs:1")
        assert theirs.chain_ids[:2] == images.get("sibling:2").chain_ids
        with store.get(theirs.chain_id or "") as layer, layer.tar_stream() as stream:
            assert "added" in names_in(stream.read())
        with store.get_rw_layer("ours") as rw:
            assert [str(change) for change in rw.changes()] == ["A /written"]
        assert collect_garbage(store) == []
        for name in ("app:1", "retagged:1", "example.com/team/app", "deep:40", "repeated:1", "theirs:1", "sibling:2"):
            images.remove(name, force=True)
        store.release_rw_layer(store.get_rw_layer("ours"))
        assert (store.layers(), images.all()) == ({}, [])


def assert_root_cannot_be_written_while_docker_runs(docker: Daemon) -> None:
    with pytest.raises(RootInUse, match=rf"process {docker.pid} \(dockerd\)"):
        open_store(docker.root, docker.driver)
    with open_store(docker.root, docker.driver, read_only=True) as store:
        images = Images(store)
        image = images.get("app:1")
        assert image.image_id == APP.image_id
        assert check_store(store, full=True) == []
        for refused in (
            lambda: images.remove("app:1"),
            lambda: images.tag("app:1", "other:1"),
            lambda: images.load(io.BytesIO(docker_archive(SPARE, SIBLING))),
            lambda: store.register(io.BytesIO(tars.tar())),
            lambda: store.create_rw_layer("new"),
            lambda: store.get_rw_layer("ours").mount(),
            store.cleanup,
        ):
            with pytest.raises(ReadOnlyStore):
                refused()  # type: ignore[operator]
    assert docker.lines("images", "-q", "app:1")
    assert_commands_only_read_while_docker_runs(docker)


def assert_commands_only_read_while_docker_runs(docker: Daemon) -> None:
    program = [sys.executable, "-m", "layerstore_core", "--root", str(docker.root), "--driver", docker.driver]
    for words in READING:
        done = subprocess.run([*program, *words], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), words
    for words in (["gc"], ["rmi", "app:1"], ["rw", "mount", "ours"], ["check", "--repair"]):
        done = subprocess.run([*program, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert f"running Docker daemon, process {docker.pid} (dockerd)" in done.stderr


@pytest.mark.parametrize("driver", ["vfs"])
def test_no_daemon_starts_while_layerstore_has_the_root_open(store_root: Path, driver: str, tmp_path: Path) -> None:
    with daemon(store_root, driver):
        pass
    with open_store(store_root, driver), pytest.raises(AssertionError, match="timeout"), daemon(store_root, driver):
        pass
    with daemon(store_root, driver):
        pass


def test_docker_loads_an_archive_with_gzip_layers(tmp_path: Path) -> None:
    with open_store(tmp_path / "ours", "vfs") as store:
        images = Images(store)
        images.load(io.BytesIO(docker_archive(APP)))
        images.save("app:1", tmp_path / "gzip.tar", compression="gzip")
    with daemon(tmp_path / "docker", "vfs") as docker:
        assert docker.text("load", "-i", str(tmp_path / "gzip.tar")) == "Loaded image: app:1"
        assert docker.lines("images", "--no-trunc", "--format", "{{.ID}}") == [APP.image_id]
