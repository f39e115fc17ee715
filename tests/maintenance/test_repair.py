"""Findings of a check can be repaired, and a repair deletes nothing that may be the only copy."""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
import shutil
from pathlib import Path

import pytest

from layerstore_core.base import inside
from layerstore_core.errors import InvalidImage, InvalidLayer
from layerstore_core.images import Images
from layerstore_core.maintenance.check import CODES, RepairSource, check_store, repair
from layerstore_core.maintenance.gc import collect_garbage
from tests.images.archives import ImageSpec, docker_archive, oci_index, oci_manifest, tar_files
from tests.maintenance.test_damage import DAMAGE, cut
from tests.store.layers import BASE, MIDDLE, TOP, chain, export, names_of, record_path, register, tar_of

IMAGE = ImageSpec([BASE, MIDDLE, TOP], names=["demo:1"])


def codes(findings):
    """Return the different codes of findings, sorted."""
    return sorted({finding.code for finding in findings})


def files_of(store, cache_id):
    """Return the directory in which a driver has the own files of a layer."""
    places = map(Path, store.driver.metadata(cache_id).values())
    return next(path for path in places if path.is_dir())


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "image.tar"
    path.write_bytes(docker_archive(IMAGE))
    return path


@pytest.fixture
def layers(store):
    """Register a chain of three, with a writable layer on it, and close the handles."""
    layers = chain(store, BASE, MIDDLE, TOP)
    store.pin(layers[2])
    rw = store.create_rw_layer("box", layers[2].chain_id, init=lambda path: Path(path, "init").touch() or None)
    with rw.mounted() as path:
        Path(path, "written").write_bytes(b"written")
    for handle in (*layers, rw):
        handle.close()
    return layers


def assert_whole(store):
    """Check that all layers are sound and the writable layer shows its files."""
    assert check_store(store, full=True) == []
    assert [export(store.get(name)) for name in names_of(BASE, MIDDLE, TOP)] == [BASE, MIDDLE, TOP]
    with store.get_rw_layer("box") as rw, rw.mounted() as path:
        assert Path(path, "written").read_bytes() == b"written"
        assert Path(path, "etc/hosts").read_bytes() == b"::1 localhost\n"
        assert Path(path, "opt/other").read_bytes() == b"other"
        assert not Path(path, "opt/tool").exists()


@pytest.mark.parametrize("name", ["diff", "size", "cache-id", "parent"])
def test_a_damaged_file_of_a_record_is_restored_from_the_rest(open_store, store, layers, name):
    """The same store is damaged again and again: after each repair it is whole, and nothing is left."""
    record = record_path_of(store, layers[1])
    content = (record / name).read_bytes()
    for damage in DAMAGE:
        if damage is cut and name == "size":
            continue  # a shorter number is also a valid size
        store.close()
        damage(record / name)
        store = open_store()
        findings = check_store(store)
        assert findings, damage
        collect_garbage(store)
        assert repair(store, findings) == [], damage
        assert (record / name).read_bytes() == content, damage
        assert_whole(store)
        assert collect_garbage(store) == [], damage


def record_path_of(store, layer):
    return store.context.db.layer_path(layer._node.record.chain_id)


def test_a_damaged_descriptor_is_put_into_quarantine(open_store, store):
    layer = store.register(io.BytesIO(BASE), descriptor={"size": 1})
    path = record_path(layer) / "descriptor.json"
    store.close()
    path.write_bytes(b"")
    store = open_store()
    repaired = []
    assert repair(store, check_store(store), on_repaired=lambda finding, done: repaired.append(done)) == []
    assert store.get(layer._node.record.chain_id).descriptor is None
    assert len(store.context.quarantine.entries()) == len(repaired) == 1


