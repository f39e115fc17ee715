"""Losses of data or disk space that users have reported to the trackers of container engines: here they do not happen.

Each test names the issue, what happens there, and what happens here.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from layerstore_core.images import Images
from layerstore_core.maintenance.check import RepairSource, check_store, repair
from layerstore_core.maintenance.gc import collect_garbage
from tests.images.archives import ImageSpec, docker_archive
from tests.store.layers import BASE, MIDDLE, TOP, chain, export, names_of, record_path, register


def test_moby_23184_metadata_of_zero_bytes(open_store, store):
    """There: the daemon can load no layer. Here: other layers work, and the damage is reported with file and reason."""
    register(store, TOP)
    bad = register(store, BASE)
    record = record_path(bad)
    store.close()
    for path in record.iterdir():
        path.write_bytes(b"")
    store = open_store()
    assert export(store.get(names_of(TOP)[0])) == TOP
    [finding] = check_store(store)
    assert (finding.code, Path(finding.subject).parent) == ("unloadable", record)
    # The layer of the driver may belong to the damaged record: it is not garbage.
    assert collect_garbage(store) == []


@pytest.mark.parametrize("tracker", ["moby 49784", "containerd 8973"])
def test_empty_files_are_not_kept_as_valid(store, tracker):
    """There: a layer with files emptied by a power cut is used forever. Here: exports fail, and a check finds it."""
    layer = register(store, BASE)
    with store.driver.mounted(layer.cache_id) as path:
        Path(path, "bin/sh").write_bytes(b"")
    with pytest.raises(Exception, match="bin/sh"):
        export(layer)
    [finding] = check_store(store, full=True)
    assert (finding.code, finding.subject) == ("damaged", layer.chain_id)


@pytest.mark.parametrize("tracker", ["moby 45939", "moby 22207", "docker/cli 4656"])
def test_driver_directories_of_lost_records_are_collected(store, tracker):
    """There: the driver's directories of lost records fill the disk. Here: a check finds them; `gc` collects them."""
    keep, lose = register(store, BASE), register(store, MIDDLE)
    store.create_rw_layer("lost", keep.chain_id, init=lambda path: None).close()
    mount_id, cache_id = store.mount_id("lost"), lose.cache_id
    shutil.rmtree(store.context.db.mount_path("lost"))
    shutil.rmtree(record_path(lose))
    lose.close()
    store.context.locks.advance()
    lost = [mount_id, f"{mount_id}-init", cache_id]
    assert sorted(finding.subject for finding in check_store(store)) == sorted(lost)
    announced = collect_garbage(store, dry_run=True)
    assert sorted(one.name for one in announced) == sorted(lost)
    assert any(one.bytes for one in announced)
    assert collect_garbage(store) == announced
    assert store.driver.layer_ids() == [keep.cache_id]
    assert check_store(store, full=True) == []


def test_driver_layers_that_no_layer_store_has_made_are_left_alone(store):
    """Docker's builder has snapshots of its own in the driver, with other IDs and records elsewhere."""
    register(store, BASE)
    store.driver.create("r2x0yqz8m0v1c5b7n9k3j4h6g", "", {})
    assert check_store(store) == []
    assert collect_garbage(store) == []
    assert store.driver.exists("r2x0yqz8m0v1c5b7n9k3j4h6g")


def test_strays_are_kept_if_all_records_are_lost(open_store, store):
    """`image/` was deleted by mistake: the user may still need the layers of the driver."""
    layers = chain(store, BASE, MIDDLE)
    ids = sorted(layer.cache_id for layer in layers)
    store.close()
    shutil.rmtree(store.context.db.path)
    store = open_store()
    assert [finding.code for finding in check_store(store)] == ["records-lost"]
    assert collect_garbage(store) == []
    assert store.driver.layer_ids() == ids


def test_moby_44909_an_empty_directory_in_place_of_a_record(open_store, store):
    """There: the layer can never be registered again. Here: it can, and the directory can be removed."""
    names = names_of(BASE, MIDDLE)
    store.close()
    for name in names:
        (store.context.db.path / "sha256" / name.removeprefix("sha256:")).mkdir(parents=True)
    store = open_store()
    base = register(store, BASE)
    assert export(base) == BASE
    [finding] = check_store(store)
    assert finding.code == "empty-record"
    assert repair(store, [finding]) == []
    assert check_store(store) == []
    assert export(register(store, MIDDLE, base)) == MIDDLE


@pytest.mark.parametrize(
    ("tracker", "damage"),
    [
        ("moby 41845", "a file of zero bytes"),
        ("moby 41845", "a file that is missing"),
        ("moby 44909", "a record that is missing"),
        ("moby 36304", "a record that is missing"),
    ],
)
def test_layers_are_not_silently_left_out(open_store, store, tracker, damage, said, tmp_path):
    """There: a layer that cannot be loaded is skipped with a message at debug level, and so is its image, with "layer
    does not exist". No message names the file, and pulling the image again does not restore it.

    Here: each record is reported with file and reason, and so are all records that need it. Lost data can be restored.
    """
    archive = tmp_path / "image.tar"
    archive.write_bytes(docker_archive(ImageSpec([BASE, MIDDLE], names=["demo:1"])))
    Images(store).load(archive)
    other = register(store, TOP)
    base, middle = (store.get(name) for name in names_of(BASE, MIDDLE))
    store.create_rw_layer("box", middle.chain_id).close()
    record = record_path(base)
    store.close()
    if damage == "a record that is missing":
        shutil.rmtree(record)
    elif damage == "a file that is missing":
        (record / "cache-id").unlink()
    else:
        (record / "cache-id").write_bytes(b"")
    store = open_store()
    assert export(store.get(other.chain_id)) == TOP

    words = [f"{problem.path}: not loaded: {problem.reason}" for problem in store.load_problems]
    logged = [(record["level"].name, record["message"]) for record in said]
    assert all(("WARNING", word) in logged for word in words)
    lost = [record_path(middle), store.context.db.mount_path("box")]
    if record.exists():
        assert any(f"{record}/cache-id: not loaded: the file is" in word for word in words)
        lost.append(record)
    assert [path for path in lost if not any(str(path) in word for word in words)] == []
    findings = check_store(store)
    assert {finding.code for finding in findings} == {"unloadable"}
    assert [image.names for image in Images(store).all()] == [("demo:1",)]
    # Layers that the lost records may name are not taken for garbage.
    assert collect_garbage(store) == []

    if record.exists():
        with RepairSource(store, archive) as source:
            assert repair(store, findings, source=source) == []
    else:
        store.pin(register(store, BASE))
        store.close()
        store = open_store()
        left = repair(store, check_store(store))
        assert {finding.code for finding in left} == {"stray-in-driver"}  # the layer that the lost record named
    collect_garbage(store)
    assert check_store(store, full=True) == []
    assert [export(store.get(name)) for name in names_of(BASE, MIDDLE)] == [BASE, MIDDLE]
    with store.get_rw_layer("box") as rw, rw.mounted() as path:
        assert Path(path, "etc/hosts").read_bytes() == b"::1 localhost\n"
        assert Path(path, "bin/sh").exists()


def test_an_unexpected_entry_among_the_records_is_put_into_quarantine(store):
    register(store, BASE)
    unexpected = store.context.db.path / "sha256" / "lost+found"
    unexpected.mkdir()
    (unexpected / "content").write_bytes(b"content")
    [finding] = check_store(store)
    assert (finding.code, finding.subject) == ("not-a-record", str(unexpected))
    assert repair(store, [finding]) == []
    [kept] = store.context.quarantine.entries()
    assert (kept / "content").read_bytes() == b"content"
