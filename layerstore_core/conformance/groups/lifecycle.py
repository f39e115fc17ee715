"""Group "lifecycle": layers come to be, are mounted, and go."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, ClassVar

import pytest

from layerstore_core.conformance.base import ConformanceTests
from layerstore_core.conformance.rig import Bench
from layerstore_core.conformance.tars import directory, file
from layerstore_core.conformance.trees import must_be, names_of
from layerstore_core.driver.options import context_of
from layerstore_core.errors import ConfigError

_FILES = [directory(b"etc"), file(b"etc/hosts", b"127.0.0.1 localhost\n")]


class LifecycleTests(ConformanceTests):
    """`create`, `create_read_write`, `exists`, `get`, `put` and `remove`, once, twice, and out of order."""

    group: ClassVar = "lifecycle"

    def test_a_new_layer_is_empty(self, bench: Bench) -> None:
        """A base layer that `create` has made exists, and its tree is an empty directory of mode 0755, whatever the umask.

        Otherwise every image has files, or a mode of `/`, that depend on the machine.
        """
        old = os.umask(0o077)
        try:
            layer = bench.new_id()
            bench.driver.create(layer, "", {})
        finally:
            os.umask(old)
        assert bench.driver.exists(layer), "exists says no of a layer that create has made"
        with bench.driver.mounted(layer) as path:
            assert os.listdir(path) == [], "a new base layer is not empty"
            mode = stat.S_IMODE(os.stat(path).st_mode)
            assert mode == 0o755, f"the root of a new base layer has mode {mode:#o}"

    def test_get_gives_an_absolute_path(self, bench: Bench) -> None:
        """`get` returns the absolute path of a directory, as a str.

        Otherwise a process that changes its working directory reads another tree.
        """
        layer = bench.layer(_FILES)
        path: Any = raw_get(bench, layer)
        try:
            assert isinstance(path, str) and os.path.isabs(path), f"get returned {path!r}"
            assert os.path.isdir(path), f"get returned {path!r}, which is no directory"
        finally:
            raw_put(bench, layer)

    def test_a_known_id_is_refused(self, bench: Bench) -> None:
        """A second `create` of an ID raises FileExistsError, and the first layer is as it was.

        Otherwise two layers share one directory, and each destroys the other.
        """
        layer = bench.layer(_FILES)
        before = bench.tree(layer)
        with pytest.raises(FileExistsError):
            bench.driver.create(layer, "", {})
        with pytest.raises(FileExistsError):
            bench.driver.create_read_write(layer, "", "", {})
        assert bench.driver.exists(layer), "the refused create has taken the first layer with it"
        must_be(bench.tree(layer), before, "the layer after a second create of its ID")

    @pytest.mark.parametrize("hook", ["create", "create_read_write"])
    def test_an_unknown_parent_is_refused(self, bench: Bench, hook: str) -> None:
        """A parent that is not there raises FileNotFoundError, and nothing is left: the ID can be used afterwards.

        Otherwise a layer is stored without the files that it stands on.
        """
        layer, parent = bench.new_id(), "0" * 64
        with pytest.raises(FileNotFoundError):
            _create(bench, hook, layer, parent, {})
        _must_be_gone(bench, layer, "a create that has raised")
        _create(bench, hook, layer, "", {})

    @pytest.mark.parametrize("hook", ["create", "create_read_write"])
    def test_an_unknown_storage_option_is_refused(self, bench: Bench, hook: str) -> None:
        """A storage option that the driver does not know raises ConfigError with its name, and nothing is left.

        Otherwise a misspelt limit is no limit, and nobody learns of it.
        """
        layer = bench.new_id()
        with pytest.raises(ConfigError, match="no-such-option"):
            _create(bench, hook, layer, "", {"no-such-option": "1"})
        _must_be_gone(bench, layer, "a create that has raised")

    def test_remove(self, bench: Bench) -> None:
        """After `remove` the layer does not exist, and none of its files is left.

        Otherwise disks fill with layers that nobody can name.
        """
        keep, layer = bench.layer(_FILES), bench.layer([file(b"marker-of-the-removed", b"x")])
        path = bench.driver.get(layer)
        bench.driver.put(layer)
        bench.driver.remove(layer)
        _must_be_gone(bench, layer, "remove")
        assert not os.path.exists(os.path.join(path, "marker-of-the-removed")), "remove has left the layer's files"
        left = [where for where, _, names in os.walk(bench.root) if "marker-of-the-removed" in names]
        assert not left, f"remove has left the layer's files in {left[0]}"
        assert bench.driver.exists(keep), "remove has taken another layer with it"

    def test_remove_of_a_writable_layer(self, bench: Bench) -> None:
        """`remove` deletes a writable layer with what was written into it, and its parent stays as it was.

        Otherwise every container that was ever started still takes its space, or takes its image along.
        """
        parent = bench.layer(_FILES)
        before = bench.tree(parent)
        layer = bench.writable(parent)
        with bench.driver.mounted(layer) as path:
            Path(path, "written").write_text("by a container")
        bench.driver.remove(layer)
        _must_be_gone(bench, layer, "remove")
        must_be(bench.tree(parent), before, "the parent of a removed writable layer")

    def test_remove_of_what_is_not_there(self, bench: Bench) -> None:
        """`remove` of an ID that is not there, or no longer, is no error.

        Otherwise a deletion that was cut short can never be finished.
        """
        layer = bench.layer(_FILES)
        bench.driver.remove(layer)
        bench.driver.remove(layer)
        bench.driver.remove("f" * 64)

    def test_remove_unmounts(self, bench: Bench) -> None:
        """`remove` of a mounted layer takes its mount away, too.

        Otherwise a mount without a layer stays until the machine is started anew.
        """
        parent = bench.layer(_FILES)
        layer = bench.writable(parent)
        raw_get(bench, layer)
        bench.driver.remove(layer)
        _must_be_gone(bench, layer, "remove of a mounted layer")
        assert not bench.mounts(), f"remove has left mounted: {bench.mounts()}"

    def test_an_id_can_be_used_again(self, bench: Bench) -> None:
        """An ID that was removed can be created again, and shows nothing of the former layer.

        Otherwise a registration that is tried again after a failure shows files of the failed try.
        """
        layer = bench.layer(_FILES)
        bench.driver.remove(layer)
        bench.driver.create(layer, "", {})
        assert names_of(bench.tree(layer)) == set(), "files of the removed layer show in the new one"

    def test_unknown_ids(self, bench: Bench) -> None:
        """Of an unknown ID `exists` says no, `get` raises FileNotFoundError, and `put` does nothing; nothing comes to be.

        Otherwise a mistaken ID shows an empty tree, as if the layer had lost its files.
        """
        unknown = "e" * 64
        assert bench.driver.exists(unknown) is False, "exists says yes of an ID that was never made"
        with pytest.raises(FileNotFoundError):
            raw_get(bench, unknown)
        raw_put(bench, unknown)
        assert bench.driver.exists(unknown) is False, "get of an unknown ID has made a layer"
        assert not bench.mounts(), "get of an unknown ID has left a mount"

    @pytest.mark.parametrize("layer_id", ["", "../escape", "a/b", "A", ".", "..", "x" * 129, "a\n"])
    def test_what_is_no_id(self, bench: Bench, layer_id: str) -> None:
        """An ID that cannot be one, such as "" or "..", reaches no driver: `exists` says no, `remove` does nothing, `create` refuses.

        Otherwise one empty string deletes all layers.
        """
        layer = bench.layer(_FILES)
        assert bench.driver.exists(layer_id) is False
        bench.driver.remove(layer_id)
        with pytest.raises(FileNotFoundError):
            bench.driver.get(layer_id)
        with pytest.raises(ValueError, match="ID"):
            bench.driver.create(layer_id, "", {})
        assert bench.driver.exists(layer), "the layer has gone with what is no ID"

    @pytest.mark.parametrize("layer_id", ["a", "0", "c1", "l-", "f" * 128, "d" * 64 + "-init", "init"])
    def test_every_id_can_be_used(self, bench: Bench, layer_id: str) -> None:
        """IDs are 1 to 128 characters of a-z, 0-9 and the hyphen, and each lives the whole life.

        Otherwise a store works for years, until the first layer with an unlucky name.
        """
        bench.layer(_FILES, layer_id=layer_id)
        child = bench.writable(layer_id)
        assert bench.driver.exists(layer_id)
        assert names_of(bench.tree(child)) == {b"etc", b"etc/hosts"}
        bench.driver.remove(child)
        bench.driver.remove(layer_id)
        _must_be_gone(bench, layer_id, "remove")

    def test_one_id_as_the_beginning_of_another(self, bench: Bench) -> None:
        """A layer and its namesake with `-init` are two layers; removing one leaves the other.

        Otherwise a container's own layer goes when its init layer does.
        """
        layer = bench.new_id()
        init = bench.new_id("-init")
        bench.layer([file(b"init")], layer_id=init)
        bench.writable(init, layer_id=layer)
        other = bench.layer([file(b"other")], layer_id=layer + "-other")
        bench.driver.remove(layer)
        assert names_of(bench.tree(init)) == {b"init"}
        assert names_of(bench.tree(other)) == {b"other"}
        bench.driver.remove(other)

    def test_get_of_a_mounted_layer(self, bench: Bench) -> None:
        """`get` of a layer that is found mounted returns its path, and mounts nothing over it; one `put` ends it.

        Otherwise each crash adds a mount that nobody takes away.
        """
        parent = bench.layer(_FILES)
        layer = bench.writable(parent)
        first = raw_get(bench, layer)
        Path(first, "written").write_text("kept")
        assert raw_get(bench, layer) == first, "a second get gives another path"
        assert Path(first, "written").read_text() == "kept"
        raw_put(bench, layer)
        assert not bench.mounts(), f"after put there is still mounted: {bench.mounts()}"

    def test_put_leaves_no_mount(self, bench: Bench) -> None:
        """After the last `put` nothing below the root is mounted, and no file is open; a second `put` is no error.

        Otherwise a long-running service runs out of mounts and descriptors, and directories cannot be deleted.
        """
        parent = bench.layer(_FILES)
        layer = bench.writable(bench.layer([file(b"more")], parent))
        for used in (parent, layer):
            with bench.driver.mounted(used) as path:
                os.listdir(path)
            raw_put(bench, used)
            assert not bench.mounts(), f"after put there is still mounted: {bench.mounts()}"
            assert not bench.open_files(), f"after put there is still open: {bench.open_files()}"

    def test_the_mount_lasts_until_the_last_put(self, bench: Bench) -> None:
        """Of two users of a layer, the first to leave does not take the tree from under the other.

        Otherwise an export fails half way because somebody else has finished.
        """
        layer = bench.writable(bench.layer(_FILES))
        path = bench.driver.get(layer)
        assert bench.driver.get(layer) == path
        bench.driver.put(layer)
        assert sorted(os.listdir(path)) == ["etc"], "the tree went with the first of two users"
        bench.driver.put(layer)

    def test_what_is_written_stays(self, bench: Bench) -> None:
        """What is written into a mounted writable layer is there at its next mount.

        Otherwise a container that is started again has lost its data.
        """
        layer = bench.writable(bench.layer(_FILES))
        with bench.driver.mounted(layer) as path:
            Path(path, "etc/hosts").write_text("changed")
            Path(path, "new").write_text("new")
        with bench.driver.mounted(layer) as path:
            assert Path(path, "etc/hosts").read_text() == "changed"
            assert Path(path, "new").read_text() == "new"

    def test_layer_ids(self, bench: Bench) -> None:
        """`layer_ids`, where the driver has it, tells every layer that it holds, and no other.

        Otherwise garbage collection overlooks what a crash has left, or deletes what is in use.
        """
        if not bench.implements("layer_ids"):
            bench.note("the driver has no layer_ids: what a crash leaves without a record is not found")
            return
        base = bench.layer(_FILES)
        child = bench.layer([file(b"x")], base)
        init = bench.writable(child, layer_id=bench.new_id("-init"))
        top = bench.writable(init)
        wanted = {base, child, init, top}
        assert bench.layer_ids() == wanted
        with bench.driver.mounted(top):
            assert bench.layer_ids() == wanted, "a mount is taken for a layer"
        bench.driver.remove(top)
        assert bench.layer_ids() == wanted - {top}

    def test_cleanup_harms_nothing(self, bench: Bench) -> None:
        """`cleanup` releases what no layer owns; layers and mounts stay as they are.

        Otherwise tidying up in one process takes a container's files from another.
        """
        base = bench.layer(_FILES)
        layer = bench.writable(base)
        path = bench.driver.get(layer)
        Path(path, "written").write_text("kept")
        before = bench.tree(base)
        bench.driver.cleanup()
        bench.driver.cleanup()
        assert Path(path, "written").read_text() == "kept", "cleanup has unmounted a layer in use"
        bench.driver.put(layer)
        assert bench.driver.exists(base) and bench.driver.exists(layer), "cleanup has removed a layer"
        must_be(bench.tree(base), before, "a layer after cleanup")

    def test_it_tells_of_itself(self, bench: Bench) -> None:
        """`status` is a list of pairs and `metadata` a mapping, both of text; `metadata` of an unknown ID raises FileNotFoundError.

        Otherwise `layerstore info` and `show` fail for this driver alone.
        """
        layer = bench.layer(_FILES)
        status: Any = bench.driver.plugins.hook.status()
        assert isinstance(status, list) and all(
            isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(part, str) for part in pair)
            for pair in status
        ), f"status returned {status!r}"
        told: Any = bench.driver.metadata(layer)
        assert all(isinstance(text, str) for pair in told.items() for text in pair), f"metadata returned {told!r}"
        if bench.implements("metadata"):
            with pytest.raises(FileNotFoundError):
                bench.driver.metadata("e" * 64)

    def test_it_keeps_to_its_home(self, bench: Bench) -> None:
        """A driver writes only below its home, `<root>/<driver name>`, and what it has made there is the driver's own.

        Otherwise two drivers, or driver and store, overwrite each other's files.
        """
        bench.driver.put(bench.writable(bench.layer(_FILES)))
        names = set(os.listdir(bench.root)) - {"layerstore"}
        assert names <= {bench.driver.home.name}, f"there is more in the root than the driver's home: {sorted(names)}"

    def test_probe_leaves_nothing(self, bench: Bench, tmp_path: Path) -> None:
        """`probe`, where the driver has it, leaves nothing behind, whatever it says.

        Otherwise listing the installed drivers leaves traces of each of them on the machine.
        """
        probe = getattr(bench.factory, "probe", None)
        if probe is None:
            return
        root = bench.root / "to-probe"
        root.mkdir()
        probe(context_of(bench.factory, bench.name, bench.config(root)))
        left, mounts = os.listdir(root), [path for path in bench.mounts() if path.startswith(str(root))]
        assert not left and not mounts, f"probe has left {left or mounts}"
        root.rmdir()


def raw_get(bench: Bench, layer_id: str, driver: Any = None) -> str:
    """The driver's own `get`, without core's counting."""
    path: str = (driver or bench.driver).plugins.hook.get(layer_id=layer_id, mount_label="")
    return path


def raw_put(bench: Bench, layer_id: str, driver: Any = None) -> None:
    """The driver's own `put`, without core's counting."""
    (driver or bench.driver).plugins.hook.put(layer_id=layer_id)


def _create(bench: Bench, hook: str, layer: str, parent: str, options: dict[str, str]) -> None:
    if hook == "create":
        bench.driver.create(layer, parent, options)
    else:
        bench.driver.create_read_write(layer, parent, "", options)


def _must_be_gone(bench: Bench, layer: str, after: str) -> None:
    assert bench.driver.exists(layer) is False, f"exists says yes after {after}"
    ids = bench.layer_ids()
    assert ids is None or layer not in ids, f"layer_ids still has the layer after {after}"