@pytest.mark.parametrize("kind", ["image", "layer", "compressed layer"])
@pytest.mark.parametrize("harm", ["content", "no tar-split", "no layer", "empty files"])
def test_a_layer_is_rebuilt_from_a_repair_source(open_store, store, layers, archive, tmp_path, harm, kind):
    middle = layers[1]
    record, cache_id = record_path_of(store, middle), middle._node.record.cache_id
    if harm == "content":
        # moby 49784, containerd 8973: there such a layer is kept as valid forever.
        (files_of(store, cache_id) / "opt/tool").write_bytes(b"")
    elif harm == "no tar-split":
        (record / "tar-split.json.gz").unlink()
    elif harm == "no layer":
        if store.driver_name == "btrfs":
            store.driver.remove(cache_id)
        else:
            where = store.driver.metadata(cache_id)
            shutil.rmtree(where.get("Directory") or Path(where["UpperDir"]).parent)
    else:
        for path in record.iterdir():
            path.write_bytes(b"")  # moby 23184: all metadata of zero bytes, after a power cut
    store.close()
    store = open_store()
    findings = check_store(store, full=True)
    assert findings
    assert repair(store, findings) == findings, "without a source a repair can do nothing, and changes nothing"
    path = archive
    if kind != "image":
        path = tmp_path / "layer"
        path.write_bytes(MIDDLE if kind == "layer" else gzip.compress(MIDDLE))
    with RepairSource(store, path) as source:
        assert repair(store, findings, source=source) == []
    # The damaged layer stays until the user empties the quarantine, although its record does not name it any more.
    assert len(store.context.quarantine.entries()) == 1
    assert collect_garbage(store) == []
    assert_whole(store)
    shutil.rmtree(store.context.quarantine.path)
    gone = [found.name for found in collect_garbage(store)]
    assert gone == ([] if harm == "no layer" else [cache_id])
    assert_whole(store)


def test_a_repair_source_may_lack_the_layer(store, layers, tmp_path):
    (record_path_of(store, layers[1]) / "tar-split.json.gz").unlink()
    other = tmp_path / "layer"
    other.write_bytes(TOP)
    findings = check_store(store, full=True)
    with RepairSource(store, other) as source:
        assert repair(store, findings, source=source) == findings
    assert store.context.quarantine.entries() == []


def test_force_puts_a_record_that_cannot_be_repaired_into_quarantine(open_store, store):
    """The layer can be registered again; the driver's old layer is kept, in case the user still needs it."""
    layer = register(store, BASE)
    record, cache_id = record_path(layer), layer.cache_id
    store.close()
    (record / "diff").write_bytes(b"")
    (record / "tar-split.json.gz").write_bytes(b"")
    store = open_store()
    findings = check_store(store)
    assert repair(store, findings) == findings
    assert repair(store, findings, force=True) == []
    assert collect_garbage(store) == []
    assert store.driver.exists(cache_id)
    assert export(register(store, BASE)) == BASE


def test_an_image_without_layers_is_repaired_from_its_archive(store, archive):
    images = Images(store)
    images.load(archive)
    top = names_of(*IMAGE.layers)[2]
    shutil.rmtree(store.context.db.layer_path(store.get(top).chain_id))
    store.context.locks.advance()
    findings = check_store(store)
    assert codes(findings) == ["image-without-layers"]
    with RepairSource(store, archive) as source:
        assert repair(store, findings, source=source) == []
    assert [gone.kind for gone in collect_garbage(store)] == ["stray driver layer"]
    assert check_store(store, full=True) == []
    assert images.get("demo:1").size is not None


def test_an_image_for_another_platform_is_repaired_and_no_name_moves(store, tmp_path):
    """Now the name belongs to another image; the repair source is a layout for several platforms."""
    files = {}
    foreign, host = (
        ImageSpec([BASE, layer], extra={"architecture": name}) for name, layer in (("s390x", TOP), ("amd64", MIDDLE))
    )
    entry = {**oci_index(files, [oci_manifest(files, host), oci_manifest(files, foreign)])}
    entry["annotations"] = {"io.containerd.image.name": "demo:1"}
    files["index.json"] = json.dumps({"manifests": [entry]}).encode()
    (tmp_path / "layout.tar").write_bytes(tar_files(files))
    images = Images(store)
    (image,) = images.load(tmp_path / "layout.tar", platform="s390x")
    (other,) = images.load(io.BytesIO(docker_archive(ImageSpec([MIDDLE], names=["demo:1"]))))
    shutil.rmtree(store.context.db.layer_path(image.chain_id))
    store.context.locks.advance()
    with RepairSource(store, tmp_path / "layout.tar") as source:
        repair(store, check_store(store), source=source)
    assert images.get(image.image_id).size is not None
    assert images.get("demo:1").image_id == other.image_id
    assert images.get(image.image_id).names == ()


