"""Records of layers and writable layers, in the format of Docker; also digests and pins."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerstore_core import BadRecord, ChainID, DiffID, InvalidMountName, chain_id
from layerstore_core.records import fields
from layerstore_core.records.claims import claimed_parents
from layerstore_core.records.layer_record import LayerRecord, MountRecord, check_mount_name
from layerstore_core.records.layerdb import LayerDB
from layerstore_core.records.pins import Pins
from layerstore_core.records.transaction import TAR_SPLIT, WriteSet, try_lock

DIFF = DiffID("sha256:" + "1" * 64)
PARENT = ChainID("sha256:" + "2" * 64)
CHAIN = chain_id(DIFF, PARENT)
CACHE_ID = "c" * 64


@pytest.fixture(params=["full", "none"])
def db(tmp_path, request):
    return LayerDB(tmp_path / "layerdb", durability=request.param)


def commit_record(db, *, parent=PARENT, size=12, descriptor=None):
    """Commit a record with a tar-split file, and return it."""
    record = LayerRecord(chain_id(DIFF, parent), DIFF, size, CACHE_ID, parent, descriptor)
    with db.begin(CACHE_ID) as transaction:
        with transaction.open_tar_split() as file:
            file.write(b"lines")
        transaction.write(record)
        transaction.commit(record.chain_id)
    return record


def files(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_the_files_of_a_layer_s_record(db):
    record = commit_record(db, descriptor={"digest": "x", "mediaType": "m"})
    assert files(db.layer_path(CHAIN)) == {
        "diff": DIFF.encode(),
        "size": b"12",
        "cache-id": CACHE_ID.encode(),
        "parent": PARENT.encode(),
        "descriptor.json": b'{"mediaType":"m","digest":"x"}',
        "tar-split.json.gz": b"lines",
    }
    assert db.read(CHAIN) == record
    assert db.list_layers() == [CHAIN]
    assert db.has_layer(CHAIN)
    assert db.cache_id(CHAIN) == CACHE_ID
    assert os.listdir(db.path / "tmp") == []


def test_a_base_layer_has_no_parent_file(db):
    commit_record(db, parent=None)
    assert set(files(db.layer_path(ChainID(DIFF)))) == {"diff", "size", "cache-id", TAR_SPLIT}
    assert db.read(ChainID(DIFF)).parent is None


def test_fields_written_by_docker_or_an_editor_are_read(db):
    """Older versions of Docker wrote `os`; a newline, which an editor may add, is no damage."""
    commit_record(db)
    directory = db.layer_path(CHAIN)
    (directory / "os").write_text("linux")
    for name in ("diff", "size", "cache-id", "parent"):
        (directory / name).write_text((directory / name).read_text() + "\n")
    assert db.read(CHAIN).size == 12


def test_committing_under_an_existing_name_is_refused(db):
    commit_record(db)
    with db.begin("d" * 64) as transaction, pytest.raises(FileExistsError, match="record already"):
        transaction.commit(CHAIN)
    assert db.cache_id(CHAIN) == CACHE_ID
    assert os.listdir(db.path / "tmp") == []


def test_a_transaction_is_on_disk_before_the_driver_creates_anything(db):
    with db.begin(CACHE_ID) as transaction:
        assert transaction.path.parent == db.path / "tmp"
        assert transaction.path.name.startswith("write-set-")
        assert files(transaction.path) == {"cache-id": CACHE_ID.encode()}
        assert db.stale_transactions() == []
    assert not transaction.path.exists()


def test_a_transaction_without_a_process_is_stale(db):
    transaction = db.begin(CACHE_ID)
    transaction.abandon()
    [stale] = db.stale_transactions()
    assert (stale.path, stale.driver_ids) == (transaction.path, (CACHE_ID,))
    with db.removing_stale(stale) as mine:
        assert mine
        with db.removing_stale(stale) as second:
            assert not second
    assert db.stale_transactions() == []
    with db.removing_stale(stale) as third:
        assert not third


def test_a_failing_removal_leaves_the_stale_transaction(db):
    db.begin(CACHE_ID).abandon()
    [stale] = db.stale_transactions()
    with pytest.raises(OSError, match="busy"), db.removing_stale(stale):
        raise OSError(16, "busy")
    assert db.stale_transactions() == [stale]


def test_a_stale_writable_layer_names_children_before_parents(db):
    with db.begin_mount(MountRecord("box", "a" * 64, "a" * 64 + "-init", PARENT)) as files_:
        files_.abandon()
    assert [stale.driver_ids for stale in db.stale_transactions()] == [("a" * 64, "a" * 64 + "-init")]


def test_a_deletion_is_interrupted_and_resumed(db):
    commit_record(db)
    deletion = db.begin_deletion(CHAIN)
    path = deletion.path
    assert db.interrupted_deletions() == [], "this deletion is at work"
    assert db.parents_of_deletions() == {path: PARENT}
    with deletion:
        pass
    assert path.name.startswith(f"{CHAIN.hex}-")
    assert path.name.endswith("-removing")
    assert not db.has_layer(CHAIN)
    assert db.list_layers() == []
    assert db.unexpected_entries() == []
    [removing] = db.interrupted_deletions()
    assert (removing.path, removing.chain_id, removing.cache_id) == (path, CHAIN, CACHE_ID)
    (path / "cache-id").write_text("../../etc")
    assert db.interrupted_deletions()[0].cache_id is None
    with db.resume_deletion(removing) as again:
        assert db.resume_deletion(removing) is None
        again.finish()
        again.finish()
    assert db.resume_deletion(removing) is None
    assert db.interrupted_deletions() == []
    with pytest.raises(FileNotFoundError) as caught:
        db.begin_deletion(CHAIN)
    assert caught.value.filename == str(db.layer_path(CHAIN))


def test_the_files_of_a_writable_layer_s_record(db):
    record = MountRecord("box", "a" * 64, "a" * 64 + "-init", PARENT)
    with db.begin_mount(record) as set_:
        set_.publish(db.mount_path("box"))
    assert files(db.mount_path("box")) == {
        "mount-id": b"a" * 64,
        "init-id": b"a" * 64 + b"-init",
        "parent": PARENT.encode(),
    }
    assert db.read_mount("box") == record
    assert (db.list_mounts(), db.mount_id("box"), db.has_mount("box")) == (["box"], "a" * 64, True)

    with db.begin_mount_deletion("box") as taken:
        assert not db.has_mount("box")
        assert db.stale_transactions() == [], "this deletion is at work"
        taken.publish(db.mount_path("box"))
    assert db.read_mount("box") == record
    with db.begin_mount_deletion("box"):
        pass
    assert db.list_mounts() == []
    with pytest.raises(FileNotFoundError, match="box"):
        db.begin_mount_deletion("box")
    assert os.listdir(db.path / "tmp") == []


def test_a_write_set_is_cancelled_once(db):
    commit_record(db)
    with WriteSet(db.path, durable=True) as files_:
        path = files_.path
        files_.cancel()
        assert not path.exists()
        path.mkdir()
    assert path.exists(), "a cancelled write set removes nothing more"


def test_reading_records_creates_nothing(tmp_path):
    db = LayerDB(tmp_path / "layerdb")
    assert (
        db.list_layers(),
        db.list_mounts(),
        db.interrupted_deletions(),
        db.stale_transactions(),
        db.unexpected_entries(),
    ) == (
        [],
        [],
        [],
        [],
        [],
    )
    assert not db.has_layer(CHAIN)
    assert db.cache_id(CHAIN) is None
    with pytest.raises(BadRecord, match="the file is missing"):
        db.read(CHAIN)
    with pytest.raises(FileNotFoundError):
        db.open_tar_split(CHAIN)
    assert try_lock(tmp_path / "nowhere") is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", ["-1", "1.5", "0x10", "1e3", "", " ", "12 12", str(1 << 63), "９"])
def test_an_invalid_size_is_a_bad_record(db, size):
    commit_record(db)
    (db.layer_path(CHAIN) / "size").write_text(size)
    with pytest.raises(BadRecord, match="size"):
        db.read(CHAIN)


@pytest.mark.parametrize("cache_id", ["..", "a/b", "-x", "x" * 129, "a b", "é"])
def test_a_driver_s_id_that_is_a_path_is_a_bad_record(db, cache_id):
    commit_record(db)
    (db.layer_path(CHAIN) / "cache-id").write_text(cache_id)
    with pytest.raises(BadRecord, match="cache-id"):
        db.read(CHAIN)
    assert db.cache_id(CHAIN) is None


@pytest.mark.parametrize("mount_id", ["x" * 64, "a" * 63, "a" * 64 + "-other", "A" * 64, "../" + "a" * 61])
def test_an_invalid_mount_id_is_a_bad_record(db, mount_id):
    with db.begin_mount(MountRecord("box", "a" * 64)) as set_:
        set_.publish(db.mount_path("box"))
    (db.mount_path("box") / "mount-id").write_text(mount_id)
    with pytest.raises(BadRecord, match="mount-id"):
        db.read_mount("box")


FIELDS = ("os", "parent", "diff", "size", "cache-id", "descriptor.json")


def result_of(read):
    """Read a record; return the record, or the type and message of the error."""
    try:
        return read(CHAIN)
    except (BadRecord, OSError) as error:
        return type(error), str(error)


def read_both_ways(db):
    """Read a record as one of many and alone, check that the results are the same, and return it."""
    with db.reading_many() as read:
        assert result_of(read) == result_of(db.read)
    return result_of(db.read)


@pytest.mark.parametrize("descriptor", [None, {"digest": "x"}, {"annotations": {"a": "é" * 9000}}])
@pytest.mark.parametrize("parent", [None, PARENT])
def test_many_records_are_read_like_single_ones(db, monkeypatch, parent, descriptor):
    """Usual records are read without `LayerRecord.read`."""
    record = commit_record(db, parent=parent, descriptor=descriptor)
    with db.reading_many() as read:
        assert read(record.chain_id) == db.read(record.chain_id) == record
        if not descriptor or len(str(descriptor)) < 1000:
            monkeypatch.setattr(LayerRecord, "read", None)
            assert read(record.chain_id) == record


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("damage", ["gone", "directory", "dangling", "loop", "fifo", "long", "locked out"])
def test_damage_is_reported_alike_among_many_records(db, field, damage):
    commit_record(db, descriptor={"digest": "x"})
    path = db.layer_path(CHAIN) / field
    path.unlink(missing_ok=True)
    match damage:
        case "directory":
            path.mkdir()
        case "dangling":
            path.symlink_to("nowhere")
        case "loop":
            path.symlink_to(field)
        case "fifo":
            os.mkfifo(path)
        case "long":
            path.write_bytes(b"1" * 5000)
        case "locked out":
            path.write_bytes(b"linux")
            path.chmod(0)
    read_both_ways(db)


ODD = [
    b"", b"linux", b"linux\n", b"windows", b"null", b"[]", b"{}", b"{\0}\0", b"1", b" 1", b"9" * 19, b"9" * 4097,
    b"a" * 64, DIFF.encode(), PARENT.encode() + b"\n", DIFF.upper().encode(), b"[" * 1000, b"\xef\xbb\xbf{}", b"\xff",
]  # fmt: skip


@pytest.mark.parametrize("field", FIELDS)
def test_odd_content_is_read_alike_among_many_records(tmp_path, field):
    db = LayerDB(tmp_path, durability="none")
    commit_record(db)
    for content in ODD:
        (db.layer_path(CHAIN) / field).write_bytes(content)
        read_both_ways(db)


@given(st.sampled_from(FIELDS), st.binary(max_size=8))
def test_any_content_is_read_alike_among_many_records(tmp_path_factory, field, content):
    db = LayerDB(tmp_path_factory.mktemp("many"), durability="none")
    commit_record(db)
    (db.layer_path(CHAIN) / field).write_bytes(content)
    read_both_ways(db)


def test_reading_many_records_of_an_empty_store(tmp_path):
    db = LayerDB(tmp_path / "none")
    assert read_both_ways(db)[0] is BadRecord
    assert list(tmp_path.iterdir()) == []


@given(st.dictionaries(st.text(), st.one_of(st.none(), st.integers(), st.text(), st.lists(st.text())), min_size=1))
def test_any_descriptor_is_read_as_it_was_written(tmp_path_factory, descriptor):
    directory = tmp_path_factory.mktemp("record")
    record = LayerRecord(ChainID(DIFF), DIFF, 0, CACHE_ID, None, descriptor)
    record.write(directory)
    assert LayerRecord.read(directory, ChainID(DIFF)).descriptor == descriptor
    encoded = (directory / "descriptor.json").read_bytes()
    assert json.loads(encoded) == descriptor
    assert not {b"<", b">", b"&", "\u2028".encode()} & {bytes([byte]) for byte in encoded}
    assert "\u2028".encode() not in encoded


@given(st.text())
def test_a_valid_mount_name_can_name_a_directory(tmp_path_factory, name):
    try:
        check_mount_name(name)
    except InvalidMountName:
        return
    except UnicodeEncodeError:
        return
    directory = tmp_path_factory.mktemp("names")
    (directory / name).mkdir()
    assert os.listdir(directory) == [name]


def test_digests_are_parsed_strictly():
    for wrong in (
        "",
        "sha256:",
        "sha256:" + "g" * 64,
        "sha512:" + "0" * 64,
        "sha256:" + "0" * 65,
        DIFF + "\n",
        DIFF.upper(),
    ):
        for kind in (DiffID, ChainID):
            with pytest.raises(ValueError, match="expected sha256:"):
                kind(wrong)
    assert DiffID.of(b"").hex == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_the_chain_id_of_the_oci_specification():
    assert chain_id(DIFF) == ChainID(DIFF)
    assert chain_id(DIFF, PARENT) == ChainID.of(f"{PARENT} {DIFF}".encode())


def test_pins_are_added_listed_and_removed(tmp_path):
    pins = Pins(tmp_path, "vfs")
    directory = tmp_path / "layerstore" / "pins"
    assert (list(pins), CHAIN in pins) == ([], False)
    pins.remove(CHAIN)
    assert not directory.exists()
    pins.add(CHAIN)
    pins.add(CHAIN)
    (directory / "vfs" / "unexpected").touch()
    (directory / "unexpected").touch()
    assert (list(pins), CHAIN in pins) == ([CHAIN], True)
    pins.remove(CHAIN)
    assert list(pins) == []


def test_claimed_parents_of_damaged_records(tmp_path):
    """The chain ID proves the parent of a layer. A writable layer has the recorded parent if that exists; else any."""
    layers, mounts = tmp_path / "sha256", tmp_path / "mounts"
    damaged, lost, base = layers / CHAIN.hex, layers / ("9" * 64), layers / DIFF.hex
    box, plain = mounts / "box", mounts / "plain"
    for directory in (damaged, lost, base, box, plain):
        directory.mkdir(parents=True)
    (damaged / "diff").write_text(DIFF)
    (damaged / "parent").write_text("")
    (base / "diff").write_text(DIFF)
    (box / "mount-id").write_text("a" * 64)
    (box / "parent").write_text("damaged")
    everything = [damaged, lost, base, box, plain]

    def claimed(*known):
        claims = claimed_parents(everything, known)
        return claims.parents, [bad.path for bad in claims.unknown]

    assert claimed(ChainID("sha256:" + "7" * 64), PARENT) == ({PARENT: [damaged]}, [box])
    (damaged / "parent").write_text("sha256:" + "5" * 64)
    (box / "parent").write_text(PARENT)
    assert claimed(PARENT) == ({PARENT: [damaged, box]}, []), "another digest than the right one proves nothing"
    assert claimed() == ({}, [damaged, box])
    (damaged / "parent").write_text(PARENT)
    assert claimed() == ({PARENT: [damaged]}, [damaged, box]), (
        "the chain ID proves it, and the parent of that layer is lost"
    )
    (damaged / "diff").unlink()
    (box / "parent").unlink()
    assert claimed(PARENT) == ({}, [damaged, box])


@pytest.fixture
def many(tmp_path):
    """Return a directory with some hundred records: chains of three, some with descriptors, some damaged."""
    db = LayerDB(tmp_path / "many", durability="none")
    parent = None
    for number in range(300):
        diff_id = DiffID.of(b"%d" % number)
        parent = parent if number % 3 else None
        name = chain_id(diff_id, parent)
        descriptor = {"digest": "x", "annotations": {"a": "b" * number}} if number % 5 == 0 else None
        size = number << 40 if number < 9 else number
        db.layer_path(name).mkdir(parents=True)
        LayerRecord(name, diff_id, size, "c" * 64, parent, descriptor).write(db.layer_path(name))
        parent = name
    for number, name in enumerate(db.list_layers()[::10]):
        path = db.layer_path(name)
        match number % 5:
            case 0:
                (path / "size").write_text("none")
            case 1:
                (path / "diff").unlink()
            case 2:
                (path / "cache-id").write_text("..")
            case 3:
                (path / "descriptor.json").write_text("[]")
            case 4:
                (path / "os").write_text("windows")
    return db


def result_for(read, name):
    """Read the record of a layer; return the record, or the type and message of the error."""
    try:
        return read(name)
    except (BadRecord, OSError) as error:
        return type(error), str(error)


def test_hundreds_of_records_are_read_like_single_ones(many, each_engine, nothing_left_open):
    names = many.list_layers()
    expected = {name: result_for(many.read, name) for name in names}
    assert sum(isinstance(one, LayerRecord) for one in expected.values()) == 270
    with many.reading_many(names) as read:
        found = {name: result_for(read, name) for name in names}
    assert found == expected
    for record in found.values():
        if isinstance(record, LayerRecord):
            assert type(record.chain_id).__name__ == "ChainID"
            assert type(record.diff_id).__name__ == "DiffID"


def test_a_record_read_ahead_is_returned_once_and_then_read_again(many, each_engine):
    names = many.list_layers()
    with many.reading_many(names) as read:
        (many.layer_path(names[1]) / "size").write_text("damaged after it was read")
        assert read(names[1]).chain_id == names[1]
        with pytest.raises(BadRecord, match="size"):
            read(names[1])


def test_an_interrupt_leaves_nothing_open(many, each_engine, monkeypatch, nothing_left_open):
    def interrupt(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr(fields, "_fields_of", interrupt)
    with pytest.raises(KeyboardInterrupt), many.reading_many(many.list_layers()):
        pass
