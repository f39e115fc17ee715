"""Layers with a table of contents, made by the converter of stargz-snapshotter and by Podman, are read as they are."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from layerstore_core import RegistryImage
from tests import tars
from tests.across.chains import attributes, d, f, link, node, sym
from tests.images.archives import ImageSpec, oci_files, tar_files, write_files
from tests.images.remote.test_lazy_layers import described
from tests.peers.programs import Containers, run
from tests.registry.fake_registry import FakeRegistry
from tests.registry.servers import docker_registry, program_missing

_PATIENCE = 30
_NAME = "example.org/app:1"
CHUNKED = os.urandom(1 << 20) + bytes(5 << 20)
LAYERS = (
    tars.tar(
        d(b"./"),
        d(b"./etc", mode=0o750, uid=3, gid=4),
        f(b"./etc/os", b"base\n"),
        f(b"etc/gone", b"gone"),
        d(b"usr"),
        d(b"usr/lib"),
        f(b"usr/lib/chunked", CHUNKED, mode=0o4755, uid=70_000),
        f(b"usr/zeros", bytes(1 << 20)),
        link(b"usr/hard", b"usr/lib/chunked", mode=0o4755, uid=70_000),
        sym(b"lib", b"usr/lib"),
        sym(b"up", b"../etc/os"),
        d(b"dev"),
        node(b"dev/null", b"3", (1, 3), mode=0o666),
        node(b"dev/disk", b"4", (8, 1)),
        node(b"dev/fifo", b"6"),
        attributes(f(b"usr/x", b"x"), user_a=b"\0\xff"),
        f("usr/caf\u00e9".encode(), b"u"),
        f(b"usr/old", b"o", mtime=-5),
        f(b"usr/" + b"n" * 200, b"long"),
    ),
    tars.tar(
        d(b"etc"), f(b"etc/.wh.gone"), f(b"etc/os", b"new\n"), d(b"dev"), f(b"dev/.wh..wh..opq"), f(b"dev/own", b"own")
    ),
)


@dataclass(frozen=True)
class Converted:
    """An image in both formats, as the converter exports it: OCI archives.

    Attributes:
        archives: the archives by format.
    """

    archives: dict[str, Path]


@contextmanager
def containerd(directory: Path) -> Iterator[Path]:
    """Run a containerd of its own for the length of a `with` block. Yield its socket."""
    directory.mkdir()
    socket = directory / "socket"
    config = directory / "config.toml"
    config.write_text(
        f'version = 2\nroot = "{directory}/root"\nstate = "{directory}/state"\n'
        f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "{socket}"\n'
    )
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(["containerd", "--config", config], stdout=log, stderr=log)
    try:
        end = time.monotonic() + _PATIENCE
        while not socket.exists():
            assert process.poll() is None and time.monotonic() < end, (directory / "log").read_text()[-2000:]
            time.sleep(0.05)
        yield socket
    finally:
        process.terminate()
        process.wait(_PATIENCE)


@pytest.fixture(scope="session")
def layout(directory: Path) -> Path:
    return write_files(directory / "plain-layout", oci_files(ImageSpec(LAYERS, [_NAME])))


@pytest.fixture(scope="session")
def converted(directory: Path) -> Converted:
    for program in ("ctr-remote", "containerd"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed (Debian's package stargz-snapshotter)")
    archive = directory / "plain.tar"
    archive.write_bytes(tar_files(oci_files(ImageSpec(LAYERS, [_NAME]))))
    archives = {form: directory / f"{form}.tar" for form in ("estargz", "zstdchunked")}
    with containerd(directory / "containerd") as socket:
        client = ("ctr-remote", "--address", socket, "images")
        run(*client, "import", "--no-unpack", archive)
        for form, path in archives.items():
            run(*client, "convert", "--oci", f"--{form}", _NAME, f"example.org/{form}:1")
            run(*client, "export", path, f"example.org/{form}:1")
    return Converted(archives)


def add_archive(fake: FakeRegistry, archive: Path) -> str:
    """Put the image of an OCI archive into a registry; return its name."""
    with tarfile.open(archive) as tar:
        files = {one.name: tar.extractfile(one).read() for one in tar if one.isfile()}  # type: ignore[union-attr]
    for name, data in files.items():
        if name.startswith("blobs/"):
            fake.add_blob("app", data)
    (entry,) = json.loads(files["index.json"])["manifests"]
    path = f"blobs/{entry['digest'].replace(':', '/')}"
    fake.add_manifest("app", files[path], entry["mediaType"], "1")
    return f"{fake.host}/app:1"


def check(name: str, tables: int) -> None:
    """Compare what the tables of an image say, and contents by ranges, with the verified layers."""
    with RegistryImage(name) as image, image.view() as view, RegistryImage(name, verify=True) as other:
        with other.view() as verified:
            assert described(view) == described(verified)
            assert view.find(b"usr/lib/chunked")[1] is view.find(b"usr/hard")[1]
        assert sum(bool(layer.annotations) for layer in image.layers) == tables


@pytest.mark.parametrize("form", ["estargz", "zstdchunked"])
def test_what_the_converter_makes_is_read_by_its_tables(
    converted: Converted, form: str, fake_registry: FakeRegistry
) -> None:
    name = add_archive(fake_registry, converted.archives[form])
    check(name, 2)
    fake_registry.log.clear()
    with RegistryImage(name) as image, image.view() as view:
        assert (view / "lib/chunked").read_bytes() == CHUNKED
        whole = image.layers[0].size
        assert (view / "etc/os").read_text() == "new\n"
        with pytest.raises(FileNotFoundError):
            view.open(b"etc/gone")
    # The whole file is one request; nothing else of the layer but its table was sent.
    assert max(request.sent for request in fake_registry.log.all("/blobs/")) < whole - 1000
    assert fake_registry.log.count("/blobs/") <= 8


def test_what_podman_pushes_is_read_by_its_tables(containers: Containers, layout: Path, directory: Path) -> None:
    if reason := program_missing("docker-registry"):
        pytest.skip(reason)
    with docker_registry(directory / "zstd-chunked") as server:
        image = containers.podman("pull", "--quiet", f"oci:{layout}").strip()
        name = f"{server.host}/app:1"
        containers.podman(
            *(
                "push",
                "--quiet",
                "--tls-verify=false",
                "--compression-format",
                "zstd:chunked",
                image,
                f"docker://{name}",
            )
        )
        check(name, 2)
        server.forget()
        with RegistryImage(name) as opened, opened.view() as view:
            assert (view / "etc/os").read_text() == "new\n"
        assert server.sent("/blobs/") < 2000