@pytest.mark.parametrize("kind", ["layer", "image"])
def test_a_repair_source_is_subject_to_the_limits(open_store, tmp_path, kind):
    """Reading a source, and writing its temporary files, stops at the size that a layer may have."""
    large = tar_of({"large": bytes(40 << 20)})
    content = large if kind == "layer" else docker_archive(ImageSpec([large], names=["demo:1"]))
    (tmp_path / "source").write_bytes(gzip.compress(content, 1))
    store = open_store(max_layer_size="1M")
    with pytest.raises((InvalidImage, InvalidLayer), match="setting max_layer_size, from argument"):
        RepairSource(store, tmp_path / "source")


def test_damaged_image_records_are_put_into_quarantine(store, archive):
    images = Images(store)
    (image,) = images.load(archive)
    config, names = store.context.image_db.config_path(image.image_id), store.context.image_db.names_path
    for path in (config, names):
        path.write_bytes(b"")
    store.context.image_db._tops.clear()
    findings = check_store(store)
    assert codes(findings) == ["damaged-image"]
    assert repair(store, findings) == []
    assert check_store(store) == []
    assert len(store.context.quarantine.entries()) == 2


class TestResume:
    @pytest.fixture
    def driver(self):
        return "vfs"

    def test_an_interrupted_check_is_resumed(self, store, layers, monkeypatch):
        """Verified layers are not read again; at the end the journal is deleted."""
        verified = []
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})

        class Interrupted(Exception):
            pass

        def interrupt(done, total):
            verified.append(done)
            if done == 2:
                raise Interrupted

        with pytest.raises(Interrupted):
            check_store(store, full=True, progress=interrupt)
        journal = store.root / "layerstore" / "verified" / "vfs"
        known = journal.read_text().splitlines()
        assert len(known) in (1, 2)
        reported = []
        assert check_store(store, full=True, resume=True, progress=lambda *count: reported.append(count)) == []
        assert reported[0] == (len(known), 3)
        assert not journal.exists()
        assert check_store(store, full=True, progress=lambda *count: reported.append(count)) == []
        assert (0, 3) in reported


@pytest.mark.parametrize("what", ["config", "names", "parent"])
@pytest.mark.parametrize("force", [False, True])
def test_an_image_record_that_cannot_be_read_is_left_alone(store, archive, monkeypatch, what, force):
    """A disk that fails once must not cost an image its name."""
    [image] = Images(store).load(archive)
    db = store.context.image_db
    paths = {"config": db.config_path(image.image_id), "names": db.names_path, "parent": db.parent_path(image.image_id)}
    paths["parent"].parent.mkdir(parents=True, exist_ok=True)
    paths["parent"].write_text(str(image.image_id))
    real, before = inside.read, paths[what].read_bytes()

    def read(path, limit):
        if Path(path) == paths[what]:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return real(path, limit)

    def read_in(self, name, limit):
        return read(Path(self._path, name), limit)

    with monkeypatch.context() as patch:
        patch.setattr(inside, "read", read)
        patch.setattr(inside.Directory, "read", read_in)
        found = check_store(store)
        assert "damaged-image" in {finding.code for finding in found}
        repair(store, found, force=force)
        assert collect_garbage(store) == []
    assert paths[what].read_bytes() == before


def test_all_codes_are_documented():
    text = (Path(__file__).parents[2] / "docs" / "reliability.md").read_text()
    assert [code for code in CODES if f"`{code}`" not in text] == []
