"""The file system `layerstore://` of fsspec, used as programs use it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed")

from layerstore_core import ImageDoesNotExist, Images, LayerStore, StoreDoesNotExist  # noqa: E402
from tests import tars  # noqa: E402
from tests.across.chains import T, attributes, d, f, link, node, sym  # noqa: E402
from tests.images.archives import ImageSpec, docker_archive  # noqa: E402
from tests.registry.fake_content import OCI_LAYER  # noqa: E402
from tests.registry.fake_registry import FakeRegistry  # noqa: E402

LAYER = tars.tar(
    d(b"etc", uid=3),
    attributes(f(b"etc/hosts", b"one\ntwo\n", mode=0o640), user_x=b"1"),
    link(b"etc/same", b"etc/hosts", mode=0o640),
    sym(b"etc/link", b"/etc/hosts"),
    sym(b"etc/loop", b"."),
    sym(b"etc/dangling", b"none"),
    node(b"null", b"3", (1, 3)),
    f(b"big", bytes(range(256)) * 10_000),
)


@pytest.fixture
def root(tmp_path: Path) -> Iterator[str]:
    archive = tmp_path / "image.tar"
    archive.write_bytes(docker_archive(ImageSpec([LAYER], ["localhost:5000/app:1"])))
    with LayerStore.open(root=tmp_path / "store", driver="vfs", durability="none") as store:
        Images(store).load(archive)
    yield str(tmp_path / "store")
    from layerstore_core.fsspec_files import LayerStoreFileSystem

    for one in list(LayerStoreFileSystem._cache.values()):
        one.close()


def test_url_names_image_and_path(root: str) -> None:
    with fsspec.open("layerstore://localhost:5000/app:1:/etc/link", root=root) as file:
        assert file.read() == b"one\ntwo\n"
    with fsspec.open("layerstore:///etc/hosts", "r", image="localhost:5000/app:1", root=root) as text:
        assert text.readlines() == ["one\n", "two\n"]


def test_files_are_listed_with_metadata(root: str) -> None:
    system = fsspec.filesystem("layerstore", image="localhost:5000/app:1", root=root)
    assert system.ls("/", detail=False) == ["/big", "/etc", "/null"]
    found = {one["name"]: one for one in system.ls("/etc")}
    hosts = found["/etc/hosts"]
    assert (hosts["type"], hosts["size"], hosts["mode"] & 0o7777, hosts["mtime"]) == ("file", 8, 0o640, T)
    assert (hosts["nlink"], hosts["xattrs"]) == (2, {b"user.x": b"1"})
    assert (found["/etc/link"]["islink"], found["/etc/link"]["type"]) == (True, "file")
    assert (found["/etc/dangling"]["type"], found["/etc/dangling"]["destination"]) == ("link", b"none")
    assert system.info("/null")["type"] == "other"
    assert system.isdir("/etc/loop")
    assert system.modified("/etc/hosts").timestamp() == T


def test_generic_operations_of_fsspec_work_and_end(root: str, tmp_path: Path) -> None:
    system = fsspec.filesystem("layerstore", image="localhost:5000/app:1", root=root)
    assert system.find("/") == ["/big", "/etc/dangling", "/etc/hosts", "/etc/link", "/etc/loop", "/etc/same", "/null"]
    assert system.glob("/etc/h*") == ["/etc/hosts"]
    assert not system.exists("/etc/none")
    assert system.cat("/etc/hosts") == b"one\ntwo\n"
    assert system.cat_file("/big", start=1000, end=1004) == bytes([232, 233, 234, 235])
    system.get("/etc/hosts", str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_text() == "one\ntwo\n"
    with pytest.raises(FileNotFoundError):
        system.info("/nowhere")


def test_image_in_a_registry_is_read_without_a_store(fake_registry: FakeRegistry) -> None:
    image = ImageSpec([LAYER])
    fake_registry.add_image("app", [LAYER], "1", config=image.config, layer_type=OCI_LAYER)
    name = f"layerstore://{fake_registry.host}/app:1:/"
    system = fsspec.filesystem("layerstore", image=f"{fake_registry.host}/app:1", remote=True)
    assert system.ls("/", detail=False)
    with fsspec.open(name + min(system.find("/")).strip("/"), remote=True) as file:
        assert isinstance(file.read(), bytes)
    assert fake_registry.log.count("/manifests/") == 1


def test_archive_is_read_without_a_store(root: str, tmp_path: Path) -> None:
    system = fsspec.filesystem("layerstore", archive=str(tmp_path / "image.tar"))
    assert system.cat("/etc/link") == b"one\ntwo\n"


def test_threads_take_turns(root: str) -> None:
    system = fsspec.filesystem("layerstore", image="localhost:5000/app:1", root=root)
    wanted = bytes(range(256)) * 10_000
    right = []

    def read() -> None:
        with system.open("/big") as file:
            right.append(b"".join(iter(lambda: file.read(1000), b"")) == wanted)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [True] * 4


def test_nothing_can_be_written_and_mistakes_are_named(root: str, tmp_path: Path) -> None:
    system = fsspec.filesystem("layerstore", image="localhost:5000/app:1", root=root)
    for change in (lambda: system.open("/new", "wb"), lambda: system.mkdir("/new"), lambda: system.rm("/big")):
        with pytest.raises(OSError, match="for reading only"):
            change()
    with pytest.raises(ImageDoesNotExist, match="no image is named"):
        fsspec.filesystem("layerstore", root=root)
    with pytest.raises(ImageDoesNotExist):
        fsspec.open("layerstore://other:1:/etc/hosts", root=root).open()
    with pytest.raises(StoreDoesNotExist):
        fsspec.filesystem("layerstore", image="a", root=str(tmp_path / "none"))
