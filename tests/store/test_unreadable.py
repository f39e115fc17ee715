"""What cannot be read is not taken for empty: a layer stays as long as anything unreadable may refer to it."""

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
SPARE = tar_of({"spare": b"held by nobody"})


@pytest.fixture
def driver() -> str:
    return "vfs"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "image.tar"
    path.write_bytes(docker_archive(IMAGE))
    return path


def bolt(pages: int = 4, *, version: int = 2, names: bytes = b"") -> bytes:
    """A bbolt database with meta pages as that writes them."""
    meta = b""
    for page in range(2):
        fields = struct.pack("<IIII5QQ", 0xED0CDAED, version, 4096, 0, 3, 0, 2, pages, page, 0)[:-8]
        meta += (struct.pack("<QHHI", page, 4, 0, 0) + fields + struct.pack("<Q", _fnv1a(fields))).ljust(4096, b"\0")
    return meta + names.ljust((pages - 2) * 4096, b"\0")


def config_of(store: LayerStore) -> Path:
    [image] = store.context.image_db.image_ids()
    return store.context.image_db.config_path(image)


def flipped(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def gone(path: Path) -> None:
    path.unlink()


def a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_link_to_nowhere(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


DAMAGE = [flipped, emptied, a_directory, a_link_to_nowhere]


def assert_all_kept(store: LayerStore, said: list) -> None:
    """Neither `gc` nor a release deletes anything; both say so."""
    spare = register(store, SPARE)
    assert store.release(spare) == []
    if not any("perhaps a pin" in holder for holder in store.holders(spare.chain_id)):
        assert any(f"layer {spare.chain_id} is kept, because" in record["message"] for record in said)
    said.clear()
    assert collect_garbage(store, dry_run=True) == []
    assert collect_garbage(store) == []
    assert any("no layer is removed, because any may be wanted" in record["message"] for record in said)
    assert any(holder.startswith("perhaps ") for holder in store.holders(spare.chain_id))


def assert_only_the_spare_goes(open_store: Callable[..., LayerStore], *kept: str) -> None:
    store = open_store()
    assert [found.name for found in collect_garbage(store)] == names_of(SPARE)
    assert check_store(store) == []
    for name in kept:
        with store.get(name) as layer:
            export(layer)


def codes(store: LayerStore) -> list[str]:
    return [finding.code for finding in check_store(store)]


@pytest.mark.parametrize("damage", [*DAMAGE, gone], ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("named", [True, False], ids=["named", "nameless"])
def test_an_image_s_config(open_store, archive, said, damage, named):
    if damage is gone and not named:
        return  # nothing tells that there was an image
    with open_store() as store:
        Images(store).load(archive)
        if not named:
            with store.context.changing_images() as records:
                records.set_names({})
        config = config_of(store)
    good = config.read_bytes()
    damage(config)
    with open_store() as store:
        assert codes(store) == ["image-without-config" if damage is gone else "damaged-image"]
        assert_all_kept(store, said)
    shutil.rmtree(config) if config.is_dir() else config.unlink(missing_ok=True)
    config.write_bytes(good)
    assert_only_the_spare_goes(open_store, *names_of(BASE, MIDDLE))


@pytest.mark.parametrize("damage", [*DAMAGE, gone], ids=lambda damage: damage.__name__)
def test_loading_the_image_again_puts_its_config_right(open_store, archive, said, damage):
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


def test_an_image_that_others_were_built_from(open_store, archive, said):
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
        assert store.context.image_db.half_done() == [], "what is told of the lost image stays"
    config.write_bytes(good)
    emptied(parent)
    with open_store() as store:
        assert codes(store) == ["damaged-image"]
        assert_all_kept(store, said)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"Repositories":{"a":{"a:1":"sha256:0"}}}'])
def test_the_list_of_names(open_store, archive, said, content):
    with open_store() as store:
        Images(store).load(archive)
        names = store.context.image_db.names_path
    good = names.read_bytes()
    names.write_bytes(content)
    with open_store() as store:
        assert codes(store) == ["damaged-image"]
        assert_all_kept(store, said)
    names.write_bytes(good)
    assert_only_the_spare_goes(open_store, *names_of(BASE, MIDDLE))


def test_a_directory_of_image_records_that_is_none(open_store, archive, said):
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
    assert_only_the_spare_goes(open_store, *names_of(BASE, MIDDLE))


def pins_of(store_root: Path) -> Path:
    [pin] = (path for path in (store_root / "layerstore").rglob("*") if path.name == names_of(BASE)[0][7:])
    return pin.parent


@pytest.mark.parametrize("instead", ["file", "link to nowhere", "link to itself"])
def test_the_pins(open_store, store_root, said, instead):
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
    assert_only_the_spare_goes(open_store, *names_of(BASE))


@pytest.mark.parametrize("kind", ["cut off", "empty", "another version", "no database", "directory", "link to nowhere"])
def test_buildkit_s_cache(open_store, store_root, said, kind):
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
    assert_only_the_spare_goes(open_store, *names_of(BASE))


@pytest.mark.parametrize("field", ["parent", "diff"])
def test_a_layer_s_record_that_names_another_layer(open_store, said, field):
    """A digit is another one: what it says is a digest, and wrong."""
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
        if field == "parent":  # diff ID and name prove what it was
            assert store.release(spare) != []
            assert collect_garbage(store) == []
            register(store, SPARE).close()
        else:
            spare.close()
            assert_all_kept(store, said)
    path.write_text(good)
    assert_only_the_spare_goes(open_store, *names_of(BASE, MIDDLE))


def test_a_writable_layer_s_record_that_names_another_layer(open_store, said):
    with open_store() as store:
        layer = register(store, BASE)
        store.create_rw_layer("box", layer.chain_id).close()
        path = store.context.db.mount_path("box") / "parent"
    good = path.read_text()
    path.write_text(good[:-1] + ("0" if good[-1] != "0" else "1"))
    with open_store() as store:
        assert_all_kept(store, said)
    path.write_text(good)
    assert_only_the_spare_goes(open_store, *names_of(BASE))


def test_a_record_in_quarantine_keeps_what_it_stands_on(open_store, said):
    with open_store() as store:
        base, top = chain(store, BASE, MIDDLE)
        store.pin(top)
        record = store.context.db.layer_path(top.chain_id)
        emptied(record / "size")
        emptied(record / "tar-split.json.gz")
    with open_store() as store:
        repair(store, check_store(store), force=True)
        assert not store.has_layer(top.chain_id)
        assert base.chain_id in store.layers()
        assert [found.kind for found in collect_garbage(store)] == []
        assert base.chain_id in store.layers()
        assert any("in quarantine" in holder for holder in store.holders(base.chain_id))
        assert store.unreadable() == [], "a pin whose layer's record is in quarantine refers to what that stands on"


def test_a_config_in_quarantine_keeps_the_layers(open_store, store_root, archive, said):
    with open_store() as store:
        Images(store).load(archive)
        config = config_of(store)
    good = config.read_bytes()
    flipped(config)
    with open_store() as store:
        repair(store, check_store(store))
        assert_all_kept(store, said)
    [entry] = (path for path in (store_root / "layerstore").rglob("quarantine/vfs/*"))
    os.unlink(entry)
    config.write_bytes(good)
    assert_only_the_spare_goes(open_store, *names_of(BASE, MIDDLE))


def test_another_image_s_removal_deletes_nothing_either(open_store, archive, tmp_path, said):
    """They share layers, and the other one's config cannot be read."""
    other = tmp_path / "other.tar"
    other.write_bytes(docker_archive(ImageSpec([BASE, MIDDLE, TOP], names=["other:1"])))
    with open_store() as store:
        Images(store).load(archive)
        config = config_of(store)
        Images(store).load(other)
    emptied(config)
    with open_store() as store:
        removal = Images(store).remove("other:1")
        assert (removal.untagged, len(removal.deleted), removal.layers) == (["other:1"], 1, [])
        assert len(store.layers()) == 3
        # The user says that the damaged one is not wanted.
        Images(store).remove("demo:1")
        assert sorted(found.name for found in collect_garbage(store)) == sorted(names_of(BASE, MIDDLE, TOP))
