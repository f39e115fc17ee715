"""Comparing trees: what differs, what is read for it, writable layers, and the layer that is the difference."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from layerstore_core import InvalidLayer, Layer, LayerStore
from layerstore_core.errors import ImageDoesNotExist
from layerstore_core.images import Images
from layerstore_core.images.compare import TreeDiff
from layerstore_core.view.layers import RecordedLayer
from tests import tars
from tests.across.chains import CHAINS
from tests.across.conftest import differences, tree_of
from tests.across.test_same_tree import CHAINS_OF_ENTRIES, Entry
from tests.images.archives import ImageSpec, docker_archive
from tests.store.layers import register
from tests.view.test_mounted_trees import tree_in

needs_root = pytest.mark.needs_root
T = 1_600_000_000


def d(name: bytes, **options: Any) -> bytes:
    return tars.directory(name, **{"mtime": T, **options})


def f(name: bytes, data: bytes = b"", **options: Any) -> bytes:
    return tars.entry(name, data, **{"mtime": T, **options})


def load(images: Images, *layers: list[bytes], name: str) -> None:
    images.load(io.BytesIO(docker_archive(ImageSpec([tars.tar(*entries) for entries in layers], [name]))))


def lines(diff: TreeDiff) -> list[str]:
    return [" ".join((one.kind.value, os.fsdecode(one.path), *one.what)) for one in diff.changes]


BASE = [d(b"etc"), f(b"etc/a", b"one"), f(b"etc/b", b"two"), d(b"gone"), f(b"gone/x", b"123"), f(b"same", b"same")]


def test_every_kind_of_difference_is_reported(images: Images) -> None:
    second = [
        f(b"etc/a", b"ONE"), f(b"etc/b", b"two", mode=0o600, uid=5, mtime=T + 1), f(b".wh.gone"),
        d(b"new"), f(b"new/file", b"12345"), f(b"sized", b"12"),
        tars.hard_link(b"linked", b"same", mtime=T),
    ]  # fmt: skip
    base = [*BASE, f(b"sized", b"1"), f(b"typed"), f(b"linked", b"same"), tars.symlink(b"link", b"a", mtime=T)]
    load(images, base, name="a")
    load(images, base, [*second, d(b"typed"), tars.symlink(b"link", b"b", mtime=T)], name="b")
    found = images.diff("a", "b")
    assert lines(found) == [
        "C etc/a content",
        "C etc/b mode owner mtime",
        "D gone",
        "C link target",
        "A new",
        "A new/file",
        "C same links",
        "C sized size content",
        "C typed type",
    ]
    stat = found.stat
    assert (stat.added, stat.changed, stat.deleted) == (2, 6, 2)
    assert (stat.added_bytes, stat.deleted_bytes) == (3 + 5 + 2, 3 + 3 + 1)
    assert found
    assert not images.diff("a", "a")


def test_attributes_and_devices_differ(images: Images) -> None:
    plain = [f(b"x"), tars.entry(b"n", typeflag=b"3", device=(1, 3), mtime=T)]
    other = [
        tars.pax([(b"SCHILY.xattr.user.a", b"b")]) + f(b"x"),
        tars.entry(b"n", typeflag=b"3", device=(1, 5), mtime=T),
    ]
    load(images, plain, name="a")
    load(images, other, name="b")
    assert lines(images.diff("a", "b")) == ["C n device", "C x xattrs"]


def test_links_differ_only_among_names_that_both_trees_have(images: Images) -> None:
    load(images, [f(b"a", b"x"), tars.hard_link(b"b", b"a", mtime=T), tars.hard_link(b"c", b"a", mtime=T)], name="a")
    load(images, [f(b"b", b"x"), tars.hard_link(b"c", b"b", mtime=T), tars.hard_link(b"d", b"b", mtime=T)], name="b")
    assert lines(images.diff("a", "b")) == ["D a", "A d"]


def test_depth_and_ignored_aspects(images: Images) -> None:
    load(images, BASE, name="a")
    load(images, BASE, [f(b"etc/a", b"ONE"), f(b"etc/b", b"two", mtime=T + 1), f(b"new")], name="b")
    assert lines(images.diff("a", "b", by="names")) == ["A new"]
    assert lines(images.diff("a", "b", by="metadata")) == ["C etc/b mtime", "A new"]
    assert lines(images.diff("a", "b", ignore=["mtime", "content"])) == ["A new"]
    with pytest.raises(ValueError, match="not by 'all'"):
        images.diff("a", "b", by="all")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown cannot be ignored"):
        images.diff("a", "b", ignore=["unknown"])
    with pytest.raises(ImageDoesNotExist):
        images.diff("a", "missing")
    with pytest.raises(TypeError, match="a tree is that of"):
        images.diff("a", 5)  # type: ignore[arg-type]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The names of files whose content is read."""
    names: list[bytes] = []
    real = RecordedLayer.payload

    def payload(self: RecordedLayer, file: Any) -> Iterator[bytes]:
        names.append(file.name)
        return real(self, file)

    monkeypatch.setattr(RecordedLayer, "payload", payload)
    return names


def test_only_content_that_nothing_else_decides_is_read(images: Images, read: list[bytes]) -> None:
    load(images, BASE, name="a")
    load(images, BASE, [f(b"etc/a", b"one"), f(b"etc/b", b"TWO"), f(b"same", b"longer")], name="b")
    # `etc/a` has the checksum that it had, which proves nothing; the others have another checksum or size.
    assert lines(images.diff("a", "b")) == ["C etc/b content", "C same size content"]
    assert set(read) == {b"etc/a"}
    read.clear()
    # The same layer at another place in the chain.
    load(images, [f(b"first")], BASE, name="c")
    assert lines(images.diff("a", "c")) == ["A first"]
    assert read == []


