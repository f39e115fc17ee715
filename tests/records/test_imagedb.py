"""Records of images, in the format of Docker."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from layerstore_core.base import inside
from layerstore_core.base.digests import DiffID, ImageID, chain_ids
from layerstore_core.errors import BadRecord, LayerStoreError
from layerstore_core.records.imagedb import MAX_CONFIG, ImageDB, repository_of

LAYERS = [DiffID.of(text) for text in (b"base", b"top")]
CONFIG = json.dumps({"rootfs": {"type": "layers", "diff_ids": LAYERS}}).encode()
IMAGE = ImageID.of(CONFIG)
OTHER = b'{"rootfs":{"diff_ids":null}}'


@pytest.fixture(params=[True, False], ids=["durable", "quick"])
def db(tmp_path: Path, request: pytest.FixtureRequest) -> ImageDB:
    return ImageDB(tmp_path / "image" / "vfs", durable=request.param)


def files(db: ImageDB) -> dict[str, tuple[int, bytes]]:
    """Return modes and contents of all files."""
    return {
        str(path.relative_to(db.path)): (path.stat().st_mode & 0o777, path.read_bytes())
        for path in db.path.rglob("*")
        if path.is_file()
    }


def test_reading_image_records_writes_nothing(db: ImageDB, tmp_path: Path) -> None:
    assert (db.image_ids(), db.names(), db.has(IMAGE), db.children(IMAGE)) == ([], {}, False, [])
    assert db.references_to(chain_ids(LAYERS)[-1]) == []
    assert os.listdir(tmp_path) == []
    with pytest.raises(FileNotFoundError):
        db.read(IMAGE)


def test_image_records_have_docker_s_format(db: ImageDB) -> None:
    """Modes and contents are those that a Docker daemon 20.10 has written."""
    other = db.add(OTHER)
    assert db.add(CONFIG, other) == IMAGE
    db.set_names({"b:2": IMAGE, "b:1": other, "example.com:5000/a/b@sha256:" + "0" * 64: IMAGE})
    db.set_last_updated(IMAGE, "2024-05-06T07:08:09.123456Z")
    db.record_blob("sha256:" + "1" * 64, LAYERS[0])
    assert files(db) == {
        f"imagedb/content/sha256/{IMAGE.hex}": (0o600, CONFIG),
        f"imagedb/content/sha256/{other.hex}": (0o600, OTHER),
        f"imagedb/metadata/sha256/{IMAGE.hex}/parent": (0o600, other.encode()),
        f"imagedb/metadata/sha256/{IMAGE.hex}/lastUpdated": (0o600, b"2024-05-06T07:08:09.123456Z"),
        "repositories.json": (
            0o600,
            json.dumps(
                {
                    "Repositories": {
                        "b": {"b:1": other, "b:2": IMAGE},
                        "example.com:5000/a/b": {"example.com:5000/a/b@sha256:" + "0" * 64: IMAGE},
                    }
                },
                separators=(",", ":"),
            ).encode(),
        ),
        f"distribution/diffid-by-digest/sha256/{'1' * 64}": (0o644, LAYERS[0].encode()),
    }
    assert {path.stat().st_mode & 0o777 for path in db.path.rglob("*") if path.is_dir()} == {0o700}
    assert (db.read(IMAGE), db.parent(IMAGE), db.children(other)) == (CONFIG, other, [IMAGE])


def test_an_image_refers_to_all_its_layers(db: ImageDB) -> None:
    db.add(CONFIG)
    db.add(OTHER)
    references = [[f"image {IMAGE}"]] * 2
    assert list(map(db.references_to, chain_ids(LAYERS))) == references
    db.remove(IMAGE)
    assert list(map(db.references_to, chain_ids(LAYERS))) == [[], []]
    db.add(CONFIG)
    assert list(map(db.references_to, chain_ids(LAYERS))) == references


def test_layers_shared_by_images_are_referenced_by_those_that_are_left(db: ImageDB) -> None:
    def config(*layers: str) -> bytes:
        return json.dumps({"rootfs": {"diff_ids": layers}}).encode()

    other = LAYERS[0][:-1] + ("0" if LAYERS[0][-1] != "0" else "1")
    base, top = chain_ids(LAYERS)
    images = {db.add(config(*LAYERS)), db.add(config(LAYERS[0], other)), lowest := db.add(config(LAYERS[0]))}
    assert db.references_to(base) == [f"image {lowest}"]
    for image in sorted(images):
        db.remove(image)
        images.remove(image)
        assert bool(db.references_to(base)) == bool(images)
        assert set(db.references_to(base)) <= {f"image {left}" for left in images}
    assert db.references_to(top) == []


def test_removing_an_image_leaves_no_record_of_it_and_no_mention_as_parent(db: ImageDB) -> None:
    """A Docker daemon does not start if a recorded parent is missing."""
    parent = db.add(OTHER)
    db.add(CONFIG, parent)
    db.remove(parent)
    assert db.parent(IMAGE) is None
    db.remove(IMAGE)
    db.remove(IMAGE)
    assert files(db) == {}


def test_an_image_is_removed_with_the_unfinished_writes_of_ended_processes(db: ImageDB) -> None:
    """The soak test found this: a process had died between writing a file and renaming it."""
    db.add(CONFIG)
    db.set_last_updated(IMAGE, "now")
    metadata = db.path / "imagedb" / "metadata" / "sha256" / IMAGE.hex
    (metadata / ".tmp-lastUpdated-0123").write_bytes(b"")
    db.remove(IMAGE)
    assert not metadata.exists()
    assert files(db) == {}


def test_unfinished_writes_of_ended_processes_are_found_and_cleared(db: ImageDB) -> None:
    assert db.half_done() == []
    parent = db.add(OTHER)
    db.add(CONFIG, parent)
    db.set_names({"a:1": IMAGE})
    db.record_blob("sha256:" + "1" * 64, LAYERS[0])
    whole = files(db)
    left = [
        db.names_path.with_name(".tmp-repositories.json-1"),
        db.config_path(IMAGE).with_name(f".tmp-{IMAGE.hex}-2"),
        db.path / "distribution" / "diffid-by-digest" / "sha256" / ".tmp-3",
        db.path / "imagedb" / "metadata" / "sha256" / IMAGE.hex / ".tmp-parent-4",
    ]
    for path in left:
        path.write_bytes(b"x")
    gone = db.path / "imagedb" / "metadata" / "sha256" / ("5" * 64)
    gone.mkdir()
    (gone / "parent").write_bytes(b"x")
    assert set(db.half_done()) == {*left, gone}
    for path in db.half_done():
        db.clear(path)
        db.clear(path)
    assert db.half_done() == []
    assert files(db) == whole


@pytest.mark.parametrize("content", [b"{}", CONFIG + b" ", b""])
def test_a_changed_config_is_a_bad_record(db: ImageDB, content: bytes) -> None:
    db.add(CONFIG)
    db.config_path(IMAGE).write_bytes(content)
    for read in (db.read, db.top_layer):
        with pytest.raises(BadRecord, match="digest") as caught:
            read(IMAGE)
        assert caught.value.path == db.config_path(IMAGE)
    assert db.references_to(chain_ids(LAYERS)[-1]) == []


@pytest.mark.parametrize("config", [b"", b"[]", b"{}", b'{"rootfs":{"diff_ids":["x"]}}', b"[" * 100_000])
def test_a_config_without_diff_ids_is_a_bad_record(db: ImageDB, config: bytes) -> None:
    with pytest.raises(BadRecord):
        db.top_layer(db.add(config))


def test_an_endless_file_in_place_of_a_config_is_not_read(db: ImageDB) -> None:
    db.add(CONFIG)
    os.truncate(db.config_path(IMAGE), MAX_CONFIG + 1)
    with pytest.raises(BadRecord, match="longer"):
        db.read(IMAGE)


def test_a_failing_write_leaves_the_former_names(db: ImageDB, monkeypatch: pytest.MonkeyPatch) -> None:
    db.add(CONFIG)
    db.set_names({"a:1": IMAGE})
    before = files(db)

    def fail(*args: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(OSError, match="space"):
        db.set_names({})
    with pytest.raises(OSError, match="space"):
        db.add(OTHER)
    assert files(db) == before


@pytest.mark.parametrize(
    ("name", "repository"),
    [
        ("a:1", "a"),
        ("h:5000/a", "h:5000/a"),
        ("h:5000/a:1", "h:5000/a"),
        ("a@sha256:0", "a"),
        ("h/a:1@sha256:0", "h/a:1"),
    ],
)
def test_the_repository_of_a_name(name: str, repository: str) -> None:
    assert repository_of(name) == repository


def test_names_too_long_to_be_read_again_are_refused(db: ImageDB, monkeypatch: pytest.MonkeyPatch) -> None:
    db.set_names({"a:1": IMAGE})
    monkeypatch.setattr("layerstore_core.records.imagedb._MAX_NAMES", 1000)
    with pytest.raises(LayerStoreError, match="at most 1000 are kept"):
        db.set_names({f"a:{number}": IMAGE for number in range(20)})
    assert db.names() == {"a:1": IMAGE}


def test_an_error_of_writing_names_the_record_and_leaves_it(
    db: ImageDB, no_room: Callable[[], AbstractContextManager[None]]
) -> None:
    db.add(CONFIG)
    db.set_names({"a:1": IMAGE})
    before = files(db)
    with no_room(), pytest.raises(OSError, match="too large") as raised:
        db.set_names({"b:1": IMAGE})
    assert raised.value.filename == str(db.path / "repositories.json")
    assert files(db) == before


def test_an_error_names_no_temporary_file_where_nothing_can_be_removed(
    db: ImageDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a read-only file system, to remove the file that was not made is an error, too."""

    def refuse(path: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    db.add(CONFIG)
    monkeypatch.setattr(inside, "write", refuse)
    monkeypatch.setattr(inside, "unlink", refuse)
    with pytest.raises(OSError, match="Read-only") as raised:
        db.set_names({"b:1": IMAGE})
    assert raised.value.filename == str(db.path / "repositories.json")
