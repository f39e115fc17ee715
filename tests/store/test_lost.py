"""A missing directory of records does not mean that there are no records, as long as the driver has layers."""

from __future__ import annotations

import io
import shutil
from hashlib import sha256
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from layerstore_core import LayerStore, RWLayer
from layerstore_core.base import inside
from layerstore_core.base.atomic import make_directory
from layerstore_core.base.digests import ChainID
from layerstore_core.errors import BadRecord
from layerstore_core.images import Images
from layerstore_core.maintenance.check import RepairSource, check_store, repair
from layerstore_core.maintenance.gc import collect_garbage
from layerstore_core.records.own_state import driver_note, lost_directory, write_driver_note
from layerstore_core.store.strays import Strays
from tests.conftest import OpenStore
from tests.images.archives import ImageSpec, docker_archive
from tests.store.layers import BASE, MIDDLE, TOP, chain, export, names_of, register, tar_of


def create_work(store: LayerStore) -> RWLayer:
    """Create a writable layer, with a file in it, on a chain that has no other reference."""
    with store.create_rw_layer("work", chain(store, BASE, MIDDLE)[-1]) as work, work.mounted() as path:
        Path(path, "mine").write_bytes(b"content")
    return work


@pytest.mark.parametrize("lost", ["mounts", "sha256", "sha256 mounts", ""])
def test_nothing_is_deleted_if_records_are_lost(open_store: OpenStore, store: LayerStore, lost: str) -> None:
    create_work(store)
    db, ids = store.context.db.path, store.driver.layer_ids()
    store.close()
    aside = db.with_name("aside")
    shutil.copytree(db, aside, symlinks=True)
    for name in lost.split() or [""]:
        shutil.rmtree(db / name)
    whole = lost in ("", "sha256 mounts")
    for _ in range(2):  # a second check and repair have the same result
        with open_store() as again:
            findings = check_store(again)
            found = [finding.subject for finding in findings if finding.code == "records-lost"]
            assert found == [str(db if whole else db / lost)]
            assert {finding.code for finding in findings} <= {"records-lost", "unloadable"}
            repair(again, findings, force=True)
            assert collect_garbage(again, dry_run=True) == collect_garbage(again) == []
            for layer in again.layers().values():
                with again.get(layer.chain_id) as handle:
                    assert again.release(handle) == []
            # The directory is not created again: then it would look as if there had been no records.
            with pytest.raises(BadRecord, match="directory is missing"):
                register(again, TOP)
            with pytest.raises(BadRecord, match="directory is missing"):
                again.create_rw_layer("new")
            assert again.driver.layer_ids() == ids
    shutil.rmtree(db, ignore_errors=True)
    aside.rename(db)
    with open_store() as again:
        assert check_store(again) == []
        with again.get_rw_layer("work") as work, work.mounted() as path:
            assert Path(path, "mine").read_bytes() == b"content"


def test_a_store_without_a_directory_of_writable_layers_is_sound(open_store: OpenStore, store: LayerStore) -> None:
    """Docker also creates the directory only with the first writable layer: no records are lost, and all works."""
    layer = register(store, BASE)
    store.pin(layer)
    spare = register(store, MIDDLE)
    store.close()
    (store.context.db.path / "mounts").rmdir()
    with open_store() as again:
        assert check_store(again) == []
        assert [item.name for item in collect_garbage(again)] == [spare.chain_id]
        register(again, TOP).close()
        with again.create_rw_layer("work", layer.chain_id):
            pass
        assert Images(again).all() == []
        assert check_store(again) == []


def test_all_directories_are_created_with_the_first_record(store: LayerStore) -> None:
    assert store.context.db.missing_directories() == store.context.db.directories()
    register(store, BASE)
    assert store.context.db.missing_directories() == []


CHAIN = (BASE, MIDDLE, TOP)


def lose(store: LayerStore, name: str) -> Path:
    """Move the record of a layer away, close the store, and return where the record is now."""
    aside = store.root.with_name("aside")
    store.context.db.layer_path(ChainID(name)).rename(aside)
    store.close()
    return aside


@pytest.mark.parametrize("lost", range(3), ids=["base", "middle", "top"])
def test_an_image_keeps_all_its_layers(open_store: OpenStore, store: LayerStore, lost: int) -> None:
    """The config of the image names all layers, also the parents of a layer whose record is lost."""
    Images(store).load(io.BytesIO(docker_archive(ImageSpec(list(CHAIN), names=["demo:1"]))))
    names, ids = names_of(*CHAIN), store.driver.layer_ids()
    aside = lose(store, names[lost])
    with open_store() as again:
        spare = register(again, tar_of({"spare": b"spare"}))
        spare.close()
        gone = [found.name for found in collect_garbage(again)]
        # A child of a layer without a record cannot be loaded, and any layer might be its parent.
        assert gone == ([spare.chain_id] if names[lost] == names[-1] else [])
        for name in names[:lost]:
            with again.get(name) as layer:
                assert again.release(layer) == []
                assert any(holder.startswith("image sha256:") for holder in again.holders(name))
        assert set(ids or ()) <= set(again.driver.layer_ids() or ())
    aside.rename(again.context.db.layer_path(ChainID(names[lost])))
    with open_store() as again:
        collect_garbage(again)
        assert check_store(again, full=True) == []
        for name, tar in zip(names, CHAIN, strict=True):
            with again.get(name) as layer:
                assert export(layer) == tar


