"""Damaged records: they are reported and not loaded, others work, and `gc` keeps what damaged records may need."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil

import pytest

from layerstore_core import IntegrityError, LayerStoreError
from layerstore_core.maintenance.check import check_store
from layerstore_core.maintenance.gc import collect_garbage
from tests.store.layers import BASE, MIDDLE, TOP, chain, export, record_path, register

GARBAGE = b"\xff\0garbage\n" * 3


def empty(path):
    path.write_bytes(b"")


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def garbage(path):
    path.write_bytes(GARBAGE)


def directory(path):
    path.unlink()
    path.mkdir()


def missing(path):
    path.unlink()


def link_to_itself(path):
    path.unlink()
    path.symlink_to(path.name)


def huge(path):
    with open(path, "wb") as file:
        file.truncate(1 << 30)


DAMAGE = [empty, cut, garbage, directory, missing, link_to_itself, huge]


@pytest.fixture
def driver():
    """Return one driver: records do not depend on it."""
    return "vfs"


def fill(open_store, descriptor=None):
    """Fill a store with two chains, each with a writable layer, and close it.

    Returns:
        Three chain IDs: of the parent of the layer to be damaged, of that layer, and of the good layer. The directory
        of the record to be damaged. The directory with the records of writable layers.
    """
    store = open_store()
    base = register(store, BASE)
    damaged = store.register(io.BytesIO(MIDDLE), base.chain_id, descriptor=descriptor)
    good = register(store, TOP)
    store.create_rw_layer("box", damaged.chain_id, init=lambda path: None)
    store.create_rw_layer("good", good.chain_id)
    paths = record_path(damaged), record_path(damaged).parents[1] / "mounts"
    names = base.chain_id, damaged.chain_id, good.chain_id
    store.close()
    return names, *paths


def assert_left_out(open_store, names, path, said, *, rw):
    """Check that the record with a damaged file is reported by file and reason, and that other layers work.

    Args:
        open_store: opens the store.
        names: the chain IDs that `fill` has returned.
        path: the damaged file.
        said: the log.
        rw: whether the damaged record is that of the writable layer.
    """
    base, damaged, good = names
    said.clear()
    store = open_store()
    layers = store.layers()
    assert layers.keys() == {base, good} | ({damaged} if rw else set())
    assert [export(layers[name]) for name in (base, good)] == [BASE, TOP]
    problems = store.load_problems
    assert any(problem.path in (str(path), str(path.parent)) and problem.reason for problem in problems)
    assert all(record["level"].name == "WARNING" for record in said)
    assert any(str(path.parent) in record["message"] for record in said)
    assert {finding.code for finding in check_store(store)} == {"unloadable"}
    assert store.rw_layers() == ["good"]
    with pytest.raises((LayerStoreError, OSError)):
        (store.get_rw_layer("box") if rw else store.get(damaged))
    return store


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", ["diff", "size", "cache-id", "parent"])
def test_a_damaged_file_of_a_layer_s_record_is_reported(open_store, said, name, damage):
    names, record, _ = fill(open_store)
    damage(record / name)
    if damage is cut and name in ("size", "cache-id"):  # a shorter number or ID is also valid
        store = open_store()
        assert store.load_problems == []
        assert ("missing-in-driver" in {finding.code for finding in check_store(store)}) == (name == "cache-id")
        return
    store = assert_left_out(open_store, names, record / name, said, rw=False)

    # The parent of the damaged layer stays, so that the layer can be repaired.
    assert any(str(record) in holder for holder in store.holders(names[0]))
    collect_garbage(store)
    assert store.release(store.get(names[0])) == []
    assert names[0] in store.layers()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'"x"', b"\xff", b"[" * 100_000, b"{}{}", b'{"a":1'])
def test_a_damaged_descriptor_is_reported(open_store, said, content):
    names, record, _ = fill(open_store, descriptor={"size": 1})
    (record / "descriptor.json").write_bytes(content)
    assert_left_out(open_store, names, record / "descriptor.json", said, rw=False)


@pytest.mark.parametrize("system", [b"windows", b"", b"linux\0"])
def test_a_layer_of_another_operating_system_is_reported(open_store, said, system):
    names, record, _ = fill(open_store)
    (record / "os").write_bytes(system)
    assert_left_out(open_store, names, record / "os", said, rw=False)


@pytest.mark.parametrize("system", [b"linux", b"linux\n"])
def test_a_layer_record_may_name_its_operating_system(open_store, system):
    names, record, _ = fill(open_store)
    (record / "os").write_bytes(system)
    assert export(open_store().get(names[1])) == MIDDLE


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        (name, damage)
        for name in ("mount-id", "init-id", "parent")
        for damage in DAMAGE
        if damage is not missing or name == "mount-id"  # a writable layer may have no init layer and no parent
    ],
)
def test_a_damaged_file_of_a_writable_layer_s_record_is_reported(open_store, said, name, damage):
    names, _, mounts = fill(open_store)
    damage(mounts / "box" / name)
    store = assert_left_out(open_store, names, mounts / "box" / name, said, rw=True)
    collect_garbage(store)
    assert names[1] in store.layers(), "the parent of the damaged writable layer stays"


def test_a_repaired_record_is_loaded_again(open_store):
    names, record, _ = fill(open_store)
    diff = (record / "diff").read_bytes()
    empty(record / "diff")
    store = open_store()
    assert len(store.load_problems) == 2  # the layer, and the writable layer on it
    collect_garbage(store)
    store.close()
    (record / "diff").write_bytes(diff)
    store = open_store()
    assert store.load_problems == []
    assert export(store.get(names[1])) == MIDDLE


def test_a_record_of_empty_files_is_reported(open_store, said):
    """moby 23184, after a power cut: the parent cannot be known any more, so that no layer is deleted."""
    names, record, _ = fill(open_store)
    for path in record.iterdir():
        empty(path)
    store = assert_left_out(open_store, names, record / "parent", said, rw=False)
    other = register(store, MIDDLE)
    assert store.release(other) == []
    assert other.chain_id in store.layers()


def test_a_missing_parent_is_reported(open_store, said):
    names, record, mounts = fill(open_store)
    shutil.rmtree(record)
    store = open_store()
    assert set(store.layers()) == {names[0], names[2]}
    assert [problem.path for problem in store.load_problems] == [str(mounts / "box")]
    assert names[1] in store.load_problems[0].reason
    with pytest.raises(IntegrityError, match=names[1]):
        store.get_rw_layer("box")


@pytest.mark.parametrize("parent", ["itself", "each other", "none", "unknown"])
def test_a_parent_that_makes_another_chain_id_is_reported(open_store, parent):
    names, record, _ = fill(open_store)
    other = record.parent / names[2].removeprefix("sha256:")
    if parent == "none":
        (record / "parent").unlink()
    elif parent == "unknown":
        (record / "parent").write_text("sha256:" + "0" * 64)
    elif parent == "itself":
        (record / "parent").write_text(names[1])
    else:
        (record / "parent").write_text(names[2])
        (other / "parent").write_text(names[1])
    store = open_store()
    assert names[1] not in store.layers()
    assert (names[2] in store.layers()) == (parent != "each other")
    with pytest.raises(IntegrityError, match="another chain ID"):
        store.get(names[1])


def test_a_record_under_another_layer_s_name_is_reported(open_store):
    _names, record, _ = fill(open_store)
    misnamed = record.with_name("0" * 64)
    shutil.copytree(record, misnamed)
    store = open_store()
    assert [problem.path for problem in store.load_problems] == [str(misnamed)]
    assert len(store.layers()) == 3


@pytest.mark.parametrize("name", ["not-a-layer", "0" * 63, "A" * 64, "file"])
def test_an_unexpected_entry_among_the_records_is_left_alone(open_store, name):
    _, record, _ = fill(open_store)
    unexpected = record.with_name(name)
    unexpected.write_bytes(b"") if name == "file" else unexpected.mkdir()
    store = open_store()
    assert len(store.layers()) == 3
    assert store.load_problems == []
    collect_garbage(store)
    assert unexpected.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: to read all files")
@pytest.mark.parametrize("name", ["diff", "size", "cache-id", "parent", "descriptor.json"])
def test_an_unreadable_file_of_a_record_is_reported(open_store, name, monkeypatch):
    """An ordinary user gets such an error; root does not, so that the test raises it."""
    names, record, _ = fill(open_store, descriptor={"size": 1})
    real = os.open

    def refuse(path, *args, dir_fd=None, **kwargs):
        if os.fsdecode(path) == name and os.readlink(f"/proc/self/fd/{dir_fd}") == str(record):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *args, dir_fd=dir_fd, **kwargs)

    monkeypatch.setattr(os, "open", refuse)
    store = open_store()
    assert names[1] not in store.layers()
    assert (str(record / name), "Permission denied") in [
        (problem.path, problem.reason.rpartition("] ")[2].partition(":")[0]) for problem in store.load_problems
    ]
    with pytest.raises(PermissionError, match=name):
        store.get(names[1])


def tar_split_of(open_store):
    """Fill a store; return the chain IDs and the path of the tar-split file to be damaged."""
    names, record, _ = fill(open_store)
    return names, record / "tar-split.json.gz"


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_tar_split_file_is_found_by_a_full_check(open_store, damage):
    """Only exports need the file, and report the damage; `check --full` finds it, a quick check does not."""
    names, path = tar_split_of(open_store)
    damage(path)
    store = open_store()
    layer = store.get(names[1])
    with pytest.raises(IntegrityError):
        export(layer)
    assert [finding.code for finding in check_store(store, full=True)] == ["damaged"]
    assert check_store(store) == []
    assert export(store.get(names[2])) == TOP


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: lines[:-2],
        lambda lines: lines[1:],
        lambda lines: [lines[0], *lines],
        lambda lines: lines[::-1],
        lambda lines: [*lines, b"{"],
        lambda lines: [*lines, b"null\n"],
        lambda lines: [*lines, json.dumps({"type": 1, "name": "../../etc/passwd", "size": 1, "position": 99}).encode()],
        lambda lines: [b'{"type":9,"payload":"","position":0}\n', *lines],
        lambda lines: [line.replace(b'"size":4000', b'"size":4001') for line in lines],
        lambda lines: [line.replace(b"opt/tool", b"etc/hosts") for line in lines],
        lambda lines: [],
    ],
)
def test_a_changed_tar_split_line_is_found_by_a_full_check(open_store, change):
    names, path = tar_split_of(open_store)
    lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    path.write_bytes(gzip.compress(b"".join(change(lines))))
    with pytest.raises(IntegrityError):
        export(open_store().get(names[1]))


def test_a_tar_split_file_cut_at_every_place_is_damage(open_store):
    names, path = tar_split_of(open_store)
    whole = path.read_bytes()
    layer = open_store().get(names[1])
    for size in range(0, len(whole), 2):
        path.write_bytes(whole[:size])
        with pytest.raises(IntegrityError):
            export(layer)
    path.write_bytes(whole)
    assert export(layer) == MIDDLE


def test_a_flipped_bit_of_a_tar_split_file_changes_no_export(open_store):
    """The export gives the right bytes or raises an error."""
    names, path = tar_split_of(open_store)
    whole = path.read_bytes()
    layer = open_store().get(names[1])
    for position in range(0, len(whole), 3):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ (1 << position % 8)]) + whole[position + 1 :])
        try:
            assert export(layer) == MIDDLE  # for example the time in the gzip header
        except IntegrityError:
            pass


def test_a_layer_missing_in_the_driver_is_damage(open_store, store_root):
    names, record, _ = fill(open_store)
    shutil.rmtree(store_root / "vfs" / "dir" / (record / "cache-id").read_text())
    store = open_store()
    with pytest.raises(IntegrityError, match="register the layer again"):
        export(store.get(names[1]))
    assert [finding.code for finding in check_store(store)] == ["missing-in-driver"]
    assert [finding.subject for finding in check_store(store, full=True)] == [names[1]]


def test_damage_at_the_base_of_a_deep_chain_is_reported(open_store):
    """No layer of the chain is loaded, and none is deleted."""
    store = open_store()
    layers = chain(store, BASE, MIDDLE, TOP)
    names = [layer.chain_id for layer in layers]
    path = record_path(layers[0])
    store.close()
    empty(path / "size")
    store = open_store()
    assert store.layers() == {}
    assert {problem.path for problem in store.load_problems} == {str(path / "size")}
    assert collect_garbage(store) == []
    assert store.chain_ids() == sorted(names)
