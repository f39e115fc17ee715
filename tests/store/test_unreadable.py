"""A record that cannot be read is not taken as empty: a layer stays as long as an unreadable record may refer to it."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from layerstore_core import LayerStore
from layerstore_core.images import Images
from layerstore_core.maintenance.check import check_store, repair
from layerstore_core.maintenance.gc import collect_garbage
from layerstore_core.records.buildkit import _fnv1a
from tests.images.archives import ImageSpec, docker_archive
from tests.store.layers import BASE, MIDDLE, TOP, chain, export, names_of, register, tar_of

IMAGE = ImageSpec([BASE, MIDDLE], names=["demo:1"])
SPARE = tar_of({"spare": b"without a reference"})


@pytest.fixture
def driver() -> str:
    return "vfs"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "image.tar"
    path.write_bytes(docker_archive(IMAGE))
    return path


def bolt(pages: int = 4, *, version: int = 2, names: bytes = b"") -> bytes:
    """Return a bbolt database, with meta pages like those that bbolt writes."""
    meta = b""
    for page in range(2):
        fields = struct.pack("<IIII5QQ", 0xED0CDAED, version, 4096, 0, 3, 0, 2, pages, page, 0)[:-8]
        meta += (struct.pack("<QHHI", page, 4, 0, 0) + fields + struct.pack("<Q", _fnv1a(fields))).ljust(4096, b"\0")
    return meta + names.ljust((pages - 2) * 4096, b"\0")


def config_of(store: LayerStore) -> Path:
    """Return the path of the config of the only image."""
    [image] = store.context.image_db.image_ids()
    return store.context.image_db.config_path(image)


def flip_a_bit(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def remove(path: Path) -> None:
    path.unlink()


def replace_by_a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replace_by_a_dangling_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


DAMAGE = [flip_a_bit, empty, replace_by_a_directory, replace_by_a_dangling_link]


def assert_all_kept(store: LayerStore, said: list) -> None:
    """Check that neither `gc` nor a release deletes a layer, and that both log why."""
    spare = register(store, SPARE)
    assert store.release(spare) == []
    if not any("perhaps a pin" in holder for holder in store.holders(spare.chain_id)):
        assert any(f"layer {spare.chain_id} is kept, because" in record["message"] for record in said)
    said.clear()
    assert collect_garbage(store, dry_run=True) == []
    assert collect_garbage(store) == []
    assert any("no layer is removed, because any may be referenced" in record["message"] for record in said)
    assert any(holder.startswith("perhaps ") for holder in store.holders(spare.chain_id))


def assert_only_the_spare_is_collected(open_store: Callable[..., LayerStore], *kept: str) -> None:
    """Check that `gc` deletes only the layer `SPARE`, now that all records can be read."""
    store = open_store()
    assert [found.name for found in collect_garbage(store)] == names_of(SPARE)
    assert check_store(store) == []
    for name in kept:
        with store.get(name) as layer:
            export(layer)


def codes(store: LayerStore) -> list[str]:
    return [finding.code for finding in check_store(store)]


@pytest.mark.parametrize("damage", [*DAMAGE, remove], ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("named", [True, False], ids=["named", "nameless"])
def test_an_unreadable_config_of_an_image_keeps_all_layers(open_store, archive, said, damage, named):
    if damage is remove and not named:
        return  # no file shows that there was an image
    with open_store() as store:
        Images(store).load(archive)
        if not named:
            with store.context.changing_images() as records:
                records.set_names({})
        config = config_of(store)
    good = config.read_bytes()
    damage(config)
    with open_store() as store:
        assert codes(store) == ["image-without-config" if damage is remove else "damaged-image"]
        assert_all_kept(store, said)
    shutil.rmtree(config) if config.is_dir() else config.unlink(missing_ok=True)
    config.write_bytes(good)
    assert_only_the_spare_is_collected(open_store, *names_of(BASE, MIDDLE))


@pytest.mark.parametrize("damage", [*DAMAGE, remove], ids=lambda damage: damage.__name__)
def test_loading_an_image_again_repairs_its_config(open_store, archive, said, damage):
    with open_store() as store:
        Images(store).load(archive)
        config = config_of(store)
    damage(config)
    if config.is_dir():
        return  # a file cannot take its place
    with open_store() as store:
        assert_all_kept(store, said)
        Images(store).load(archive)
        assert [found.name for found in collect_garbage(store)] == names_of(SPARE)
        assert check_store(store) == []


def test_an_unreadable_parent_of_an_image_keeps_all_layers(open_store, archive, said):
    with open_store() as store:
        [image] = Images(store).load(archive)
        child = b'{"rootfs":{"diff_ids":[]}}'
        with store.context.changing_images() as records:
            child_id = records.add(child, image.image_id)
            records.set_names({"child:1": child_id})
        config = store.context.image_db.config_path(image.image_id)
        parent = store.context.image_db.parent_path(child_id)
    good = config.read_bytes()
    config.unlink()
    with open_store() as store:
        assert codes(store) == ["image-without-config"]
        assert_all_kept(store, said)
        assert store.context.image_db.half_done() == [], "the record that names the lost image as a parent stays"
    config.write_bytes(good)
    empty(parent)
    with open_store() as store:
        assert codes(store) == ["damaged-image"]
        assert_all_kept(store, said)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"Repositories":{"a":{"a:1":"sha256:0"}}}'])
def test_an_unreadable_list_of_image_names_keeps_all_layers(open_store, archive, said, content):
    with open_store() as store:
        Images(store).load(archive)
        names = store.context.image_db.names_path
    good = names.read_bytes()
    names.write_bytes(content)
    with open_store() as store:
        assert codes(store) == ["damaged-image"]
        assert_all_kept(store, said)
    names.write_bytes(good)
    assert_only_the_spare_is_collected(open_store, *names_of(BASE, MIDDLE))


def test_a_file_in_place_of_the_image_records_keeps_all_layers(open_store, archive, said):
    with open_store() as store:
        Images(store).load(archive)
        content = config_of(store).parent
    content.rename(content.with_name("aside"))
    content.write_bytes(b"")
    with open_store() as store:
        assert codes(store) == ["damaged-image"]
        assert_all_kept(store, said)
    content.unlink()
    content.with_name("aside").rename(content)
    assert_only_the_spare_is_collected(open_store, *names_of(BASE, MIDDLE))


def pins_of(store_root: Path) -> Path:
    """Return the directory that has the pin of `BASE`."""
    [pin] = (path for path in (store_root / "layerstore").rglob("*") if path.name == names_of(BASE)[0][7:])
    return pin.parent


@pytest.mark.parametrize("instead", ["file", "link to nowhere", "link to itself"])
def test_an_unreadable_directory_of_pins_keeps_all_layers(open_store, store_root, said, instead):
    with open_store() as store:
        store.pin(register(store, BASE))
    pins = pins_of(store_root)
    aside = pins.with_name("aside")
    pins.rename(aside)
    if instead == "file":
        pins.write_bytes(b"")
    else:
        pins.symlink_to("nowhere" if instead == "link to nowhere" else pins.name)
    with open_store() as store:
        assert "unreadable-reference" in codes(store)
        assert_all_kept(store, said)
    pins.unlink()
    aside.rename(pins)
    assert_only_the_spare_is_collected(open_store, *names_of(BASE))


@pytest.mark.parametrize("kind", ["cut off", "empty", "another version", "no database", "directory", "link to nowhere"])
def test_an_unreadable_cache_of_buildkit_keeps_all_layers(open_store, store_root, said, kind):
    with open_store() as store:
        layer = register(store, BASE)
        good = bolt(5, names=b"chainID" + layer.chain_id.encode())
    database = store_root / "buildkit" / "snapshots.db"
    database.parent.mkdir()
    match kind:
        case "cut off":
            database.write_bytes(good[: 3 * 4096])
        case "directory":
            database.mkdir()
        case "link to nowhere":
            database.symlink_to("nowhere")
        case "another version":
            database.write_bytes(bolt(version=3))
        case _:
            database.write_bytes(b"" if kind == "empty" else b"no database" * 2000)
    with open_store() as store:
        assert codes(store) == ["unreadable-reference"]
        assert_all_kept(store, said)
    database.rmdir() if database.is_dir() else database.unlink()
    database.write_bytes(good)
    assert_only_the_spare_is_collected(open_store, *names_of(BASE))


@pytest.mark.parametrize("field", ["parent", "diff"])
def test_a_layer_record_with_a_wrong_digest(open_store, said, field):
    """The last digit of a digest is changed: it is still a digest, but the wrong one."""
    with open_store() as store:
        top = chain(store, BASE, MIDDLE)[1]
        store.pin(top)
        path = store.context.db.layer_path(top.chain_id) / field
    good = path.read_text()
    path.write_text(good[:-1] + ("0" if good[-1] != "0" else "1"))
    with open_store() as store:
        [finding] = check_store(store)
        assert finding.code == "unloadable"
        spare = register(store, SPARE)
        if field == "parent":  # the diff ID and the chain ID prove which parent is right
            assert store.release(spare) != []
            assert collect_garbage(store) == []
            register(store, SPARE).close()
        else:
            spare.close()
            assert_all_kept(store, said)
    path.write_text(good)
    assert_only_the_spare_is_collected(open_store, *names_of(BASE, MIDDLE))


def test_a_writable_layer_record_with_a_wrong_parent_keeps_all_layers(open_store, said):
    with open_store() as store:
        layer = register(store, BASE)
        store.create_rw_layer("box", layer.chain_id).close()
        path = store.context.db.mount_path("box") / "parent"
    good = path.read_text()
    path.write_text(good[:-1] + ("0" if good[-1] != "0" else "1"))
    with open_store() as store:
        assert_all_kept(store, said)
    path.write_text(good)
    assert_only_the_spare_is_collected(open_store, *names_of(BASE))


def test_a_layer_record_in_quarantine_keeps_its_parent(open_store, said):
    with open_store() as store:
        base, top = chain(store, BASE, MIDDLE)
        store.pin(top)
        record = store.context.db.layer_path(top.chain_id)
        empty(record / "size")
        empty(record / "tar-split.json.gz")
    with open_store() as store:
        repair(store, check_store(store), force=True)
        assert not store.has_layer(top.chain_id)
        assert base.chain_id in store.layers()
        assert [found.kind for found in collect_garbage(store)] == []
        assert base.chain_id in store.layers()
        assert any("in quarantine" in holder for holder in store.holders(base.chain_id))
        assert store.unreadable() == [], (
            "the record of the pinned layer is in quarantine, and the pin keeps the parent of that layer"
        )


def test_an_image_config_in_quarantine_keeps_all_layers(open_store, store_root, archive, said):
    with open_store() as store:
        Images(store).load(archive)
        config = config_of(store)
    good = config.read_bytes()
    flip_a_bit(config)
    with open_store() as store:
        repair(store, check_store(store))
        assert_all_kept(store, said)
    [entry] = (path for path in (store_root / "layerstore").rglob("quarantine/vfs/*"))
    os.unlink(entry)
    config.write_bytes(good)
    assert_only_the_spare_is_collected(open_store, *names_of(BASE, MIDDLE))


def test_removing_an_image_deletes_no_layer_while_a_config_is_unreadable(open_store, archive, tmp_path, said):
    """The two images share layers, and the config of the other one cannot be read."""
    other = tmp_path / "other.tar"
    other.write_bytes(docker_archive(ImageSpec([BASE, MIDDLE, TOP], names=["other:1"])))
    with open_store() as store:
        Images(store).load(archive)
        config = config_of(store)
        Images(store).load(other)
    empty(config)
    with open_store() as store:
        removal = Images(store).remove("other:1")
        assert (removal.untagged, len(removal.deleted), removal.layers) == (["other:1"], 1, [])
        assert len(store.layers()) == 3
        # The user removes the image with the damaged config.
        Images(store).remove("demo:1")
        assert sorted(found.name for found in collect_garbage(store)) == sorted(names_of(BASE, MIDDLE, TOP))
