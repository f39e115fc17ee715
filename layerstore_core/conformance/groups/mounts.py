"""Group "mounts": an engine mounts layers by itself, writes in them, and makes them parents of other layers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar, Final

import pytest

from layerstore_core.conformance.base import ConformanceTests
from layerstore_core.conformance.groups.engine import CannotMount, mounted_by_engine
from layerstore_core.conformance.rig import DriverRig, stream_of
from layerstore_core.conformance.tars import directory, file, hard_link, opaque, symlink, whiteout
from layerstore_core.conformance.trees import must_be, names_of, read_tree
from layerstore_core.driver.mount_spec import MountSpec
from layerstore_core.verify.expected import read_entries

_BASE: Final = [
    directory(b".", mode=0o711),
    directory(b"dir", mode=0o750),
    file(b"dir/file", b"of the base", xattrs={b"user.k": b"v"}),
    file(b"dir/other", b"too"),
    directory(b"replaced"),
    file(b"replaced/old", b"old"),
    file(b"linked", b"two names"),
    hard_link(b"second-name", b"linked"),
    symlink(b"symlink", b"dir/file"),
]
_MIDDLE: Final = [whiteout(b"dir/other"), directory(b"replaced"), opaque(b"replaced"), file(b"replaced/new", b"new")]
_OPAQUE: Final = [opaque(b""), file(b"alone", b"a")]
#: As many layers as containerd's own tests mount.
_DEEP: Final = 128


class MountTests(ConformanceTests):
    """Tests of `mounts` and `seal`, which drivers may leave to the fallback."""

    group: ClassVar = "mounts"

    def test_a_layer_that_an_engine_mounts(self, bench: DriverRig) -> None:
        """What an engine mounts as `mounts` tells shows exactly the tree of `get`, read-only if that was asked for.

        Otherwise a container does not see its image, or changes the image of all others.
        """
        layers = [bench.layer(_BASE)]
        for items in (_MIDDLE, [], _OPAQUE, [file(b"last", b"l")]):
            layers.append(bench.layer(items, layers[-1]))
        for layer in layers:
            wanted = bench.tree(layer)
            with _mounted(bench, layer, read_only=True) as path:
                must_be(read_tree(str(path)), wanted, "a layer that an engine has mounted read-only")
                _must_be_read_only(bench, path)
            child = bench.writable(layer)
            with _mounted(bench, child) as path:
                must_be(read_tree(str(path)), wanted, "a new writable layer that an engine has mounted")

    def test_what_an_engine_writes(self, bench: DriverRig) -> None:
        """What is written through an engine's mount is in the layer, and in no other, also after a restart.

        Otherwise containers lose their data, or damage their image.
        """
        base = bench.layer(_BASE)
        top = bench.layer(_MIDDLE, base)
        for parent in ("", base, top):
            before = bench.tree(parent) if parent else {}
            layer = bench.writable(parent)
            with _mounted(bench, layer) as path:
                _write(path)
                wanted = read_tree(str(path))
            must_be(bench.tree(layer), wanted, "a layer in which an engine has written")
            bench.reopen()
            must_be(bench.tree(layer), wanted, "the same layer after a restart")
            must_be(
                bench.tree(bench.layer(bench.diff(layer, parent), parent)), wanted, "a layer of its diff", root=False
            )
            if parent:
                must_be(bench.tree(parent), before, "the parent of a layer in which an engine has written")

    def test_mounts_has_one_answer(self, bench: DriverRig) -> None:
        """`mounts` returns a list of `MountSpec`, and always the same for one layer, also after a restart.

        Otherwise an engine that has crashed cannot find the files of its containers again.
        """
        base = bench.layer(_BASE)
        layer = bench.writable(bench.layer(_MIDDLE, base))
        asked = [(base, True), (layer, False)]
        first = [bench.driver.mounts(one, read_only=read_only) for one, read_only in asked]
        for mounts in first:
            assert all(isinstance(mount, MountSpec) for mount in mounts), f"mounts returned {mounts!r}"
            for mount in mounts:
                wanted = os.path.isabs(mount.source) and os.path.isdir(mount.source)
                assert mount.type != "bind" or wanted, f"the source of a bind mount is {mount.source!r}"
        assert [bench.driver.mounts(one, read_only=read_only) for one, read_only in asked] == first
        bench.reopen()
        assert [bench.driver.mounts(one, read_only=read_only) for one, read_only in asked] == first

    def test_mounts_mounts_nothing(self, bench: DriverRig) -> None:
        """`mounts` mounts nothing and opens nothing; without the hook, `end_kept_mount` or `remove` ends all.

        Otherwise each container leaves a mount that only an administrator finds.
        """
        base = bench.layer(_BASE)
        layers = [base, bench.writable(base), bench.writable(base)]
        for layer in layers:
            bench.driver.mounts(layer, read_only=layer == base)
            assert not bench.driver.gives_mounts or not bench.mounts(), f"mounts has mounted {bench.mounts()}"
            assert not bench.open_files(), f"after mounts there is still open: {bench.open_files()}"
        if not bench.driver.gives_mounts:
            bench.note("the driver has no mounts: layers that an engine uses stay mounted by get")
        bench.driver.end_kept_mount(layers[0])
        bench.driver.end_kept_mount(layers[1])
        bench.driver.remove(layers[2])
        assert not bench.mounts(), f"still mounted: {bench.mounts()}"

    def test_unknown_layers(self, bench: DriverRig) -> None:
        """For an unknown ID, `mounts` and `seal` raise FileNotFoundError, and no layer appears.

        Otherwise an engine starts a container with an empty tree.
        """
        for unknown in ("e" * 64, "../escape"):
            with pytest.raises(FileNotFoundError):
                bench.driver.mounts(unknown, read_only=False)
            with pytest.raises(FileNotFoundError):
                bench.driver.mounts(unknown, read_only=True)
            if bench.implements("seal"):
                with pytest.raises(FileNotFoundError):
                    bench.driver.seal(unknown)
            assert not bench.driver.exists(unknown)
        assert bench.layer_ids() in (None, set())

    def test_a_look_at_a_layer_in_use(self, bench: DriverRig) -> None:
        """While an engine has a layer mounted, `get`, `changes`, `diff` and sizes show it, and do not disturb it.

        Otherwise a look at a running container, as `docker diff` takes it, breaks the container.
        """
        base = bench.layer(_BASE)
        layer = bench.writable(base)
        with _mounted(bench, layer) as path:
            Path(path, "first").write_text("1")
            with open(path / "open", "w", encoding="ascii") as stream:
                stream.write("begun ")
                stream.flush()
                assert b"first" in names_of(bench.tree(layer))
                assert "A /first" in [str(change) for change in bench.driver.changes(layer, base)]
                assert bench.driver.diff_size(layer, base) == len("1" + "begun ")
                assert bench.driver.usage(layer, base) == (len("1" + "begun "), 2)
                assert b"first" in bench.diff(layer, base)
                stream.write("and finished")
            Path(path, "dir/file").unlink()
            Path(path, "linked").write_text("changed")
            wanted = read_tree(str(path))
        must_be(bench.tree(layer), wanted, "a layer that was looked at while an engine had it mounted")

    def test_a_sealed_layer(self, bench: DriverRig) -> None:
        """A layer that `seal` has sealed shows the same tree, passes all checks, and can have children.

        Otherwise an image that an engine has unpacked lacks files, or counts as damaged.
        """
        base = bench.layer(_BASE)
        layer = bench.writable(base)
        with _mounted(bench, layer) as path:
            _write(path)
        before, changes, diff = bench.tree(layer), bench.driver.changes(layer, base), bench.diff(layer, base)
        known = bench.driver.parent_of(layer, base)
        if not _sealed(bench, layer):
            must_be(bench.tree(layer), before, "a layer that the driver does not seal")
            return
        for moment in ("after seal", "after a second seal", "after a restart"):
            must_be(bench.tree(layer), before, f"the layer {moment}")
            assert bench.driver.changes(layer, base) == changes, moment
            assert bench.diff(layer, base) == diff, moment
            assert bench.driver.check_layer(layer, base) == [], moment
            assert bench.driver.check_tree(layer, base, list(read_entries(stream_of(diff)))) == [], moment
            assert bench.driver.parent_of(layer, base) == known, moment
            assert bench.driver.repair_layer(layer, base, proved=True) == [], moment
            with _mounted(bench, layer, read_only=True) as path:
                must_be(read_tree(str(path)), before, f"the layer that an engine has mounted {moment}")
                _must_be_read_only(bench, path)
            if moment == "after seal":
                assert bench.driver.seal(layer) is True, "a second seal does not answer True"
            else:
                bench.reopen()
        child = bench.writable(layer)
        with _mounted(bench, child) as path:
            must_be(read_tree(str(path)), before, "a new child of a sealed layer")
            _write(path, "child")
        must_be(bench.tree(layer), before, "a sealed layer after a write into its child")
        registered = bench.layer([file(b"more", b"m"), whiteout(b"written")], layer)
        assert b"written" not in bench.tree(registered)
        for one in (registered, child, layer):
            bench.driver.remove(one)
            assert not bench.driver.exists(one)
        assert bench.driver.exists(base)

    def test_a_chain_of_sealed_layers(self, bench: DriverRig) -> None:
        """A chain of layers that were written and sealed shows the same as a chain that their tars have made.

        Otherwise an image depends on who has unpacked it.
        """
        base = bench.writable()
        with _mounted(bench, base) as path:
            _fill(path)
        sealed, copies = [base], [bench.layer(bench.diff(base, ""))]
        if not _sealed(bench, base):
            return
        for number in range(3):
            layer = bench.writable(sealed[-1])
            with _mounted(bench, layer) as path:
                _write(path, str(number))
            wanted = bench.tree(layer)
            assert bench.driver.seal(layer)
            copies.append(bench.layer(bench.diff(layer, sealed[-1]), copies[-1]))
            sealed.append(layer)
            must_be(bench.tree(layer), wanted, f"layer {number} of a chain after seal")
            must_be(bench.tree(copies[-1]), wanted, f"a copy of layer {number} of a chain", root=False)

    def test_a_deep_chain_that_an_engine_mounts(self, bench: DriverRig) -> None:
        """A chain of 128 layers, or of `max_depth` if that is less, can be mounted by an engine.

        Otherwise large images can be pulled, but not started. The options of a mount must fit into a page of memory.
        """
        depth = min(bench.driver.capabilities.max_depth or _DEEP, _DEEP)
        layer = ""
        for number in range(depth):
            layer = bench.layer([file(b"top", b"%d" % number), file(b"own-%d" % (number % 7), b"x")], layer)
        writable = bench.writable(layer)
        with _mounted(bench, layer, read_only=True) as path:
            assert (path / "top").read_text() == str(depth - 1)
            assert len(os.listdir(path)) == 1 + min(7, depth)
        with _mounted(bench, writable) as path:
            assert (path / "top").read_text() == str(depth - 1)
            (path / "written").write_text("by an engine")
        assert [str(one) for one in bench.driver.changes(writable, layer)] == ["A /written"]

    def test_removing_a_layer_that_was_given(self, bench: DriverRig) -> None:
        """A layer that an engine has mounted and unmounted can be removed, and its ID used again.

        Otherwise deleted containers still take their space.
        """
        base = bench.layer(_BASE)
        layer = bench.writable(base)
        with _mounted(bench, layer) as path:
            _write(path)
        bench.driver.remove(layer)
        assert not bench.driver.exists(layer)
        assert not bench.mounts(), f"still mounted: {bench.mounts()}"
        bench.writable(base, layer_id=layer)
        must_be(bench.tree(layer), bench.tree(base), "a new layer of an ID that was removed")
        with bench.driver.mounted(layer) as where:
            Path(where, "written").write_text("through get")

    def test_a_volume_in_a_layer_that_is_removed(self, bench: DriverRig) -> None:
        """`remove` deletes nothing of what is mounted in the layer's tree: it unmounts that, or raises OSError.

        Otherwise the removal of a container deletes the volumes that it had. `remove_tree` raises the error.
        """
        volume = bench.root / "layerstore" / "volume"
        (volume / "directory").mkdir(parents=True)
        (volume / "directory/precious").write_text("kept")
        layer = bench.writable(bench.layer(_BASE))
        with ExitStack() as stack:
            path = Path(bench.driver.get(layer))
            (path / "data").mkdir()
            try:
                stack.enter_context(mounted_by_engine([MountSpec.bind(str(volume), read_only=False)], path / "data"))
            except CannotMount:
                bench.not_tried("this user may not mount, and so no volume was in the layer")
            bench.driver.put(layer)
            with suppress(OSError):
                bench.driver.remove(layer)
            assert (volume / "directory/precious").read_text() == "kept"
        bench.driver.remove(layer)
        assert not bench.driver.exists(layer)


@contextmanager
def _mounted(bench: DriverRig, layer: str, *, read_only: bool = False) -> Iterator[Path]:
    """Mount a layer as an engine does. A user who may not mount uses the source of a bind mount as it is."""
    mounts = bench.driver.mounts(layer, read_only=read_only)
    target = _target(bench)
    target.mkdir(parents=True, exist_ok=True)
    try:
        mounted = mounted_by_engine(mounts, target)
        path = mounted.__enter__()
    except CannotMount as error:
        if [mount.type for mount in mounts] != ["bind"]:
            pytest.skip(f"this user may not mount: {error}")
        bench.not_tried("this user may not mount, and so the directory was used without an engine's mount")
        yield Path(mounts[0].source)
    else:
        try:
            yield path
        finally:
            mounted.__exit__(None, None, None)
    bench.driver.end_kept_mount(layer)


def _target(bench: DriverRig) -> Path:
    return bench.root / "layerstore" / "engine"


def _must_be_read_only(bench: DriverRig, path: Path) -> None:
    if path != _target(bench):
        return  # this user may not mount
    with pytest.raises(OSError, match="Read-only"):
        (path / "forbidden").write_text("x")


def _sealed(bench: DriverRig, layer: str) -> bool:
    answer: Any = bench.driver.seal(layer)
    if not answer:
        bench.note("the driver does not seal: layers that an engine commits are copied")
    return bool(answer)


def _fill(root: Path) -> None:
    (root / "dir").mkdir(mode=0o750)
    (root / "dir/file").write_text("of the base")
    (root / "dir/other").write_text("too")
    (root / "linked").write_text("two names")
    os.link(root / "linked", root / "second-name")
    (root / "replaced").mkdir()
    (root / "replaced/old").write_text("old")


def _write(root: Path, word: str = "w") -> None:
    """Change, delete, replace and add files, whatever the parent has."""
    (root / f"written-{word}").write_text(word)
    (root / "written").write_text(word)
    os.link(root / "written", root / f"twin-{word}")
    if (root / "dir/file").exists():
        (root / "dir/file").write_text(f"changed {word}")
        (root / "dir").chmod(0o700)
    if (root / "dir/other").exists():
        (root / "dir/other").unlink()
    if (root / "linked").exists():
        (root / "linked").unlink()
    if (root / "replaced").is_dir():
        for old in (root / "replaced").iterdir():
            old.unlink()
        (root / "replaced").rmdir()
        if word != "1":
            (root / "replaced").mkdir()
            (root / "replaced/again").write_text(word)
    else:
        (root / "replaced").write_text("a file")
        (root / "replaced").unlink()
        (root / "replaced").mkdir()
    if not (root / "user").exists():
        (root / "user").mkdir(mode=0o711)
    os.setxattr(root / "user", "user.k", word.encode())
