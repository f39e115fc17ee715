"""Recording a new image: whole or not at all, whatever happens, and the steps of its history."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from layerstore_core import (
    ConfigOptions,
    DiffID,
    ImageConfig,
    ImageID,
    Images,
    InvalidImage,
    InvalidReference,
    LayerStore,
    Reference,
)
from layerstore_core.base import inside
from layerstore_core.images.make.record import add_step, history_entry, record_image
from layerstore_core.maintenance.check import check_store
from layerstore_core.maintenance.gc import collect_garbage
from layerstore_core.records.imagedb import ImageDB
from layerstore_core.store.handles import Layer
from tests.conftest import OpenStore
from tests.images.archives import ImageSpec, oci_index, oci_manifest, tar_files
from tests.images.make.images_of import load
from tests.store.layers import BASE, MIDDLE, TOP, chain, tree

NAME = Reference.parse("example/app:1")
WHEN = "2024-05-06T07:08:09Z"


def config_of(layers: list[Layer]) -> ImageConfig:
    config = ImageConfig.scratch()
    for layer in layers:
        add_step(config, history_entry("step", created=WHEN), layer.diff_id)
    return config


def record(store: LayerStore, name: Reference | None = NAME, parent: ImageID | None = None, **fields: Any) -> ImageID:
    layers = chain(store, BASE, MIDDLE)
    config = config_of(layers)
    for key, value in fields.items():
        setattr(config, key, value)
    image = record_image(store, config, layers[-1], name=name, parent=parent)
    for layer in layers:
        layer.close()
    return image.image_id


def test_a_recorded_image_is_there_with_its_name_and_layers(store: LayerStore, images: Images) -> None:
    layers = chain(store, BASE, MIDDLE)
    config = config_of(layers)
    image = record_image(store, config, layers[-1], name=NAME, parent=None)
    assert image == images.get("example/app:1")
    assert image.config.data == config.to_bytes()
    assert image.size == layers[-1].size
    for layer in layers:
        layer.close()
    assert collect_garbage(store) == []
    assert [(step.created, step.created_by, step.size > 0) for step in images.history(image)] == [
        (WHEN, "step", True),
        (WHEN, "step", True),
    ]


def test_an_image_without_layers_and_without_a_name(store: LayerStore, images: Images) -> None:
    image = record_image(store, ImageConfig.scratch(), None, name=None, parent=None)
    assert image == images.get(image.image_id)
    assert (image.names, image.size) == ((), 0)
    assert collect_garbage(store) == [], "an image that was recorded without a name stays"


def test_the_parent_is_recorded_if_it_is_there(store: LayerStore, images: Images) -> None:
    parent = record(store)
    child = record(store, Reference.parse("child"), parent, author="x")
    orphan = record(store, Reference.parse("orphan"), ImageID.of(b"gone"), author="y")
    db = store.context.image_db
    assert (db.parent(child), db.parent(orphan)) == (parent, None)
    assert record(store, Reference.parse("same"), parent) == parent
    assert db.parent(parent) is None, "no image is its own parent"
    assert check_store(store) == []


def test_a_name_moves_from_another_image(store: LayerStore, images: Images) -> None:
    first, second = record(store), record(store, author="x")
    assert images.get("example/app:1").image_id == second
    assert images.get(first).names == ()


@pytest.mark.parametrize("layers", [0, 1])
def test_a_config_that_names_other_layers_is_refused(store: LayerStore, layers: int) -> None:
    made = chain(store, BASE, MIDDLE)
    before = tree(store.root)
    with pytest.raises(InvalidImage, match="names the layers"):
        record_image(store, config_of(made[:layers]), made[-1], name=NAME, parent=None)
    with pytest.raises(InvalidImage, match="names the layers"):
        record_image(store, config_of(made), None, name=NAME, parent=None)
    assert tree(store.root) == before


def test_a_name_with_a_digest_is_refused(store: LayerStore) -> None:
    with pytest.raises(InvalidReference, match="has a digest"):
        record(store, Reference.parse("app@" + ImageID.of(b"")))
    assert store.context.image_db.image_ids() == []


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("method", ["add", "set_last_updated", "set_names"])
def test_an_error_leaves_nothing(
    store: LayerStore, monkeypatch: pytest.MonkeyPatch, method: str, *, known: bool
) -> None:
    record(store, Reference.parse("other"), author=None if known else "x")
    before = tree(store.root)
    original = getattr(ImageDB, method)

    def fail(*args: Any, **options: Any) -> None:
        original(*args, **options) if method == "add" else None
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(ImageDB, method, fail)
    with pytest.raises(OSError, match="No space left"):
        record(store)
    monkeypatch.undo()
    after = tree(store.root)
    for found in (before, after):
        for path in [path for path in found if path.endswith("lastUpdated")]:
            del found[path]
    assert after == before


@pytest.mark.needs_root
def test_a_full_disk_leaves_nothing(open_store: OpenStore, tmpfs: Any) -> None:
    root: Path = tmpfs("size=1m,nr_inodes=400")
    store = open_store(root=root / "store")
    layers = chain(store, BASE, MIDDLE)
    config = config_of(layers)
    record_image(store, config, layers[-1], name=Reference.parse("other"), parent=None)
    before = tree(store.root)
    config.author = "x" * 3000
    outcomes = []
    # Leave room for so many pages: the first write that fails is another one each time.
    for pages in range(5):
        with open(root / "filler", "wb", buffering=0) as filler:
            try:
                while filler.write(bytes(4096)):
                    pass
            except OSError:
                filler.truncate(filler.tell() // 4096 * 4096 - pages * 4096)
        try:
            record_image(store, config, layers[-1], name=NAME, parent=None)
            outcomes.append(0)
        except OSError as error:
            outcomes.append(error.errno)
            assert tree(store.root) == before
        (root / "filler").unlink()
    assert set(outcomes) == {0, errno.ENOSPC}
    assert (outcomes[0], outcomes[-1]) == (errno.ENOSPC, 0)


def test_a_kill_at_any_step_leaves_nothing_that_gc_does_not_remove(store_root: Path, open_store: OpenStore) -> None:
    with open_store() as store:
        record(store, Reference.parse("other"))
    steps = 0
    while _killed_after(store_root, open_store, steps):
        store = open_store()
        named = "example/app:1" in store.context.image_db.names()
        collect_garbage(store)
        assert len(store.context.image_db.image_ids()) == (2 if named else 1), f"killed after {steps} steps"
        assert store.context.image_db.half_done() == []
        assert check_store(store, full=True) == []
        if named:
            Images(store).remove("example/app:1")
        store.close()
        steps += 1
    assert steps > 8
    with open_store() as store:
        assert len(store.context.image_db.image_ids()) == 2


def _killed_after(root: Path, open_store: OpenStore, steps: int) -> bool:
    """Record an image in another process that is killed after so many changes of files; return whether it was."""
    child = os.fork()
    if not child:
        try:
            left = [steps]
            store = open_store()
            layers = chain(store, BASE, MIDDLE)
            config = config_of(layers)
            config.author = "killed"
            for name in ("write", "rename", "unlink", "flush", "mkdir"):
                _count(name, left)
            record_image(store, config, layers[-1], name=NAME, parent=None)
        except BaseException:
            os._exit(1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 0
    return os.WIFSIGNALED(status)


def _count(name: str, left: list[int]) -> None:
    original = getattr(inside, name)

    def counted(*args: Any, **options: Any) -> Any:
        result = original(*args, **options)
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        return result

    setattr(inside, name, counted)


def test_two_at_once(open_store: OpenStore) -> None:
    """Stores that are opened twice stand for two processes: their locks are the kernel's."""
    stores = [open_store(), open_store()]
    found: dict[int, set[ImageID]] = {0: set(), 1: set()}

    def work(number: int) -> None:
        for turn in range(6):
            found[number].add(record(stores[number], Reference.parse(f"app:{number}-{turn}"), author=str(turn % 3)))

    threads = [threading.Thread(target=work, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] == found[1]
    assert len(found[0]) == 3
    names = stores[0].context.image_db.names()
    assert sorted(names) == [f"app:{number}-{turn}" for number in (0, 1) for turn in range(6)]
    assert set(names.values()) == found[0]
    assert check_store(stores[0], full=True) == []


def test_steps_that_say_nothing_stand_for_layers_without_history() -> None:
    config = ImageConfig.parse(b'{"rootfs":{"diff_ids":["sha256:%b","sha256:%b"]}}' % (b"1" * 64, b"2" * 64))
    add_step(config, history_entry("CMD", created=WHEN, comment="c", author="me", empty_layer=True))
    assert config.history is not None
    assert [step.model_dump(exclude_unset=True) for step in config.history] == [
        {"created": WHEN},
        {"created": WHEN},
        {"created": WHEN, "author": "me", "created_by": "CMD", "comment": "c", "empty_layer": True},
    ]


def test_steps_without_a_layer_are_marked() -> None:
    config = ImageConfig.model_validate(
        {
            "rootfs": {"type": "layers", "diff_ids": ["sha256:" + "1" * 64]},
            "history": [{"created_by": "none", "empty_layer": True}, *({"created_by": name} for name in "abc")],
        }
    )
    add_step(config, history_entry("new"), DiffID("sha256:" + "2" * 64))
    assert [(step.created_by, bool(step.empty_layer)) for step in config.history or ()] == [
        ("none", True), ("a", False), ("b", True), ("c", True), ("new", False),
    ]  # fmt: skip


def test_a_config_with_more_steps_than_layers_is_refused(store: LayerStore, images: Images) -> None:
    config = ImageConfig.model_validate({"history": [{"created_by": name} for name in "abc"]})
    with store.register(io.BytesIO(BASE)) as layer:
        with pytest.raises(InvalidImage, match=r"3 steps with a layer, more than the image has layers \(1\)"):
            images.create([layer], config)
        assert list(images.all()) == []
        for step in (config.history or [])[1:]:
            step.empty_layer = True
        made = images.create([layer], config)
        assert [entry.created_by for entry in reversed(images.history(made.image_id))] == ["a", "b", "c"]


def test_a_step_is_empty_if_and_only_if_it_has_no_layer() -> None:
    for step, diff_id in ((history_entry(), None), (history_entry(empty_layer=True), ImageID.of(b""))):
        with pytest.raises(InvalidImage, match="empty_layer"):
            add_step(ImageConfig.scratch(), step, diff_id)  # type: ignore[arg-type]


def test_annotations_belong_to_a_name(store: LayerStore, images: Images) -> None:
    for name, given in (("a", {"x": "1"}), ("b", {}), ("c", {"x": "2"})):
        record_image(
            store,
            ImageConfig.scratch(),
            None,
            name=Reference.parse(name),
            parent=None,
            annotations=given,
        )
    assert [images.annotations(name) for name in "abc"] == [{"x": "1"}, {}, {"x": "2"}]
    assert len({images.get(name).image_id for name in "abc"}) == 1


def test_a_new_image_has_the_annotations_of_the_name_that_was_given(store: LayerStore, images: Images) -> None:
    for name, given in (("aa", {"x": "first"}), ("bb", {}), ("zz", {"x": "last"})):
        config = ImageConfig.scratch()
        config.created = WHEN
        record_image(store, config, None, name=Reference.parse(name), parent=None, annotations=given)
    for name, expected in (("aa", {"x": "first"}), ("bb", {}), ("zz", {"x": "last"})):
        assert images.inspect(name).annotations == expected
        assert images.inspect(images.get(name)).annotations == expected
        images.configure(name, "new", ConfigOptions(env={"A": "b"}, annotations={"y": "1"}))
        assert images.annotations("new") == {**expected, "y": "1"}
        images.configure(images.get(name), "new", ConfigOptions(env={"A": "b"}, annotations={"y": "2"}))
        assert images.annotations("new") == {**expected, "y": "2"}


def test_an_error_leaves_no_annotations(store: LayerStore, images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def attempt(annotations: dict[str, str]) -> None:
        name = Reference.parse("a")
        record_image(store, ImageConfig.scratch(), None, name=name, parent=None, annotations=annotations)

    kept = store.context.kept
    monkeypatch.setattr(ImageDB, "set_names", fail)
    with pytest.raises(OSError, match="No space left"):
        attempt({"x": "1"})
    assert [origin for _, origin in kept.origins()] == []
    monkeypatch.undo()
    attempt({"x": "1"})
    monkeypatch.setattr(ImageDB, "set_names", fail)
    with pytest.raises(OSError, match="No space left"):
        attempt({"x": "2"})
    assert images.annotations("a") == {"x": "1"}


def test_an_image_for_another_platform_of_a_name_is_no_unnamed_one(store: LayerStore, images: Images) -> None:
    """After a power cut the mark may be there again, although the image has long belonged to a name."""
    platforms = [oci_manifest(files := {}, ImageSpec([BASE], extra={"architecture": "amd64"}))]
    platforms.append(oci_manifest(files, ImageSpec([MIDDLE], extra={"architecture": "arm64"})))
    for manifest, architecture in zip(platforms, ("amd64", "arm64"), strict=True):
        manifest["platform"] = {"os": "linux", "architecture": architecture}
    index = oci_index(files, platforms)
    index["annotations"] = {"io.containerd.image.name": "docker.io/library/app:1"}
    files["oci-layout"] = b'{"imageLayoutVersion":"1.0.0"}'
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [index]}).encode()
    loaded = images.load(io.BytesIO(tar_files(files)), all_platforms=True)
    assert len(loaded) == 2
    marks = [store.context.image_db.parent_path(image.image_id).with_name(".tmp-unnamed") for image in loaded]
    for mark in marks:
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.write_bytes(b"")
    assert {item.name for item in collect_garbage(store)} == {str(mark) for mark in marks}
    assert len(store.context.image_db.image_ids()) == 2
    assert len(store.chain_ids()) == 2


