"""Group "sizes": the sizes of layers and of changes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar, Final

import pytest

from layerstore_core.conformance.base import ConformanceTests
from layerstore_core.conformance.rig import DriverRig
from layerstore_core.conformance.tars import Item, directory, file, hard_link, opaque, symlink, whiteout

_BASE: Final = [
    directory(b"d"),
    file(b"d/a", b"x" * 1000),
    file(b"d/b", b"y" * 100),
    file(b"linked", b"z" * 10),
    hard_link(b"twin", b"linked"),
]

#: The entries of layers whose parent is `_BASE`, and the size of each layer in bytes.
_LAYERS: Final[dict[str, tuple[list[Item], int]]] = {
    "nothing": ([], 0),
    "a-file": ([file(b"new", b"n" * 777)], 777),
    "an-empty-file": ([file(b"empty")], 0),
    "a-file-that-replaces": ([file(b"d/a", b"n" * 5)], 5),
    "a-directory": ([directory(b"e"), directory(b"e/f")], 0),
    "a-symbolic-link": ([symlink(b"link", b"target")], 6),
    "a-hard-link": ([file(b"one", b"1" * 50), hard_link(b"two", b"one"), hard_link(b"three", b"one")], 50),
    "whiteouts": ([whiteout(b"d/a"), opaque(b"d")], 0),
    "the-same-name-twice": ([file(b"twice", b"1" * 300), file(b"twice", b"2" * 30)], 30),
    "several": ([file(b"p", b"1" * 100), directory(b"q"), file(b"q/r", b"2" * 200), symlink(b"s", b"q/r")], 303),
}


class SizeTests(ConformanceTests):
    """Tests of the sizes that `apply_diff`, `diff_size` and `usage` return."""

    group: ClassVar = "sizes"

    @pytest.mark.parametrize("kind", _LAYERS)
    def test_the_size_of_a_layer(self, bench: DriverRig, kind: str) -> None:
        """`apply_diff` returns the lengths of the files and link targets in the layer's tar, each inode once.

        Otherwise `ls` and every quota that relies on it show wrong sizes, and Docker sees another layer.
        """
        items, wanted = _LAYERS[kind]
        parent = bench.layer(_BASE)
        layer = bench.new_id()
        bench.driver.create(layer, parent, {})
        assert bench.apply(layer, parent, items) == wanted

    def test_the_size_of_a_base_layer(self, bench: DriverRig) -> None:
        """The size of a base layer counts the content of each of its files once.

        Otherwise the same image has another size with each driver.
        """
        layer = bench.new_id()
        bench.driver.create(layer, "", {})
        assert bench.apply(layer, "", _BASE) == 1110

    def test_a_new_writable_layer_has_no_size(self, bench: DriverRig) -> None:
        """`diff_size` and `usage` of a writable layer in which nothing was written are 0.

        Otherwise a container that did nothing seems to take as much space as its image.
        """
        base = bench.layer(_BASE)
        layer = bench.writable(base)
        assert bench.driver.diff_size(layer, base) == 0
        assert bench.driver.usage(layer, base) == (0, 0)

    def test_the_size_of_changes(self, bench: DriverRig) -> None:
        """`diff_size` counts added and changed files whole, each inode once, and deletions not at all; so does `usage`.

        Otherwise no user sees which container fills the disk.
        """
        base = bench.layer(_BASE)
        layer = bench.writable(base)
        with bench.driver.mounted(layer) as path:
            root = Path(path)
            (root / "new").write_bytes(b"n" * 5000)
            os.link(root / "new", root / "new-twin")
            (root / "d/b").write_bytes(b"y" * 107)
            (root / "d/a").unlink()
            (root / "link").symlink_to("new")
        assert bench.driver.diff_size(layer, base) == 5107
        # new with its twin, d with b, and link
        assert bench.driver.usage(layer, base) == (5107, 4)

    def test_the_size_without_a_parent(self, bench: DriverRig) -> None:
        """`diff_size` without a parent counts all regular files that the tree shows, and `usage` all files.

        Otherwise the size of a squashed image is not known in advance.
        """
        base = bench.layer(_BASE)
        top = bench.layer([file(b"new", b"n" * 5), whiteout(b"d/a")], base)
        assert bench.driver.diff_size(top, "") == 115
        assert bench.driver.usage(top, "") == (115, 4)