def test_a_writable_layer_is_compared_as_it_is_now(store: LayerStore, images: Images) -> None:
    load(images, BASE, name="a")
    with store.create_rw_layer("work", images.get("a").chain_id) as rw:
        assert lines(images.diff("a", rw)) == []
        with rw.mounted() as path:
            Path(path, "etc", "a").write_bytes(b"changed")
            Path(path, "new").write_bytes(b"n" * 100_000)
            Path(path, "same").unlink()
            assert lines(images.diff("a", rw, ignore=["mtime"])) == ["C etc/a size content", "A new", "D same"]
        images.write_diff("a", rw, tar := io.BytesIO())
        tar.seek(0)
        with store.register(tar, images.get("a").chain_id) as made:
            assert lines(images.diff(made, rw)) == []


def test_a_full_disk_is_named_with_what_was_to_be_written(
    store: LayerStore, images: Images, no_room: Callable[[], AbstractContextManager[None]]
) -> None:
    load(images, BASE, name="a")
    rw = images.create_rw_layer("work", "a")
    with no_room(), pytest.raises(OSError, match="too large") as raised:
        images.diff("a", rw)
    assert raised.value.filename == f"{store.context.scratch_directory()} (a temporary file there)"
    assert "while copying the changes of writable layer 'work'" in raised.value.__notes__


def test_an_error_of_making_the_temporary_file_names_its_directory(
    store: LayerStore, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(images, BASE, name="a")
    rw = images.create_rw_layer("work", "a")
    directory = store.context.scratch_directory()
    monkeypatch.setattr(type(store.context), "scratch_directory", lambda _: directory / "missing")
    with pytest.raises(FileNotFoundError) as raised:
        images.diff("a", rw)
    assert raised.value.filename == f"{directory / 'missing'} (a temporary file there)"


def test_layers_and_images_without_layers_are_compared(store: LayerStore, images: Images) -> None:
    load(images, name="none")
    load(images, [f(b"x")], name="a")
    with store.get(images.get("a").chain_ids[0]) as layer:
        assert lines(images.diff("none", layer)) == ["A x"]
        assert lines(images.diff(layer, "none")) == ["D x"]
        assert not images.diff(layer, "a")


def test_the_difference_is_the_same_bytes_each_time_and_appears_whole(images: Images, tmp_path: Path) -> None:
    load(images, BASE, name="a")
    load(images, BASE, [f(b".wh.gone"), f(b"etc/c", b"c")], name="b")
    images.write_diff("a", "b", tmp_path / "one.tar")
    images.write_diff("a", "b", tmp_path / "two.tar")
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    with tarfile.open(tmp_path / "one.tar") as tar:
        assert tar.getnames() == [".wh.gone", "etc", "etc/c"]


class Pairs:
    """A store, and the difference of two chains applied to the first one."""

    def __init__(self, store: LayerStore) -> None:
        self.store = store
        self.images = Images(store)

    def chain(self, entries: list[list[bytes]]) -> Layer | None:
        layer: Layer | None = None
        for one in entries:
            try:
                new = register(self.store, tars.tar(*one), layer or "")
            except InvalidLayer:
                continue
            layer = new
        return layer

    def check(self, before: Layer, after: Layer) -> None:
        self.images.write_diff(before, after, tar := io.BytesIO())
        tar.seek(0)
        with self.store.register(tar, before) as made:
            with after.view() as view:
                expected = tree_in(view)
            with self.store.context.driver.mounted(made.cache_id) as path:
                found = tree_of(Path(path))
            for name, file in expected.items():
                if file[3] == "recent" and name in found:  # a directory that no layer describes
                    found[name] = (*found[name][:3], "recent", *found[name][4:])
            assert differences(expected, found) == []
            assert lines(self.images.diff(made, after)) == []
            changed = {change.path for change in self.images.diff(before, after).changes}
            assert bool(changed) == (not _same(before, after, self.store))


def _same(one: Layer, other: Layer, store: LayerStore) -> bool:
    with one.view() as first, other.view() as second:
        left, right = tree_in(first), tree_in(second)
    for name in left.keys() & right.keys():
        if "recent" in (left[name][3], right[name][3]) or not name:
            # The metadata of a directory that no layer describes is not known, nor is the time of the root.
            left[name] = right[name] = (left[name][0] & 0o170000, *left[name][1:]) if name else right[name]
    return left == right


@pytest.fixture
def pairs(mounting_store: LayerStore) -> Pairs:
    return Pairs(mounting_store)


@needs_root
@pytest.mark.parametrize("name", CHAINS)
def test_the_difference_of_the_layers_of_a_chain_makes_one_of_the_other(pairs: Pairs, name: str) -> None:
    entries = CHAINS[name]()
    base, top = pairs.chain(entries[:1]), pairs.chain(entries)
    assert base is not None
    assert top is not None
    pairs.check(base, top)
    pairs.check(top, base)


@needs_root
@settings(
    max_examples=max(1, settings.default.max_examples // 4),  # for each driver
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(one=CHAINS_OF_ENTRIES, other=CHAINS_OF_ENTRIES)
def test_the_difference_of_any_two_chains_makes_one_of_the_other(
    pairs: Pairs, one: list[list[Entry]], other: list[list[Entry]]
) -> None:
    before, after = (pairs.chain([[entry.tar() for entry in layer] for layer in chain]) for chain in (one, other))
    if before is not None and after is not None:
        pairs.check(before, after)