def test_what_annotations_say_of_the_base_is_not_inherited(store: LayerStore, images: Images, tmp_path: Path) -> None:
    """`base.name` and `base.digest` say what an image was made from, `created` when: OCI image-spec, annotations.md."""
    base = load(images, BASE, MIDDLE)
    load(images, BASE, name="old")
    load(images, TOP, name="new")
    given = {f"org.opencontainers.image.{key}": "x" for key in ("base.name", "base.digest", "created", "licenses")}
    images.configure(base, "base:1", ConfigOptions(created=WHEN, annotations=given))
    assert images.annotations("base:1") == given  # what a user gives stays
    (tmp_path / "file").write_bytes(b"file")
    at = ConfigOptions(created="2030-01-02T03:04:05Z", user="me")
    with images.create_rw_layer("work", "base:1") as rw:
        makings = (
            lambda: images.append("base:1", [tmp_path / "file"], name="made", config=at),
            lambda: images.commit(rw, "made", config=at),
            lambda: images.configure("base:1", "made", at),
            lambda: images.squash("base:1", name="made", created=at.created),
            lambda: images.rebase("base:1", "old", "new", "made", created=at.created),
        )
        for make in makings:
            make()
            assert images.annotations("made") == {
                "org.opencontainers.image.created": at.created,
                "org.opencontainers.image.licenses": "x",
            }
