"""The analysis of an image: its names, its history, its sums; and what `du` counts in another way."""

from __future__ import annotations

from typing import Any

import pytest

from layerstore_core import LayerStore
from layerstore_core.images import Images
from layerstore_core.images.analysis import layer_steps
from layerstore_core.images.formats.documents import ConfigDocument
from layerstore_core.tar.entry import EntryType
from layerstore_core.view.analysis.layers import analyze_layers
from layerstore_core.view.analysis.sizes import directory_sums
from layerstore_core.view.analysis.waste import offenders
from tests import tars
from tests.across.chains import CHAINS, d, f, link, sym
from tests.images.archives import ImageSpec, docker_archive
from tests.store.layers import register

BASE = tars.tar(d(b"a"), f(b"a/1", b"1234"), f(b"a/2", b"1234"), f(b"gone", b"12"))
TOP = tars.tar(f(b"a/1", b"123456"), f(b".wh.gone"), f(b"lib/apk/db/installed", b"P:musl\nV:1\nI:9\n\n"))


def load(images: Images, *specs: ImageSpec, tmp_path: Any) -> None:
    path = tmp_path / "images.tar"
    path.write_bytes(docker_archive(*specs))
    images.load(path)


def test_the_numbers_of_an_image_agree(images: Images, tmp_path: Any) -> None:
    spec = ImageSpec([BASE, TOP], ["app:1", "app:2"])
    load(images, spec, tmp_path=tmp_path)
    found = images.analyze("app:1")
    database = len(b"P:musl\nV:1\nI:9\n\n")
    assert (found.name, str(found.image_id)) == ("app:1", spec.image_id)
    assert (found.tree.written, found.tree.visible) == (10 + 6 + database, 4 + 6 + database)
    assert (found.overwritten, found.deleted, found.duplicated, found.wasted) == (4, 2, 0, 6)
    assert found.sums[id(found.tree.root)].size == found.tree.visible
    assert found.files == sum(1 for _ in images.view("app:1").walk()) - 1
    assert [one.name for one in found.packages] == ["musl"]
    assert [one.created_by for one in found.layers] == ["step 0", "step 1"]
    assert images.analyze(spec.image_id).name in ("app:1", "app:2")


def test_an_image_without_a_name_is_named_by_its_id(images: Images, tmp_path: Any) -> None:
    spec = ImageSpec([BASE])
    load(images, spec, tmp_path=tmp_path)
    found = images.analyze(spec.image_id)
    assert found.name == spec.image_id
    assert (found.duplicated, found.wasted) == (4, 4)


def test_an_image_without_layers_has_nothing(images: Images, tmp_path: Any) -> None:
    load(images, ImageSpec([], ["empty:1"], extra={"history": []}), tmp_path=tmp_path)
    found = images.analyze("empty:1")
    assert (found.layers, found.files, found.wasted, found.tree.efficiency) == ((), 0, 0, 1.0)
    assert (found.packages, found.duplicates) == ((), ())


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        (None, ["", ""]),
        ([], ["", ""]),
        ("text", ["", ""]),
        ([{"created_by": "one"}], ["one", ""]),
        ([{"created_by": "ENV", "empty_layer": True}, {"created_by": "one"}, {"created_by": "two"}], ["one", "two"]),
        ([{"created_by": name} for name in ("one", "two", "three")], ["one", "two"]),
        ([17, {"created_by": 18}, None, {"created_by": "two", "empty_layer": None}], ["", "two"]),
    ],
)
def test_any_history_is_put_to_the_layers(images: Images, store: LayerStore, history: Any, expected: list[str]) -> None:
    first = register(store, BASE, "")
    second = register(store, TOP, first)
    diff_ids = (first.diff_id, second.diff_id)
    document = {"rootfs": {"type": "layers", "diff_ids": list(map(str, diff_ids))}, "history": history}
    with second.view() as view:
        steps = layer_steps(ConfigDocument(b"", document, diff_ids), analyze_layers(view).layers)
    assert [one.created_by for one in steps] == expected
    assert [one.chain_id for one in steps] == [first.chain_id, second.chain_id]


def test_du_counts_the_targets_of_links_and_files_of_one_tar_as_on_disk(store: LayerStore) -> None:
    tar = tars.tar(
        f(b"a", b"1" * 100),
        f(b"a", b"22"),
        sym(b"s", b"target"),
        link(b"b", b"a"),
        tars.sparse_old_gnu(b"sparse", b"x" * 10 + bytes(990), [(0, 10)]),
    )
    layer = register(store, tar, "")
    with layer.view() as view:
        written = analyze_layers(view).written
    assert written == 2 + 1000
    assert layer.diff_size == written + len(b"target")


@pytest.mark.parametrize("name", CHAINS)
def test_the_sums_of_a_difficult_chain_agree_with_du(store: LayerStore, name: str) -> None:
    layer = None
    handles = []
    for entries in CHAINS[name]():
        layer = register(store, tars.tar(*entries), layer or "")
        handles.append(layer)
    assert layer is not None
    with layer.view() as view:
        analysis = analyze_layers(view, keep_trees=True)
        sums = directory_sums(view.root)
        assert sums[id(view.root)].size == analysis.visible
    for number, (one, handle) in enumerate(zip(analysis.layers, handles, strict=True)):
        links = {
            id(change.after): change.after.size
            for change in one.changes
            if change.after is not None and change.after.type is EntryType.SYMLINK and change.after.layer == number
        }
        assert handle.diff_size == one.written + sum(links.values()), number


def test_the_numbers_of_the_example_in_the_reference(images: Images, tmp_path: Any) -> None:
    """`docs/reference/analysis.md` works them out by hand."""
    first = [f(b"app/data", b"d" * 600), f(b"cache/a", b"a" * 300), f(b"cache/b", b"b" * 100), f(b"tool", b"t" * 200)]
    second = [f(b"app/data", b"D" * 800), f(b".wh.cache"), f(b"copy", b"t" * 200)]
    load(images, ImageSpec([tars.tar(*first), tars.tar(*second)], ["a:1"]), tmp_path=tmp_path)
    found = images.analyze("a:1")
    assert (found.tree.written, found.overwritten, found.deleted, found.tree.visible) == (2200, 600, 400, 1200)
    assert (found.duplicated, found.wasted, round(found.tree.efficiency, 4)) == (200, 1200, 0.5455)
    assert [one.path for one in offenders(found.tree.wasted)] == [b"app/data", b"cache/a", b"cache/b"]
