"""Writable layers as images: the base image's config, history and layers, and the changes; or a refusal."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from layerstore_core import (
    ConfigOptions,
    Image,
    ImageConfig,
    ImageDoesNotExist,
    Images,
    InvalidImage,
    InvalidReference,
    LayerStore,
    RWLayerInUse,
)
from layerstore_core.images.make import rw_changes
from layerstore_core.maintenance.check import check_store
from layerstore_core.maintenance.gc import collect_garbage
from layerstore_core.records.imagedb import ImageDB
from tests.conftest import OpenStore
from tests.images.make.images_of import RUN, WHEN, document, load, write
from tests.store.layers import BASE, MIDDLE, TOP, chain, export, tree

AT = ConfigOptions(created=WHEN)


@pytest.fixture(params=["vfs", "overlay2"])
def driver(request: pytest.FixtureRequest) -> str:
    """A driver whose mounted tree is its own directory, and one that mounts."""
    if request.param == "overlay2" and os.geteuid() != 0:
        pytest.skip("overlays are mounted by root")
    name: str = request.param
    return name


def test_a_commit_continues_the_image_that_the_layer_was_created_from(store: LayerStore, images: Images) -> None:
    base = load(images, BASE, MIDDLE, author="them")
    load(images, BASE, MIDDLE, name="other:1", run={"Cmd": ["other"]})
    with images.create_rw_layer("work", "base:1") as rw:
        write(rw, {"etc/new": b"new", "opt/tool": None})
        made = images.commit(rw, "app:1", config=ConfigOptions(created=WHEN, message="hello", author="me"))
    assert made.names == ("app:1",)
    assert made == images.get("app:1")
    assert made.diff_ids[:-1] == base.diff_ids
    assert len(made.diff_ids) == 3
    found, before = document(made), document(base)
    assert found["config"] == RUN
    assert (found["created"], found["author"], found["architecture"]) == (WHEN, "me", "amd64")
    assert found["history"][:-1] == before["history"]
    assert found["history"][-1] == {
        "created": WHEN, "author": "me", "created_by": "layerstore commit", "comment": "hello",
    }  # fmt: skip
    assert store.context.image_db.parent(made.image_id) == base.image_id
    with store.create_rw_layer("look", made.chain_id) as rw, rw.mounted() as root:
        assert Path(root, "etc/new").read_bytes() == b"new"
        assert not Path(root, "opt/tool").exists()
    assert check_store(store, full=True) == []
    assert collect_garbage(store) == []


def test_the_new_layer_is_that_of_rw_commit(store: LayerStore, images: Images) -> None:
    base = load(images, BASE)
    with images.create_rw_layer("work", base) as rw:
        write(rw, {"etc/new": b"new"})
        with rw.tar_stream() as stream:
            expected = stream.read()
        made = images.commit(rw, "app")
        with store.get(made.chain_id or "") as layer:
            assert export(layer) == expected


def test_a_commit_without_changes_makes_no_layer(store: LayerStore, images: Images) -> None:
    base = load(images, BASE)
    before = store.chain_ids()
    with images.create_rw_layer("work", base) as rw:
        made = images.commit(rw, "app", config=AT)
    assert made.diff_ids == base.diff_ids
    assert document(made)["history"][-1] == {"created": WHEN, "created_by": "layerstore commit", "empty_layer": True}
    assert store.chain_ids() == before


def test_a_commit_on_nothing(store: LayerStore, images: Images) -> None:
    with store.create_rw_layer("work") as rw:
        empty = images.commit(rw, "empty", config=AT)
        write(rw, {"new": b"new"})
        made = images.commit(rw, "app", config=AT)
    assert (empty.diff_ids, len(made.diff_ids), made.size) == ((), 1, 3)
    assert [len(document(image)["history"]) for image in (empty, made)] == [1, 1]


def test_a_commit_on_bare_layers(store: LayerStore, images: Images) -> None:
    layers = chain(store, BASE, MIDDLE)
    with store.create_rw_layer("work", layers[-1]) as rw:
        write(rw, {"new": b"new"})
        made = images.commit(rw, "app", config=ConfigOptions(created=WHEN, cmd=["sh"]))
    assert made.diff_ids[:2] == (layers[0].diff_id, layers[1].diff_id)
    found = document(made)
    assert found["config"] == {"Cmd": ["sh"]}
    assert [step.get("created_by") for step in found["history"]] == [
        None, None, "layerstore commit", 'CMD ["sh"]',
    ]  # fmt: skip
    assert [step.layer is not None for step in images.history(made)] == [False, True, True, True]


def test_the_only_image_with_the_parent_on_top_is_the_base(store: LayerStore, images: Images) -> None:
    base = load(images, BASE)
    with store.create_rw_layer("work", base.chain_id) as rw:
        assert rw.image_id is None
        assert document(images.commit(rw, "app"))["config"] == RUN


def test_of_several_images_one_has_to_be_named(store: LayerStore, images: Images) -> None:
    base = load(images, BASE)
    other = load(images, BASE, name="other:1", run={"Cmd": ["other"]})
    above = load(images, BASE, MIDDLE, name="above:1")
    with store.create_rw_layer("work", base.chain_id) as rw:
        with pytest.raises(ImageDoesNotExist, match="say which one") as caught:
            images.commit(rw, "app")
        assert base.image_id in str(caught.value)
        assert other.image_id in str(caught.value)
        assert document(images.commit(rw, "app", base="other:1"))["config"] == {"Cmd": ["other"]}
        with pytest.raises(InvalidImage, match="is not on image"):
            images.commit(rw, "app", base=above)


def test_a_base_that_is_gone_is_no_obstacle(store: LayerStore, images: Images) -> None:
    base = load(images, BASE)
    with images.create_rw_layer("work", base) as rw:
        images.remove("base:1", force=True)
        made = images.commit(rw, "app")
        assert made.diff_ids == base.diff_ids
        assert document(made)["config"] == {}


def test_a_whole_config_can_be_given(store: LayerStore, images: Images) -> None:
    base = load(images, BASE)
    config = ImageConfig.of(base.config)
    config.execution.cmd = ["mine"]
    before = config.to_bytes()
    with images.create_rw_layer("work", base) as rw:
        write(rw, {"new": b"new"})
        made = images.commit(rw, "app", config=config)
        assert document(made)["config"] == {**RUN, "Cmd": ["mine"]}
        assert config.to_bytes() == before, "the caller's config is not changed"
        with pytest.raises(InvalidImage, match="names the layers"):
            images.commit(rw, "app", config=ImageConfig.of(made.config))


def test_a_mounted_layer_can_be_committed_while_nothing_writes(store: LayerStore, images: Images) -> None:
    base = load(images, BASE)
    with images.create_rw_layer("work", base) as rw, rw.mounted() as root:
        Path(root, "new").write_bytes(b"new")
        with open(Path(root, "new"), "rb"):
            assert len(images.commit(rw, "app").diff_ids) == 2
        assert Path(root, "new").read_bytes() == b"new"


WRITES = {
    "append": lambda root: os.truncate(Path(root, "a-file"), 100_001),
    "same-size": lambda root: Path(root, "z-file").write_bytes(b"z" * 100_000),
    "new": lambda root: Path(root, "etc", "another").write_bytes(b""),
    "new-at-root": lambda root: Path(root, "another").write_bytes(b""),
    "delete": lambda root: Path(root, "a-file").unlink(),
    "delete-of-base": lambda root: Path(root, "bin", "sh").unlink(),
    "mode": lambda root: Path(root, "a-file").chmod(0o700),
    "rename": lambda root: Path(root, "a-file").rename(Path(root, "b-file")),
    "time-set-back": lambda root: os.utime(Path(root, "z-file"), (1, 1)),
}


@pytest.mark.parametrize("write_it", WRITES.values(), ids=WRITES)
def test_a_layer_that_is_written_to_meanwhile_is_refused(
    store: LayerStore, images: Images, monkeypatch: pytest.MonkeyPatch, write_it: Any
) -> None:
    """The write comes when the first block has been read: at that time the list of changes exists already."""
    base = load(images, BASE)
    with images.create_rw_layer("work", base) as rw:
        write(rw, {"a-file": b"a" * 100_000, "z-file": b"z" * 100_000})
        before = tree(store.root / "image")
        original = rw_changes.RWChanges.__init__

        def begin(self: Any, rw: Any, root: str, *rest: Any) -> None:
            original(self, rw, root, *rest)
            write_it(root)

        monkeypatch.setattr(rw_changes.RWChanges, "__init__", begin)
        with pytest.raises(RWLayerInUse, match="was changed while it was read, at '/"):
            images.commit(rw, "app")
        monkeypatch.undo()
        assert tree(store.root / "image") == before
        assert len(images.commit(rw, "app").diff_ids) == 2


def test_a_first_write_to_a_layer_without_changes_is_noticed(
    store: LayerStore, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = load(images, BASE)
    with images.create_rw_layer("work", base) as rw:
        original = rw_changes.RWChanges.__init__

        def begin(self: Any, rw: Any, root: str, *rest: Any) -> None:
            original(self, rw, root, *rest)
            Path(root, "new").write_bytes(b"")

        monkeypatch.setattr(rw_changes.RWChanges, "__init__", begin)
        with pytest.raises(RWLayerInUse):
            images.commit(rw, "app")


def test_a_layer_that_is_written_to_all_the_time_is_refused(
    store: LayerStore, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = load(images, BASE)
    original = rw_changes._state
    times = 0

    def busy(rw: Any, root: str) -> Any:
        nonlocal times
        times += 1
        Path(root, "busy").write_bytes(b"%d" % times)
        return original(rw, root)

    monkeypatch.setattr(rw_changes, "_state", busy)
    monkeypatch.setattr(rw_changes, "_TICKS", 20)
    with images.create_rw_layer("work", base) as rw, pytest.raises(RWLayerInUse, match="is written to all the time"):
        images.commit(rw, "app")
    assert times == 20
    assert len(images.all()) == 1


def test_two_commits_at_once(open_store: OpenStore) -> None:
    stores = [open_store(), open_store()]
    load(Images(stores[0]), BASE)
    with Images(stores[0]).create_rw_layer("work", "base:1") as rw:
        write(rw, {"new": b"new"})
    found: list[Any] = [[], []]

    def work(number: int) -> None:
        images = Images(stores[number])
        with stores[number].get_rw_layer("work") as rw:
            for turn in range(3):
                found[number].append(images.commit(rw, f"app:{number}-{turn}", config=AT).image_id)

    threads = [threading.Thread(target=work, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] == found[1]
    assert len({*found[0]}) == 1
    assert len(Images(stores[1]).get(found[0][0]).names) == 6
    assert check_store(stores[0], full=True) == []


@pytest.mark.parametrize("name", ["UPPER", "", "a@sha256:" + "1" * 64, "a b"])
def test_a_bad_name_is_refused_before_anything_is_read(store: LayerStore, images: Images, name: str) -> None:
    with store.create_rw_layer("work") as rw, pytest.raises(InvalidReference):
        images.commit(rw, name)


def test_an_error_at_the_end_leaves_nothing(store: LayerStore, images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    base = load(images, BASE)
    with images.create_rw_layer("work", base) as rw:
        write(rw, {"new": b"new"})
        before = tree(store.root / "image")

        def fail(*_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(ImageDB, "set_names", fail)
        with pytest.raises(OSError, match="No space left"):
            images.commit(rw, "app")
        assert tree(store.root / "image") == before
    assert collect_garbage(store) == []


def looks(store: LayerStore, image: Image) -> dict[str, tuple[Any, ...]]:
    """Return everything that a mount of an image shows, but for times."""
    found: dict[str, tuple[Any, ...]] = {}
    with store.create_rw_layer("look", image.chain_id) as rw:
        with rw.mounted() as root:
            for path in sorted(Path(root).rglob("*")):
                status = path.lstat()
                content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
                attributes = sorted(os.listxattr(path, follow_symlinks=False))
                size = 0 if path.is_dir() else status.st_size
                found[str(path.relative_to(root))] = (
                    status.st_mode, status.st_uid, status.st_gid, size, content, attributes,
                    1 if path.is_dir() else status.st_nlink,
                )  # fmt: skip
        store.release_rw_layer(rw)
    return found


@pytest.mark.needs_root
def test_with_a_time_for_everything_only_times_differ(store: LayerStore, images: Images) -> None:
    base = load(images, BASE, MIDDLE)
    made, plain = [], []
    for number in (0, 1):
        with images.create_rw_layer(f"work{number}", base) as rw:
            write(rw, {"new/a": b"a", "opt/tool": None, "etc/hosts": b"changed"}, mtime=1_600_000_000 + number)
            with rw.mounted() as root:
                shutil.rmtree(Path(root, "opt"))
                Path(root, "opt").mkdir(mode=0o700)
                Path(root, "opt/own").write_bytes(b"own")
                os.chown(Path(root, "new/a"), 12, 34)
                os.setxattr(Path(root, "new/a"), "user.note", b"x")
                Path(root, "new/a").chmod(0o4755)
                os.link(Path(root, "new/a"), Path(root, "new/b"))
                Path(root, "new/link").symlink_to("a")
                os.mkfifo(Path(root, "new/fifo"))
            made.append(images.commit(rw, f"made:{number}", config=AT, mtime=WHEN))
            plain.append(images.commit(rw, f"plain:{number}", config=AT))
    assert made[0].image_id == made[1].image_id
    assert plain[0].image_id != plain[1].image_id
    assert looks(store, made[0]) == looks(store, plain[0])
    with store.create_rw_layer("look", made[0].chain_id) as rw, rw.mounted() as root:
        for name in ("new/a", "new", "new/link", "etc/hosts", "opt/own"):
            assert Path(root, name).lstat().st_mtime_ns == 1_714_979_289 * 10**9, name
    assert check_store(store, full=True) == []


def fill(path: Path) -> None:
    """Write to a file until the disk is full."""
    with open(path, "wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass


@pytest.mark.needs_root
@pytest.mark.parametrize("driver", ["vfs"])
def test_a_full_disk_leaves_nothing(open_store: OpenStore, tmpfs: Any, driver: str) -> None:
    root: Path = tmpfs("size=2m")
    store = open_store(root=root / "store")
    images = Images(store)
    base = load(images, BASE)
    with images.create_rw_layer("work", base) as rw:
        write(rw, {"new": b"n" * 100_000})
        store.context.scratch_directory()
        before = tree(store.root / "image")
        for left in (0, 60_000, 110_000):
            fill(root / "filler")
            os.truncate(root / "filler", (root / "filler").stat().st_size - left)
            with pytest.raises(OSError, match="No space left"):
                images.commit(rw, "app")
            (root / "filler").unlink()
            assert tree(store.root / "image") == before
            assert len(store.driver.layer_ids() or ()) == 2
        assert len(images.commit(rw, "app").diff_ids) == 2
    assert check_store(store, full=True) == []


def test_annotations_are_inherited_and_changed(store: LayerStore, images: Images) -> None:
    base = images.configure(load(images, BASE), "a", ConfigOptions(annotations={"x": "1", "y": "2"}))
    with images.create_rw_layer("work", base) as rw:
        made = images.commit(rw, "b", config=ConfigOptions(annotations={"y": None, "z": "3"}))
    origin = store.context.kept.of_image(made.image_id)
    assert origin is not None
    assert origin.annotations == {"x": "1", "z": "3"}


def test_the_recorded_image_goes_with_the_writable_layer(store: LayerStore, images: Images) -> None:
    base = load(images, BASE)
    images.create_rw_layer("work", base).close()
    rw = images.create_rw_layer("gone", base)
    assert rw.image_id == base.image_id
    records = store.context.rw_images
    assert len(records.recorded()) == 2
    store.release_rw_layer(rw)
    assert records.recorded() == [store.mount_id("work")]
    records.set("1" * 64, base.image_id)  # as after a kill, or when Docker deletes it
    assert [(item.kind, Path(item.name).name) for item in collect_garbage(store, dry_run=True)] == [
        ("unfinished removal", "1" * 64)
    ]
    collect_garbage(store)
    assert records.recorded() == [store.mount_id("work")]


@pytest.mark.parametrize("content", [b"", b"sha256:1", b"\xff" * 10, b"x" * 1000])
def test_a_damaged_record_of_the_image_is_no_obstacle(store: LayerStore, images: Images, content: bytes) -> None:
    base = load(images, BASE)
    with images.create_rw_layer("work", base) as rw:
        store.context.rw_images.path_of(store.mount_id("work")).write_bytes(content)
        assert document(images.commit(rw, "app"))["config"] == RUN


def test_a_writable_layer_is_deleted_if_its_image_cannot_be_recorded(
    store: LayerStore, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = load(images, BASE)

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(type(store.context.rw_images), "set", fail)
    with pytest.raises(OSError, match="No space left"):
        images.create_rw_layer("work", base)
    assert store.rw_layers() == []


def test_a_deep_chain_cannot_grow(open_store: OpenStore) -> None:
    from layerstore_core import MaxDepthExceeded

    store = open_store(max_depth=2)
    images = Images(store)
    base = load(images, BASE, TOP)
    with images.create_rw_layer("work", base) as rw:
        assert images.commit(rw, "same").diff_ids == base.diff_ids
        write(rw, {"new": b"new"})
        with pytest.raises(MaxDepthExceeded):
            images.commit(rw, "app")


def test_a_given_config_keeps_its_time(store: LayerStore, images: Images) -> None:
    base = load(images, BASE)
    config = ImageConfig.of(base.config)
    config.created = WHEN
    with images.create_rw_layer("work", base) as rw:
        write(rw, {"etc/new": b"new"})
        made = images.commit(rw, "app:1", config=config)
        assert (made.created, document(made)["history"][-1]["created"]) == (WHEN, WHEN)
        config.unset("created")
        assert images.commit(rw, "app:2", config=config).created > WHEN
    assert config.created is None
