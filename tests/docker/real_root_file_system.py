"""A real Debian, loaded by layerstore and by Docker: the layers are compared file by file.

The test takes minutes and needs a mirror, so it is no part of the suite: `make real` runs it. It needs mmdebstrap, and
all that the other tests with a daemon need.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import stat
import subprocess
import time
from pathlib import Path

import pytest

from layerstore_core import LayerStore, StoreConfig
from layerstore_core.images import Images
from layerstore_core.maintenance.check import check_store
from tests.docker.daemon import daemon
from tests.images.archives import ImageSpec, docker_archive, sha256

SUITE = os.environ.get("LAYERSTORE_TEST_SUITE", "bookworm")
#: The packages of two layers. Their dependencies are in minbase.
PACKAGES = (("less", "tree"), ("file", "libmagic1", "libmagic-mgc"))


def run(*command: str | Path, cwd: Path | None = None) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=cwd)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> ImageSpec:
    """Make an image of Debian's smallest root file system and two layers of packages."""
    directory = tmp_path_factory.mktemp("debian")
    run("mmdebstrap", "--quiet", "--variant=minbase", SUITE, directory / "root.tar")
    layers = [(directory / "root.tar").read_bytes()]
    with LayerStore.open(StoreConfig(root=directory / "store", driver="overlay2")) as store:
        parent = store.register(io.BytesIO(layers[0]))
        for number, packages in enumerate(PACKAGES):
            (debs := directory / f"debs{number}").mkdir()
            run("apt-get", "--quiet", "download", *packages, cwd=debs)
            rw = store.create_rw_layer(f"install{number}", parent.chain_id)
            with rw.mounted() as path:
                for deb in sorted(debs.iterdir()):
                    (Path(path) / "tmp" / deb.name).write_bytes(deb.read_bytes())
                names = [f"/tmp/{deb.name}" for deb in sorted(debs.iterdir())]
                run("chroot", path, "dpkg", "--install", *names)
                for name in names:
                    os.unlink(path + name)
            with rw.tar_stream() as stream:
                layers.append(stream.read())
            parent = store.register(io.BytesIO(layers[-1]), parent.chain_id)
    return ImageSpec(layers, ("debian:real",))


@pytest.mark.parametrize("driver", ["overlay2"])
def test_a_real_image_is_loaded_as_by_docker(image: ImageSpec, driver: str, tmp_path: Path) -> None:
    archive = tmp_path / "image.tar"
    archive.write_bytes(docker_archive(image))
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    started = time.monotonic()
    with LayerStore.open(StoreConfig(root=ours, driver=driver)) as store:
        (loaded,) = Images(store).load(archive)
        took = time.monotonic() - started
        assert check_store(store, full=True) == []
    with daemon(theirs, driver) as docker:
        started = time.monotonic()
        docker("load", "--input", archive)
        theirs_took = time.monotonic() - started
        print(f"\n{archive.stat().st_size >> 20} MiB: layerstore {took:.1f} s, docker load {theirs_took:.1f} s")
    assert loaded.image_id == image.image_id
    assert list(loaded.diff_ids) == [sha256(layer) for layer in image.layers]
    records = {where: where / "image" / driver / "layerdb" / "sha256" for where in (ours, theirs)}
    assert sorted(os.listdir(records[ours])) == sorted(os.listdir(records[theirs]))
    files = 0
    for name in os.listdir(records[ours]):
        one, other = records[ours] / name, records[theirs] / name
        assert sorted(os.listdir(one)) == sorted(os.listdir(other))
        for field in ("diff", "size", "parent"):
            if (one / field).exists():
                assert (one / field).read_bytes() == (other / field).read_bytes()
        lines = [gzip.decompress((where / "tar-split.json.gz").read_bytes()) for where in (one, other)]
        assert lines[0] == lines[1]
        trees = [
            tree(root / driver / (where / "cache-id").read_text() / "diff")
            for root, where in ((ours, one), (theirs, other))
        ]
        assert trees[0] == trees[1]
        files += len(trees[0])
    print(f"{files} files are the same, and the tar-split lines byte for byte")


def tree(top: Path) -> dict[str, object]:
    """Return all that a tar would have of the files in a directory, including the hard links."""
    found: dict[str, object] = {}
    first: dict[int, str] = {}
    for where, directories, names in os.walk(top):
        for path in [where, *(os.path.join(where, name) for name in names + directories)]:
            status = os.lstat(path)
            name = os.path.relpath(path, top)
            content: str | bytes = ""
            if stat.S_ISREG(status.st_mode):
                with open(path, "rb") as file:
                    content = hashlib.file_digest(file, "sha256").digest()
            elif stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            # With overlay2 Docker ignores a tar's entry for the root itself (moby, `pkg/archive`, `Unpack`).
            mtime = status.st_mtime_ns if name != "." else None
            xattrs = {
                key: os.getxattr(path, key, follow_symlinks=False) for key in os.listxattr(path, follow_symlinks=False)
            }
            same = (
                first.setdefault(status.st_ino, name)
                if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode)
                else ""
            )
            found[name] = (
                status.st_mode, status.st_uid, status.st_gid, status.st_rdev, mtime, content, xattrs, same
            )  # fmt: skip
    return found
