"""An explored image: its layers, marks, contents, origins and copies, and what plain text says."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from layerstore_core import Images, LayerStore
from layerstore_core.explore.comparison import LayerComparison, compare_images
from layerstore_core.explore.file_tree import FileTree
from layerstore_core.explore.filters import FileFilter, parse_filter
from layerstore_core.explore.image import Closed, ExploredImage, Scope, open_image
from layerstore_core.explore.lines import plain
from layerstore_core.explore.marks import Mark
from layerstore_core.explore.origins import node_at, origin_lines, origins_of
from layerstore_core.explore.plain import files_of, image_document, image_text
from layerstore_core.view.copy_out import Copied, copy_to_host
from layerstore_core.view.tree import TreeView


def marks(image: ExploredImage, layer: int, scope: Scope) -> dict[str, str]:
    tree = FileTree(image.tree(layer), image.marks(layer, scope), only_marked=True)
    return {file.path.decode(): file.mark.value for file in tree.walk() if file.mark is not Mark.SAME}


def test_a_layer_has_its_own_marks(image: ExploredImage) -> None:
    assert marks(image, 1, Scope.LAYER) == {
        "etc/motd": "changed",
        "usr/lib/moved.so": "moved",
        "usr/lib/two.so": "deleted",
        "var/cache": "deleted",
        "var/cache/big": "deleted",
        "var/cache/small": "deleted",
    }
    assert set(marks(image, 0, Scope.WHOLE).values()) == {"added"}


def test_marks_since_the_base_are_those_of_all_other_layers(image: ExploredImage) -> None:
    found = marks(image, 2, Scope.SINCE_BASE)
    assert {path for path, mark in found.items() if mark == "deleted"} == {
        "usr/lib/two.so", "var/cache", "var/cache/big", "var/cache/small",
    }  # fmt: skip
    assert found["etc/motd"] == "changed" and found["etc/copy"] == "added"
    assert marks(image, 0, Scope.SINCE_BASE) == {}


def test_a_path_comes_from_the_layers_that_touched_it(image: ExploredImage) -> None:
    assert [(one.layer, one.mark) for one in origins_of(image, b"etc/motd")] == [(1, Mark.CHANGED), (0, Mark.ADDED)]
    assert [(one.layer, one.mark) for one in origins_of(image, b"var/cache/big")] == [
        (1, Mark.DELETED),
        (0, Mark.ADDED),
    ]
    assert origins_of(image, b"nothing") == ()
    lines = [plain(line) for line in origin_lines(image, b"etc/motd")]
    assert lines[0] == "/etc/motd"
    assert "changed by layer 1, 450 B" in lines and "  step 1" in lines
    assert plain(origin_lines(image, b"nothing")[2]) == "No layer has an entry for it."


def test_closing_waits_for_a_copy(store: LayerStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow_copy(view: TreeView, path: bytes, target: str) -> Copied:
        begun.set()
        assert go_on.wait(30)
        return copy_to_host(view, path, target)

    monkeypatch.setattr("layerstore_core.explore.image.copy_to_host", slow_copy)
    image = open_image(store, "app:1")
    copying = threading.Thread(target=image.export, args=(0, b"etc/hosts", str(tmp_path / "copy")))
    copying.start()
    assert begun.wait(30)
    closing = threading.Thread(target=image.close)
    closing.start()
    closing.join(0.2)
    assert closing.is_alive()
    go_on.set()
    closing.join(30)
    assert not closing.is_alive()
    assert (tmp_path / "copy").read_bytes() == b"127.0.0.1 localhost\n"
    copying.join()


def test_the_content_of_each_layer_can_be_read(image: ExploredImage) -> None:
    for layer, content in ((0, b"hello\n" * 100), (1, b"good bye\n" * 50)):
        node = node_at(image.tree(layer), b"etc/motd")
        assert node is not None
        with image.open_file(node, b"etc/motd") as file:
            assert file.read() == content


def test_files_of_each_layer_are_exported(image: ExploredImage, tmp_path: Path) -> None:
    image.export(0, b"etc/motd", str(tmp_path / "motd"))
    assert (tmp_path / "motd").read_bytes() == b"hello\n" * 100
    copied = image.export(0, b"var/cache", str(tmp_path / "cache"))
    assert (copied.files, copied.bytes) == (3, 3001)
    with pytest.raises(FileNotFoundError):
        image.export(1, b"var/cache", str(tmp_path / "again"))


def test_a_layer_is_explored_by_its_chain_id(store: LayerStore, image: ExploredImage) -> None:
    with ExploredImage(store, image.layers[1].chain_id) as layers:
        assert [one.chain_id for one in layers.layers] == [one.chain_id for one in image.layers[:2]]
        assert marks(layers, 1, Scope.LAYER) == marks(image, 1, Scope.LAYER)
        assert layers.config is None
        assert list(image_text(layers, None, Scope.WHOLE, FileFilter()))


def test_a_search_for_duplicates_ends_when_the_image_is_closed(store: LayerStore) -> None:
    image = open_image(store, "app:2")
    assert [one.paths for one in image.duplicates()] == [(b"etc/copy", b"etc/hosts")]
    image.close()
    image.close()
    for search in (image.duplicates, image.packages):
        with pytest.raises(Closed):
            search()


def test_contents_may_be_read_by_several_threads(image: ExploredImage) -> None:
    read: list[bytes] = []

    def work() -> None:
        for layer in (0, 1) * 5:
            node = node_at(image.tree(layer), b"etc/motd")
            assert node is not None
            with image.open_file(node, b"etc/motd") as file:
                read.append(file.read())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    image.duplicates()
    for thread in threads:
        thread.join()
    assert sorted(set(read)) == [b"good bye\n" * 50, b"hello\n" * 100]
    assert len(read) == 40


def test_two_layers_are_compared(image: ExploredImage, tmp_path: Path) -> None:
    comparison = LayerComparison(image, 0, 2)
    assert {path.decode(errors="replace"): one.mark.value for path, one in comparison.marks.paths.items()}.items() >= {
        ("etc/motd", "changed"), ("var/cache", "deleted"), ("etc/copy", "added"),
    }  # fmt: skip
    comparison.export(b"var/cache/big", Mark.DELETED, str(tmp_path / "big"))
    comparison.export(b"etc/motd", Mark.CHANGED, str(tmp_path / "motd"))
    assert (tmp_path / "big").read_bytes() == b"b" * 3000
    assert (tmp_path / "motd").read_bytes() == b"good bye\n" * 50


def test_two_images_are_compared(store: LayerStore, image: ExploredImage, tmp_path: Path) -> None:
    comparison = compare_images(store, image, Images(store).get("app:1"), "app:1")
    try:
        assert {one.mark for one in comparison.marks.paths.values()} == {Mark.DELETED}
        assert b"etc/copy" in comparison.marks.paths
        comparison.export(b"etc/copy", Mark.DELETED, str(tmp_path / "copy"))
        assert (tmp_path / "copy").read_bytes() == b"127.0.0.1 localhost\n"
    finally:
        comparison.close()
        comparison.close()


def test_plain_text_has_all_facts_and_no_control_characters(image: ExploredImage) -> None:
    text = list(image_text(image, None, Scope.WHOLE, FileFilter()))
    assert all(line.isprintable() for line in text)
    for said in ("app:2", "Efficiency", "Layer 1: 950 B", "/var/cache/", "/etc/copy", "step 1", '"Cmd"'):
        assert any(said in line for line in text), said
    files = list(image_text(image, 2, Scope.LAYER, FileFilter()))
    assert "added file /etc/copy, 20 B, mode 0644, owner 0:0" in files
    assert any(r"/etc/a\x1b[31mred\r\nb" in line for line in files)
    assert all(line.isprintable() for line in files)


def test_plain_files_are_filtered(image: ExploredImage) -> None:
    found = [file.path for file in files_of(image, 2, Scope.WHOLE, parse_filter("*.so"))]
    assert found == [b"usr/lib/moved.so", b"usr/lib/one.so"]
    document = image_document(image, 1, Scope.LAYER, parse_filter(":deleted"))
    assert [one["path"] for one in document["files"]] == [
        "/usr/lib/two.so", "/var/cache", "/var/cache/big", "/var/cache/small",
    ]  # fmt: skip
    assert document["layers"][1]["deleted"] == 2
    assert document["wasted"] == 3000 + 1 + 600 + 500
