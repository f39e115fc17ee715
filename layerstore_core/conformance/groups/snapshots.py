"""Group "snapshots": a child begins with its parent's files, and never changes its parent."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Final

import pytest

from layerstore_core.conformance.base import ConformanceTests
from layerstore_core.conformance.groups.entry_paths import EXPECTED, FOLLOWED
from layerstore_core.conformance.rig import DriverRig, stream_of
from layerstore_core.conformance.tars import MOMENT, directory, file, hard_link, opaque, symlink, tar_of, whiteout
from layerstore_core.conformance.trees import expected_tree, must_be, names_of
from layerstore_core.verify.expected import read_entries

_BASE: Final = [
    directory(b"dir"),
    file(b"dir/file", b"of the base", xattrs={b"user.k": b"v"}),
    file(b"dir/other", b"too"),
    file(b"linked", b"two names"),
    hard_link(b"second-name", b"linked"),
    symlink(b"symlink", b"dir/file"),
    directory(b"empty"),
]
_SAME: Final = b"the same content in several layers" * 20
_ROOT: Final = directory(b".", mode=0o1777, uid=7, gid=8, xattrs={b"user.k": b"of the root"})


def _append(root: Path) -> None:
    with open(root / "dir/file", "ab") as stream:
        stream.write(b" and more")


def _overwrite(root: Path) -> None:
    with open(root / "dir/file", "r+b") as stream:
        stream.write(b"OF")


def _replace_link(root: Path) -> None:
    (root / "symlink").unlink()
    (root / "symlink").symlink_to("elsewhere")


def _map_memory(root: Path) -> None:
    import mmap

    with open(root / "dir/file", "r+b") as stream, mmap.mmap(stream.fileno(), 0) as memory:
        memory[0:2] = b"MM"


_WRITES: Final[dict[str, Callable[[Path], object]]] = {
    "overwrite": _overwrite,
    "append": _append,
    "truncate": lambda root: os.truncate(root / "dir/file", 3),
    "write-through-a-memory-map": _map_memory,
    "change-the-mode": lambda root: (root / "dir/file").chmod(0o600),
    "change-the-mode-of-a-directory": lambda root: (root / "dir").chmod(0o700),
    "change-the-time": lambda root: os.utime(root / "dir/file", ns=(1, 1)),
    "set-an-attribute": lambda root: os.setxattr(root / "dir/file", "user.k", b"changed"),
    "remove-an-attribute": lambda root: os.removexattr(root / "dir/file", "user.k"),
    "delete": lambda root: (root / "dir/file").unlink(),
    "delete-a-directory": lambda root: (root / "empty").rmdir(),
    "rename": lambda root: (root / "dir/file").rename(root / "renamed"),
    "replace-by-renaming": lambda root: (root / "dir/other").rename(root / "dir/file"),
    "create": lambda root: (root / "dir/new").write_bytes(b"new"),
    "write-to-one-of-two-names": lambda root: (root / "second-name").write_bytes(b"changed"),
    "add-a-name": lambda root: os.link(root / "dir/file", root / "third-name"),
    "replace-a-link": _replace_link,
}


class SnapshotTests(ConformanceTests):
    """Tests of parents, children, siblings and chains."""

    group: ClassVar = "snapshots"

    def test_a_new_child_shows_its_parent(self, bench: DriverRig) -> None:
        """A new child shows exactly its parent's tree, including the root's own metadata.

        Otherwise an image is not the sum of its layers.
        """
        parent = bench.layer([_ROOT, *_BASE])
        children = [bench.new_id(), bench.new_id()]
        bench.driver.create(children[0], parent, {})
        bench.driver.create_read_write(children[1], parent, "", {})
        for child in children:
            must_be(bench.tree(child), bench.tree(parent), "a new child of the layer")

    def test_the_metadata_of_the_root(self, bench: DriverRig) -> None:
        """`/` has the metadata of the nearest layer whose tar names it, and this is no change in a writable layer.

        Otherwise `/` of a container is not that of its image, and each commit of an idle container changes it.
        """
        base = bench.layer([_ROOT, *_BASE])
        wanted = bench.tree(base)[b""]
        must_be({b"": wanted}, expected_tree([_ROOT]), "the root of a layer whose tar names it")
        silent = bench.layer([file(b"more", b"m"), whiteout(b"symlink")], base)
        speaking = bench.layer([file(b"most", b"m"), directory(b".", mode=0o711)], silent)
        last = bench.layer([opaque(b""), file(b"alone", b"a")], speaking)
        for layer, root in (silent, wanted), (speaking, bench.tree(speaking)[b""]), (last, bench.tree(speaking)[b""]):
            assert bench.tree(layer)[b""] == root
            box = bench.writable(layer)
            must_be(bench.tree(box), bench.tree(layer), "a new writable layer")
            assert bench.driver.changes(box, layer) == []
        assert (bench.tree(last)[b""].mode, bench.tree(last)[b""].xattrs) == (0o711, {})

    @pytest.mark.parametrize("write", _WRITES)
    def test_writing_does_not_change_the_parent(self, bench: DriverRig, write: str) -> None:
        """Nothing that is done in a writable layer changes its parent, or other children of its parent.

        Otherwise one container changes the image of all others.
        """
        parent = bench.layer(_BASE)
        sibling = bench.writable(parent)
        before, sibling_before = bench.tree(parent), bench.tree(sibling)
        layer = bench.writable(parent)
        with bench.driver.mounted(layer) as path:
            _WRITES[write](Path(path))
        assert bench.tree(layer) != before, "what was written does not show in the writable layer"
        must_be(bench.tree(parent), before, "the parent after a write into its child")
        must_be(bench.tree(sibling), sibling_before, "a sibling after a write into another child")

    def test_a_child_does_not_change_its_parent(self, bench: DriverRig) -> None:
        """A layer that changes, replaces and deletes its parent's files does not change the parent.

        Otherwise pulling one image breaks another that shares its base.
        """
        parent = bench.layer(_BASE)
        before = bench.tree(parent)
        child = bench.layer(
            [
                file(b"dir/file", b"of the child"),
                whiteout(b"dir/other"),
                file(b"second-name", b"one name of two"),
                whiteout(b"symlink"),
                directory(b"empty", mode=0o700),
                file(b"empty/no-more", b"x"),
            ],
            parent,
        )
        must_be(bench.tree(parent), before, "the parent after a child was applied")
        assert names_of(bench.tree(child)) == {
            b"dir",
            b"dir/file",
            b"linked",
            b"second-name",
            b"empty",
            b"empty/no-more",
        }

    def test_siblings_are_independent(self, bench: DriverRig) -> None:
        """Children of one parent show nothing of each other, also while all are mounted.

        Otherwise containers of one image see each other's data.
        """
        parent = bench.layer(_BASE)
        layers = [bench.writable(parent) for _ in range(3)]
        paths = [Path(bench.driver.get(layer)) for layer in layers]
        for number, path in enumerate(paths):
            (path / "dir/file").write_text(str(number))
            (path / f"own-{number}").write_text("x")
        for number, path in enumerate(paths):
            assert (path / "dir/file").read_text() == str(number), "a sibling's write shows"
            assert [one.name for one in path.glob("own-*")] == [f"own-{number}"], "a sibling's file shows"
        for layer in layers:
            bench.driver.put(layer)

    def test_a_chain_of_layers(self, bench: DriverRig) -> None:
        """A file shows as in the nearest layer of a chain that has it, and is gone in the children once deleted.

        Otherwise an updated image shows old files again.
        """
        first = bench.layer([directory(b"d"), file(b"d/a", b"1"), file(b"d/b", b"1"), file(b"d/c", b"1")])
        second = bench.layer([file(b"d/a", b"2"), whiteout(b"d/b")], first)
        third = bench.layer([file(b"d/a", b"3"), whiteout(b"d/c")], second)
        fourth = bench.layer([file(b"d/b", b"4")], third)
        for layer, wanted in (
            (first, {b"d/a": b"1", b"d/b": b"1", b"d/c": b"1"}),
            (second, {b"d/a": b"2", b"d/c": b"1"}),
            (third, {b"d/a": b"3"}),
            (fourth, {b"d/a": b"3", b"d/b": b"4"}),
        ):
            tree = bench.tree(layer)
            assert {path: node.content for path, node in tree.items() if node.kind == "file"} == wanted

    def test_a_hard_link_to_a_file_of_the_parent(self, bench: DriverRig) -> None:
        """A hard-link entry with other metadata changes all names of the file in its layer, but not the parent.

        Otherwise one image changes others that share its base, if a driver's children share their parent's inodes.
        """
        parent = bench.layer([directory(b"d"), file(b"d/file", b"x", mode=0o755, xattrs={b"user.k": b"v"})])
        before = bench.tree(parent)
        links = [
            hard_link(b"first", b"d/file", mode=0o640, mtime_ns=MOMENT + 7, xattrs={b"user.new": b"n"}),
            hard_link(b"second", b"d/file", mode=0o600, mtime_ns=MOMENT + 8),
        ]
        child = bench.layer(links, parent)
        must_be(bench.tree(parent), before, "the parent of a layer that links to its file")
        node = replace(
            before[b"d/file"],
            mode=0o600,
            mtime_ns=MOMENT + 8,
            xattrs={b"user.k": b"v", b"user.new": b"n"},
            names=frozenset({b"d/file", b"first", b"second"}),
        )
        files = {path: found for path, found in bench.tree(child).items() if found.kind == "file"}
        must_be(files, dict.fromkeys(node.names, node), "the files of a layer that links to its parent's")

    def test_the_same_content_in_other_layers(self, bench: DriverRig) -> None:
        """Files of the same content and metadata in several layers are independent of each other.

        Otherwise a driver that keeps such files once lets one image, or one container, change all others. A hard-link
        entry changes the metadata of a file of its own layer, and of no other.
        """
        same = [file(b"one", _SAME, mode=0o755), file(b"two", _SAME, mode=0o755), file(b"empty", mode=0o644)]
        first, sibling = bench.layer(same), bench.layer(same)
        child = bench.layer([file(b"three", _SAME, mode=0o755), file(b"nothing", mode=0o644)], first)
        layers = (first, sibling, child)
        trees = [bench.tree(layer) for layer in layers]
        for tree in trees:
            assert not any(node.names for node in tree.values()), "files of the same content are names of one file"
        links = [
            file(b"four", _SAME, mode=0o755),
            hard_link(b"five", b"four", mode=0o640, mtime_ns=MOMENT + 7, xattrs={b"user.new": b"n"}),
            file(b"none", mode=0o644),
            hard_link(b"none-too", b"none", mode=0o600),
        ]
        linked = bench.layer(links, sibling)
        tree = bench.tree(linked)
        assert (tree[b"four"].mode, tree[b"one"].mode, tree[b"none"].mode, tree[b"empty"].mode) == (
            0o640,
            0o755,
            0o600,
            0o644,
        ), "a hard-link entry has changed the wrong files of its own layer"
        for layer, before in zip(layers, trees, strict=True):
            must_be(bench.tree(layer), before, "a layer, after a hard-link entry of another changed the same content")
        writable = bench.writable(linked)
        bench.apply(writable, linked, [file(b"six", _SAME, mode=0o755)])
        with bench.driver.mounted(writable) as path:
            for name in ("one", "four", "six"):
                with open(os.path.join(path, name), "r+b") as stream:
                    stream.write(b"WRITTEN IN PLACE")
            os.chmod(os.path.join(path, "two"), 0o600)
            os.setxattr(os.path.join(path, "empty"), "user.k", b"v")
        for layer, before in zip((*layers, linked), (*trees, tree), strict=True):
            must_be(bench.tree(layer), before, "a layer, after a write to the same content in another")
        for layer in (child, first, writable):
            bench.driver.remove(layer)
        for layer, before in (sibling, trees[1]), (linked, tree):
            must_be(bench.tree(layer), before, "a layer, after others with the same content were removed")

    @pytest.mark.parametrize("old", EXPECTED)
    def test_the_path_of_an_entry(self, bench: DriverRig, old: str) -> None:
        """In an entry's path, links to directories are followed; a directory replaces other files of a parent.

        Otherwise one driver refuses an image that another accepts, or shows other files: Debian's `/lib` is a link.
        """
        parent = bench.layer(EXPECTED[old][0][1])
        before = bench.tree(parent)
        for new, _, items, names in EXPECTED[old]:
            child = bench.tree(bench.layer(items, parent))
            assert names_of(child) == names, f"the names that a layer with {new} under {old} shows"
            kind = "symbolic link" if old in FOLLOWED else "directory"
            assert child[b"a"].kind == kind, f"{old} is a {child[b'a'].kind}, with {new} under it"
        must_be(bench.tree(parent), before, "the parent")

    def test_removing_a_child(self, bench: DriverRig) -> None:
        """Removing a child does not change its parent or its siblings, even if they are mounted.

        Otherwise deleting one tag of an image breaks the others.
        """
        parent = bench.layer(_BASE)
        before = bench.tree(parent)
        doomed = bench.layer([whiteout(b"dir"), file(b"x", b"x")], parent)
        sibling = bench.writable(parent)
        path = bench.driver.get(sibling)
        bench.driver.remove(doomed)
        assert Path(path, "dir/file").read_bytes() == b"of the base"
        bench.driver.put(sibling)
        must_be(bench.tree(parent), before, "the parent after its child was removed")
        must_be(bench.tree(sibling), before, "a sibling of a removed layer", root=False)

    def test_an_init_layer(self, bench: DriverRig) -> None:
        """A writable layer shows the files of its init layer, and does not count them as its own changes.

        Otherwise every commit of a container includes the engine's own files.
        """
        image = bench.layer(_BASE)
        top = bench.new_id()
        init = bench.writable(image, layer_id=bench.new_id("-init"))
        with bench.driver.mounted(init) as path:
            Path(path, "resolv.conf").write_text("by the engine")
        bench.writable(init, layer_id=top)
        with bench.driver.mounted(top) as path:
            assert Path(path, "resolv.conf").read_text() == "by the engine"
            Path(path, "own").write_text("x")
        assert [str(change) for change in bench.driver.changes(top, init)] == ["A /own"]
        assert b"resolv.conf" not in bench.tree(image)
        bench.driver.remove(top)

    def test_parent_of_and_check_tree(self, bench: DriverRig) -> None:
        """`parent_of` returns the true parent or None, and `check_tree` finds nothing in undamaged layers.

        Otherwise a check reports damage where there is none, or a lost record leaves a writable layer without a parent.
        `parent_of` must not depend on the parent that it is asked for.
        """
        driver = bench.driver
        changed = [
            directory(b"dir"),
            opaque(b"dir"),
            file(b"dir/new", b"new"),
            whiteout(b"linked"),
            file(b"implied/file"),
        ]
        base, other = bench.layer(_BASE), bench.layer([file(b"other")])
        child = bench.layer(changed, base)
        writable = bench.writable(child)
        for layer, parent in (base, ""), (child, base), (writable, child):
            for asked in parent, other, "":
                known = driver.parent_of(layer, asked)
                assert known in (None, parent), (
                    f"parent_of({layer}, {asked!r}) is {known!r}, but the parent is {parent!r}"
                )
        for layer, parent, items in (base, "", _BASE), (child, base, changed):
            entries = list(read_entries(stream_of(tar_of(items))))
            found = driver.check_tree(layer, parent, entries)
            assert not found, f"check_tree finds a difference in an undamaged layer: {found[0]}"