def test_an_image_whose_topmost_record_is_lost_can_be_removed(open_store: OpenStore, store: LayerStore) -> None:
    """Another image that shares its layers can be removed, too."""
    for name, tars in ("demo:1", CHAIN), ("other:1", CHAIN[:2]):
        Images(store).load(io.BytesIO(docker_archive(ImageSpec(list(tars), names=[name]))))
    lose(store, names_of(*CHAIN)[2])
    with open_store() as again:
        assert Images(again).remove("other:1").layers == []
        assert collect_garbage(again) == []
        assert len(Images(again).remove("demo:1").deleted) == 1
        assert sorted(found.kind for found in collect_garbage(again)) == ["layer", "layer", "stray driver layer"]
        assert check_store(again) == []
        assert again.driver.layer_ids() == []


@pytest.mark.parametrize("end", ["restored", "repaired from a source", "given up"])
def test_a_pinned_layer_without_a_record_keeps_its_possible_parents(
    open_store: OpenStore, store: LayerStore, tmp_path: Path, said: list[Any], end: str
) -> None:
    layers = chain(store, *CHAIN)
    store.pin(layers[-1])
    names = names_of(*CHAIN)
    aside = lose(store, names[-1])
    with open_store() as again:
        with again.get(names[1]) as layer:
            assert again.release(layer) == []
        said.clear()
        assert collect_garbage(again) == []
        assert any("--repair --from FILE" in one["message"] and names[-1] in one["message"] for one in said)
        findings = check_store(again)
        assert [finding.code for finding in findings] == ["dangling-pin"]
        # The driver's layer may be that of the lost record, and so may the parents: all are kept.
        assert repair(again, findings) == findings
        for stray in Strays(again.context).ids if end != "restored" else ():
            again.driver.remove(stray)
        assert bool(repair(again, findings)), "its parents still have no other reference"
        assert sorted(again.layers()) == sorted(names[:2])
        if end == "repaired from a source":
            tar = tmp_path / "layer.tar"
            tar.write_bytes(TOP)
            with RepairSource(again, tar) as source:
                assert repair(again, findings, source=source) == []
        elif end == "given up":
            assert repair(again, findings, force=True) == []
            assert sorted(found.name for found in collect_garbage(again)) == sorted(names[:2])
            assert check_store(again) == []
            return
        else:
            aside.rename(again.context.db.layer_path(ChainID(names[-1])))
    with open_store() as again:
        assert collect_garbage(again) == []
        assert check_store(again, full=True) == []
        for name, tar in zip(names, CHAIN, strict=True):
            with again.get(name) as layer:
                assert export(layer) == tar


def test_a_lost_layer_keeps_its_parents_while_other_processes_work(open_store: OpenStore, store: LayerStore) -> None:
    """The store was open when the record was lost; a commit by another store makes it read the records again."""
    store.pin(chain(store, *CHAIN)[-1])
    names = names_of(*CHAIN)
    store.close()
    with open_store() as one, open_store() as other:
        assert len(one.layers()) == 3
        shutil.rmtree(one.context.db.layer_path(ChainID(names[-1])))
        spare = register(other, tar_of({"spare": b"spare"}))
        assert other.release(spare) == collect_garbage(one) == []
        assert set(names[:2]) < set(one.layers())
        other.unpin(names[-1])
        assert {names[0], names[1], spare.chain_id} < {found.name for found in collect_garbage(one)}


def test_a_file_in_place_of_the_record_of_a_writable_layer_is_reported(
    open_store: OpenStore, store: LayerStore
) -> None:
    create_work(store)
    store.close()
    record = store.context.db.mount_path("work")
    aside = record.rename(store.root.with_name("aside"))
    record.touch()
    with open_store() as again:
        assert [finding.code for finding in check_store(again)] == ["unloadable"]
        assert collect_garbage(again) == []
    record.unlink()
    aside.rename(record)
    with open_store() as again:
        assert collect_garbage(again) == check_store(again, full=True) == []


def test_no_pin_is_left_after_unpin_and_release(store: LayerStore) -> None:
    base, top = chain(store, BASE, MIDDLE)
    store.pin(top)
    store.unpin(top)
    assert len(store.release(top)) == 1
    assert store.unreadable() == []
    assert [gone.chain_id for gone in store.release(base)] == [base.chain_id]


def test_nothing_is_deleted_if_the_pins_are_lost(open_store: OpenStore, store: LayerStore) -> None:
    layers = chain(store, BASE, MIDDLE)
    store.pin(layers[-1])
    pins = store.root / "layerstore" / "pins" / store.driver_name
    store.close()
    aside = store.root.with_name("aside")
    pins.rename(aside)
    with open_store() as again:
        findings = check_store(again)
        assert [(finding.code, finding.subject) for finding in findings] == [("unreadable-reference", str(pins))]
        repair(again, findings, force=True)
        assert collect_garbage(again) == []
        # The directory is not created again: then it would look as if there had been no pins.
        with (
            again.get(layers[-1].chain_id) as handle,
            pytest.raises(BadRecord, match="the directory of the pins is missing"),
        ):
            again.pin(handle)
        assert not pins.exists()
    aside.rename(pins)
    with open_store() as again:
        assert check_store(again) == []
        assert collect_garbage(again) == []


def test_a_store_without_pins_has_no_finding_for_their_directory(open_store: OpenStore, store: LayerStore) -> None:
    spare = register(store, BASE)
    store.close()
    with open_store() as again:
        assert check_store(again) == []
        assert [item.name for item in collect_garbage(again)] == [spare.chain_id]


@pytest.mark.parametrize(
    "lost", ["imagedb", "imagedb/content", "imagedb/content/sha256", "repositories.json", "imagedb repositories.json"]
)
def test_nothing_is_deleted_if_images_are_lost(open_store: OpenStore, store: LayerStore, lost: str) -> None:
    Images(store).load(io.BytesIO(docker_archive(ImageSpec(list(CHAIN), names=["demo:1"]))))
    ids = store.driver.layer_ids()
    store.close()
    for name in lost.split():
        path = store.context.db.path.parent / name
        path.rename(store.root.with_name(path.name))
    with open_store() as again:
        findings = check_store(again)
        if lost != "repositories.json":
            codes = {finding.code for finding in findings}
            assert "unreadable-reference" in codes
            assert codes <= {"unreadable-reference", "image-without-config"}
            with pytest.raises(BadRecord, match="missing"):  # the directory is not created again
                Images(again).load(io.BytesIO(docker_archive(ImageSpec([TOP], names=["other:1"]))))
        repair(again, findings, force=True)
        assert collect_garbage(again) == []
        assert set(again.driver.layer_ids()) >= set(ids)


class HeldTar(io.BytesIO):
    """A tar of which the last read waits until it is let go on."""

    def __init__(self, tar: bytes) -> None:
        super().__init__(tar)
        self.arrived, self.go_on = Event(), Event()

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        if not data and not self.go_on.is_set():
            self.arrived.set()
            assert self.go_on.wait(30)
        return data


@pytest.mark.parametrize("committed_after", ["list_layers", "transactions"])
def test_a_first_layer_that_another_process_commits_meanwhile_is_not_lost(
    open_store: OpenStore, store: LayerStore, monkeypatch: pytest.MonkeyPatch, committed_after: str
) -> None:
    """Whichever is looked at first, its work or its record: the layer is seen in one of them."""
    tar = HeldTar(BASE)
    looked = False
    with open_store() as other:
        thread = Thread(target=lambda: other.register(tar).close())
        thread.start()
        assert tar.arrived.wait(30)
        look = getattr(store.context.db, committed_after)

        def then_committed() -> Any:
            nonlocal looked
            found, looked = list(look()), True
            tar.go_on.set()
            thread.join(30)
            return found

        monkeypatch.setattr(store.context.db, committed_after, then_committed)
        register(store, MIDDLE).close()
        monkeypatch.undo()
    assert looked
    assert len(store.chain_ids()) == 2 or not store.driver.layer_ids()
    assert check_store(store) == []


def test_directories_that_another_process_makes_meanwhile_are_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "images"
    read = inside.read

    def made_meanwhile(path: Path, *rest: Any) -> bytes:
        directory.mkdir()
        make_directory(driver_note(tmp_path, "vfs").parent, 0o700, durable=False)
        write_driver_note(tmp_path, "vfs")
        return read(path, *rest)

    monkeypatch.setattr(inside, "read", made_meanwhile)
    assert lost_directory(tmp_path, "vfs", directory, "images") is None


@pytest.mark.parametrize("first_look", ["exists", "is_directory"])
def test_origins_that_another_process_makes_meanwhile_are_not_lost(
    store: LayerStore, open_store: OpenStore, monkeypatch: pytest.MonkeyPatch, first_look: str
) -> None:
    """Whichever is looked at first, the note or what it stands for."""
    look = getattr(inside, first_look)
    with open_store() as other:

        def then_made(path: Path) -> bool:
            found: bool = look(path)
            monkeypatch.undo()
            other.context.kept.put("sha256:" + sha256(b"{}").hexdigest(), b"{}")
            return found

        monkeypatch.setattr(inside, first_look, then_made)
        assert store.context.kept.lost() is None
